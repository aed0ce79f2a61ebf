"""A corpus of a gigabyte, prepared and trained on within a stated memory.

python benchmarks/gigabyte.py --out benchmarks/results/gigabyte.md

The control, a process that reads the text at once, must not keep within the limit. The
command fails with a ``--limit`` that is too small.
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

LINES = 5000  # different ones, drawn anew for each block
LIMIT = 1792  # MiB that the command may take
AT_ONCE = "import pathlib, sys; pathlib.Path(sys.argv[1]).read_text(encoding='utf-8')"
COMMAND = (
    "fit --model gpt --model.d_model 16 --model.num_layers 1 "
    "--model.num_heads 2 --model.context_length 16 --data.batch_size 4 "
    "--samples.length 0 --trainer.max_steps 20 --trainer.accelerator cpu "
    "--data.max_val_tokens 10000"
)


def write(file: Path, size: int) -> None:
    """So many bytes of lines of words, the same each time."""
    draw = random.Random(0)
    letters = "etaoinshrdlu"
    words = [
        "".join(draw.choices(letters, k=draw.randint(1, 9))) for _ in range(20_000)
    ]
    with file.open("w", encoding="ascii") as text:
        while text.tell() < size:
            lines = (" ".join(draw.choices(words, k=12)) for _ in range(LINES))
            text.write("\n".join(lines) + "\n")


@dataclass(frozen=True)
class Measured:
    """What one process took."""

    code: int
    seconds: float
    largest: int  # bytes resident at most
    said: str  # its last line

    def held(self, limit: int) -> bool:
        """Whether it ended well, within so many bytes."""
        return self.code == 0 and self.largest <= limit


def measure(words: list[str], folder: Path) -> Measured:
    """Run Python on ``words``, its cache in ``folder``."""
    began = time.monotonic()
    said = folder / "said"
    with said.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(
            [sys.executable, *words],
            env={**os.environ, "LMZOO_CACHE": str(folder / "cache")},
            stdout=file,
            stderr=subprocess.STDOUT,
        )
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return Measured(
        process.returncode,
        round(time.monotonic() - began, 1),
        usage.ru_maxrss << 10,
        (said.read_text(encoding="utf-8").strip().splitlines() or [""])[-1],
    )


def page(options: argparse.Namespace, size: int, rows: dict[str, Measured]) -> str:
    """The result as Markdown."""
    # not above: what this process holds would count as its children's, by Linux's rule
    from lmzoo.training.checkpoints import versions

    limit = options.limit << 20
    seen = ", ".join(f"{name} {version}" for name, version in versions().items())
    table = "\n".join(
        f"| {name} | {one.seconds} | {one.largest / (1 << 20):,.0f} | "
        f"{'yes' if one.held(limit) else 'no'} |"
        for name, one in rows.items()
    )
    return f"""# A corpus of a gigabyte within stated memory

{size:,} bytes of text, an empty cache. Memory is the most that the process has
resident, its imports and the mapped pages of the store included; the limit is
{options.limit:,} MiB. The control reads the text at once. The machine had
other work.
{seen}.

    python benchmarks/gigabyte.py --gigabytes {options.gigabytes:g} \\
        --limit {options.limit} --folder FOLDER --out benchmarks/results/gigabyte.md

    lmzoo {COMMAND}

| process | seconds | largest MiB | within the limit |
|---|---|---|---|
{table}
"""


def main() -> None:
    """Write the corpus, train on it, say what it took; nothing stays but the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=1.0)
    parser.add_argument("--limit", type=int, default=LIMIT, help="MiB of memory")
    parser.add_argument("--folder", type=Path, help="where there is room for it")
    parser.add_argument("--out", type=Path, help="where to write the page")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as place:
        folder = Path(place)
        text = folder / "large.txt"
        write(text, int(options.gigabytes * (1 << 30)))
        fit = ["-m", "lmzoo", *COMMAND.split(), "--data.path", str(text)]
        fit += ["--trainer.default_root_dir", str(folder / "run")]
        rows = {
            "prepared, and trained for 20 steps": measure(fit, folder),
            "again, from the store": measure([*fit, "--fresh"], folder),
            "read at once (the control)": measure(["-c", AT_ONCE, str(text)], folder),
        }
        size = text.stat().st_size
    shown = page(options, size, rows)
    print(shown)
    *ours, control = rows.values()
    for one in ours:
        if one.code:
            print(f"ended with {one.code}: {one.said}", file=sys.stderr)
    if options.out:
        options.out.write_text(shown, encoding="utf-8")
    limit = options.limit << 20
    held = all(one.held(limit) for one in ours)
    raise SystemExit(not held or control.code != 0 or control.held(limit))


if __name__ == "__main__":
    main()
