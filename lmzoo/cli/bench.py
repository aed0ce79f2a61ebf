"""``lmzoo bench``: time against sequence length, for several models at once."""

import contextlib
import json as to_json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from lmzoo.cli.command import call
from lmzoo.compare.values import amount
from lmzoo.errors import UsageError
from lmzoo.files import write_atomically
from lmzoo.registry import models as zoo

if TYPE_CHECKING:
    from lmzoo.compare.timing import Member, Timing

HEADINGS = {"forward": "forward", "backward": "forward + backward"}  # of the passes
MORE = "see lmzoo bench --help"


def run(argv: list[str]) -> int:
    """Time the models; 2 for a mistake."""
    return call("bench", bench, argv)


def bench(
    *,
    models: str = "bare,mlp,conv,gpt,gru",
    lengths: str = "1,2,4,8,16",
    base: int = 16,
    batch: int = 8,
    rounds: int = 7,
    vocab_size: int = 65,
    match__params: str = "",
    threads: int | None = None,
    json: bool = False,
    plot: str = "",
) -> int:
    """Time models against the length of a sequence; fit how the time grows.

    Args:
        models: names of the zoo, with commas between.
        lengths: multiples of --base, with commas between.
        base: tokens of the shortest sequence.
        batch: sequences in a pass, the same at every length.
        rounds: times that each pass is timed, all models in turn.
        vocab_size: tokens, V.
        match__params: size every model to so many parameters (800k) at the shortest
            length, to within 2 %; unless given, each is timed at its default size.
        threads: of every pass; as many as torch takes unless given.
        json: print JSON for programs.
        plot: an SVG file to draw the times into.
    """
    # torch is for the work, and not for the help
    from lmzoo.compare.timing import measure

    # as above
    from lmzoo.compare.timing_plot import draw

    names = _names(models)
    tokens = _lengths(lengths, base)
    file = _file(plot)
    params = int(amount("match.params", match__params)) if match__params else None
    members = dict(_member(name, params, vocab_size, tokens[0]) for name in names)
    with _bar(rounds) as told:
        timings = measure(
            members,
            tokens,
            vocab_size=vocab_size,
            batch=batch,
            rounds=rounds,
            threads=threads,
            told=told,
        )
    if file:
        _write(file, draw(timings, _title(timings)))
    if json:
        print(to_json.dumps(_plain(timings), indent=2))
    else:
        show(timings)
        if file:
            print(f"plot: {file}")
    return 0


def show(timings: "dict[str, Timing]") -> None:
    """Print one table a pass, then what they say."""
    # torch is for the work, and not for the help
    from lmzoo.compare.timing import ordering

    console = Console(highlight=False)
    console.print(_title(timings), markup=False)
    for name in HEADINGS:
        console.print()
        console.print(_table(timings, name))
    console.print()
    said = [*_notes(timings), *(ordering(timings, name) for name in HEADINGS)]
    for line in filter(None, said):
        console.print(line, markup=False)


def _title(timings: "dict[str, Timing]") -> str:
    timing = next(iter(timings.values()))
    counts = ", ".join(f"{tokens:,}" for tokens in timing["tokens"])
    sequences = "1 sequence" if timing["batch"] == 1 else f"{timing['batch']} sequences"
    threads = "1 thread" if timing["threads"] == 1 else f"{timing['threads']} threads"
    return f"{sequences} a pass ({counts} tokens), {threads}, fp32 on the CPU"


def _table(timings: "dict[str, Timing]", name: str) -> Table:
    """Medians; their spread and the line's misfit by the largest of each row."""
    suffix = "_forward" if name == "forward" else ""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.title, table.title_justify = f"{HEADINGS[name]}, ms", "left"
    table.title_style = "bold"
    lengths = [f"{n:,}" for n in next(iter(timings.values()))["lengths"]]
    table.add_column("")
    for heading in ("parameters", *lengths, "±", "exponent", "tokens/s"):
        table.add_column(heading, justify="right", no_wrap=True)
    for label, timing in timings.items():
        measured = list(zip(timing[name], timing[f"{name}_spread"], strict=True))
        spread = max(_spread(seconds, quartiles) for seconds, quartiles in measured)
        exponent = timing[f"exponent{suffix}"]
        table.add_row(
            label,
            f"{timing['parameters'][0]:,}",
            *(milliseconds(seconds) for seconds in timing[name]),
            f"{spread:.0%}",
            "" if math.isnan(exponent) else f"{exponent:.2f}",
            f"{timing['tokens'][-1] / timing[name][-1]:,.0f}",
        )
    return table


