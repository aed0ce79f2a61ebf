"""``lmzoo generate``: continue a text with a run, the tokens shown as they are made."""

import contextlib
import sys
import time
from dataclasses import asdict
from json import dumps
from typing import TYPE_CHECKING, Any, Literal

from lmzoo.cli import given
from lmzoo.cli.command import call
from lmzoo.errors import UsageError

if TYPE_CHECKING:
    from lmzoo.analysis.memorised import Memorised
    from lmzoo.generation import Continuation
    from lmzoo.runs import Run

LONGEST_PROMPT = 1 << 24  # characters
Precision = Literal[
    "32-true", "bf16-mixed", "bf16-true", "16-mixed", "16-true", "64-true"
]
TRUE = {  # precision -> torch's name of what the weights are kept in
    "16-true": "float16",
    "bf16-true": "bfloat16",
    "32-true": "float32",
    "64-true": "float64",
}
MIXED = {"16-mixed": "float16", "bf16-mixed": "bfloat16"}


def run(argv: list[str]) -> int:
    """Print continuations of a prompt; returns the exit code."""
    return call("generate", generate, argv)


def generate(
    run: str,
    *,
    prompt: str = "",
    prompt_file: str = "",
    num_samples: int = 1,
    max_new_tokens: int = 200,
    temperature: float = 0.8,
    top_k: int = 0,
    top_p: float = 1.0,
    repetition_penalty: float = 1.0,
    stop: str = "",
    seed: int = 42,
    cache: bool = True,
    device: str = "auto",
    precision: Precision = "32-true",
    variability: bool = False,
    probe: Literal["", "memorised"] = "",
    probe_text: str = "",
    json: bool = False,
) -> int:
    r"""Continue a text with a trained model, token by token.

    Args:
        run: run folder, checkpoint file, or folder of an exported model
        prompt: text to continue; without one the model begins a text of its own
        prompt_file: read the prompt from this UTF-8 file, or with - from standard
            input; its last line break belongs to it
        num_samples: continuations; the seed of each is one more than that before it
        max_new_tokens: length of each in tokens, at most
        temperature: 0 takes the likeliest token, 1 samples the model's distribution
        top_k: sample among the k likeliest tokens; 0 among all
        top_p: sample among the likeliest tokens that hold this probability
        repetition_penalty: above 1 makes tokens of the text so far less likely
        stop: end a sample before this string; \n is a line break, \t a tab
        seed: same seed, same text
        cache: keep the decoding state; false computes every token anew, for the same
        device: auto (a GPU if there is one), cpu, cuda, cuda:N or mps
        precision: as in fit
        variability: measure how the samples differ, and what they copied from the
            training text
        probe: memorised continues prefixes of the training text instead, and counts
            how often it goes on exactly as the text does
        probe_text: where the training text is now; by default where it was
        json: print one JSON object, on one line, and no text
    """
    # torch is for the work, and not for the help
    import torch

    # as above
    from lmzoo import runs

    # as above
    from lmzoo.analysis.memorised import memorised_by

    # as above
    from lmzoo.analysis.variability import variability as measure

    # as above
    from lmzoo.generation import continue_text

    settings: dict[str, Any] = {
        "num_samples": num_samples,
        "max_new_tokens": max_new_tokens,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "repetition_penalty": repetition_penalty,
        "stop": stop.replace("\\n", "\n").replace("\\t", "\t") or None,
        "seed": seed,
        "cache": cache,
    }
    _check_probe(probe, probe_text, [prompt, prompt_file, stop, num_samples > 1])
    place = _place(device, precision)
    loaded = runs.load(run)
    options = ("--prompt", "--prompt_file")
    begun = given.text_or_file(prompt, prompt_file, options, LONGEST_PROMPT)
    dtype = getattr(torch, TRUE[precision]) if precision in TRUE else None
    model = loaded.model.to(device=place, dtype=dtype)
    if probe:
        with _mixed(place, precision):
            return _show(memorised_by(loaded, probe_text or None, seed=seed), json)
    spans = runs.read_spans(run) if variability else None
    made = continue_text(model, loaded.tokenizer, begun, **settings)
    for note in made.notes:
        print(f"note: {note}", file=sys.stderr)
    with _mixed(place, precision):
        seconds = _silently(made) if json else _aloud(made, begun)
    total = sum(len(sample.tokens) for sample in made.samples)
    speed = {"tokens": total, "seconds": seconds, "tokens_per_second": total / seconds}
    texts = [sample.text for sample in made.samples]
    spread = measure(texts, spans) if variability else None
    if json:
        settings |= {"device": place, "precision": precision}
        extra = {"variability": spread.plain()} if spread else {}
        print(dumps(_report(loaded, made, begun, settings) | speed | extra))
        return 0
    if spread:
        print(f"\n{spread}")
    if sys.stdout.isatty():
        print(f"{total:,} tokens, {total / seconds:,.0f} a second", file=sys.stderr)
    return 0


def _check_probe(probe: str, text: str, others: list[Any]) -> None:
    """Refuse options that would not be read."""
    if text and not probe:
        raise UsageError("--probe_text is read by --probe memorised alone")
    if probe and any(others):
        raise UsageError(
            f"--probe {probe} makes its own prompts: leave out --prompt, "
            f"--prompt_file, --stop and --num_samples"
        )


def _show(result: "Memorised", json: bool) -> int:
    print(dumps(result.plain()) if json else result)
    return 0


def _aloud(made: "Continuation", prompt: str) -> float:
    """Print the first sample while it is made, then the others; seconds of making."""
    with contextlib.suppress(AttributeError):  # a terminal that lacks a character
        sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
    started = time.perf_counter()
    _say(_heading(made, 0) + prompt)
    for number, piece in made:
        if number == 0:
            _say(piece)
    seconds = time.perf_counter() - started
    _say("\n")
    for number in range(1, len(made.samples)):
        text = made.samples[number].text
        _say(f"\n{_heading(made, number)}{prompt}{text}\n")
    return seconds


def _silently(made: "Continuation") -> float:
    started = time.perf_counter()
    for _ in made:
        pass
    return time.perf_counter() - started


def _heading(made: "Continuation", number: int) -> str:
    """A line above each sample, if there are several."""
    count, seed = len(made.samples), made.samples[number].seed
    return f"--- sample {number + 1} of {count}, seed {seed}\n" if count > 1 else ""


def _say(text: str) -> None:
    print(text, end="", flush=True)


def _report(
    loaded: "Run", made: "Continuation", prompt: str, settings: dict[str, Any]
) -> dict[str, Any]:
    return {
        "checkpoint": str(loaded.path),
        "model": loaded.stored["model"],
        "step": loaded.step,
        "settings": settings,
        "prompt": prompt,
        "prompt_tokens": made.prompt,
        "notes": made.notes,
        "samples": [asdict(sample) for sample in made.samples],
    }


def _place(name: str, precision: str) -> str:
    """The device's name, once it is known to compute in that precision."""
    place = given.device(name).type
    if (place, precision) == ("cpu", "16-mixed"):
        raise UsageError(
            "--precision 16-mixed needs a GPU; on a CPU give bf16-mixed or 32-true"
        )
    return place


def _mixed(place: str, precision: str) -> contextlib.AbstractContextManager[Any]:
    if precision not in MIXED:
        return contextlib.nullcontext()
    # torch is for the work, and not for the help
    import torch

    return torch.autocast(place, getattr(torch, MIXED[precision]))