def _notes(timings: "dict[str, Timing]") -> list[str]:
    # torch is for the work, and not for the help
    from lmzoo.compare.timing import OVERHEAD

    rounds = next(iter(timings.values()))["rounds"]
    lines = [
        f"medians of {rounds} interleaved rounds; ±: half the distance of the "
        f"quartiles, of the length where it is widest; tokens/s at the greatest length",
        f"exponent: slope of log time on log length, fitted where a pass takes "
        f"{OVERHEAD:g} times a pass over one token, and to the three greatest lengths "
        f"in any case; what the line leaves: {_residuals(timings)}",
    ]
    for name in HEADINGS:
        key = "fitted_forward" if name == "forward" else "fitted"
        cut = [
            f"{label} from {timing[key][0]:,}"
            for label, timing in timings.items()
            if len(timing[key]) < len(timing["lengths"])
        ]
        if cut:
            lines.append(f"{HEADINGS[name]}, fitted to fewer: {', '.join(cut)} tokens")
    grown = [
        f"{label} {timing['parameters'][0]:,} to {timing['parameters'][-1]:,}"
        for label, timing in timings.items()
        if timing["parameters"][-1] > timing["parameters"][0]
    ]
    lines.append("parameters: at the shortest length")
    if grown:
        lines[-1] += f"; a table of positions grows with it: {', '.join(grown)}"
    return lines


def _residuals(timings: "dict[str, Timing]") -> str:
    """The largest misfit of each pass."""
    said = []
    for name in HEADINGS:
        key = "residual_forward" if name == "forward" else "residual"
        known = [t[key] for t in timings.values() if not math.isnan(t[key])]
        if known:
            said.append(f"{HEADINGS[name]} at most {max(known):.0%}")
    return ", ".join(said) or "not known"


def milliseconds(seconds: float) -> str:
    """Three significant digits, no exponent."""
    number = seconds * 1e3
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def _spread(median: float, quartiles: list[float]) -> float:
    return (quartiles[1] - quartiles[0]) / 2 / median


def _plain(value: Any) -> Any:
    """``value`` with NaN as null, which JSON has no number for."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _member(
    name: str, params: int | None, vocab_size: int, length: int
) -> "tuple[str, Member]":
    """A label and a model: at its default size, or with ``params`` parameters."""
    # torch is for the work, and not for the help
    from lmzoo.compare.matching import match, unmatched

    if params is None or vocab_size < 1:  # which the measurement refuses
        return name, (name, {})
    if said := unmatched(zoo.load(name), name):
        print(said, file=sys.stderr)
        return f"{name} (not matched)", (name, {})
    sizes = match(name, params, {"context_length": length}, vocab_size)
    return name, (name, sizes)


# ---- what was typed ------------------------------------------------------------------


def _names(typed: str) -> list[str]:
    names = [name.strip() for name in typed.split(",")]
    if "" in names:
        raise UsageError(f"--models {typed!r}: give names with commas between; {MORE}")
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"--models: {name} is given twice")
    return names


def _lengths(typed: str, base: int) -> list[int]:
    if base < 1:
        raise UsageError(f"--base {base}: give 1 token or more")
    try:
        factors = [int(word) for word in typed.split(",")]
    except ValueError:
        factors = []
    if not factors or min(factors) < 1 or factors != sorted(set(factors)):
        raise UsageError(
            f"--lengths {typed!r}: expected increasing multiples of --base, as 1,2,4,8"
        )
    return [factor * base for factor in factors]


def _file(plot: str) -> Path | None:
    if plot and Path(plot).is_dir():
        raise UsageError(f"--plot {plot} is a folder; name a file, as times.svg")
    return Path(plot) if plot else None


def _write(file: Path, figure: str) -> None:
    try:
        write_atomically(file, figure.encode())
    except OSError as error:  # a part of the path is a file
        raise UsageError(f"--plot {file}: {error.strerror or error}") from error


@contextlib.contextmanager
def _bar(rounds: int):
    """A bar on stderr, where a person looks on; nothing in a file or pipe."""
    console = Console(stderr=True)
    with Progress(
        console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("timing", total=rounds)
        yield lambda done: bar.update(task, completed=done)
