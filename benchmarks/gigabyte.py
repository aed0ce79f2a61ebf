"""A corpus of a gigabyte, prepared and trained on within a stated memory.

python benchmarks/gigabyte.py --gigabytes 1 --folder /tmp/gigabyte
"""

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import time
from pathlib import Path

from lmzoo.training.checkpoints import versions

LINES = 5000  # different ones, drawn anew for each block
LIMIT = 2 << 30  # bytes of memory that the command may take, its imports included
COMMAND = (
    "-m lmzoo fit --model gpt --model.d_model 16 --model.num_layers 1 "
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


def measure(text: Path, folder: Path, limit: int) -> dict[str, float]:
    """``lmzoo fit`` on it under a limit of address space; seconds and memory."""
    words = [*COMMAND.split(), "--data.path", str(text)]
    words += ["--trainer.default_root_dir", str(folder / f"run-{limit}")]
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, *words],
        env={**os.environ, "LMZOO_CACHE": str(folder / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "code": done.returncode,
        "seconds": round(time.monotonic() - began, 1),
        "largest_bytes": usage.ru_maxrss << 10,
        "said": (done.stderr.strip().splitlines() or [""])[-1],
    }


def main() -> None:
    """Write the corpus, train on it, say what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=1.0)
    parser.add_argument("--folder", type=Path, required=True)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    text = options.folder / "large.txt"
    size = int(options.gigabytes * (1 << 30))
    if not text.exists() or text.stat().st_size < size:
        write(text, size)
    found = measure(text, options.folder, LIMIT)
    held = found["code"] == 0 and found["largest_bytes"] <= LIMIT
    result = {
        "bytes_of_text": text.stat().st_size,
        "limit_bytes": LIMIT,
        "held": held,
        **found,
        "control": "reading the text at once takes its size alone: "
        f"{text.stat().st_size:,} bytes and more",
        "versions": versions(),
    }
    print(json.dumps(result, indent=1))
    raise SystemExit(not held)


if __name__ == "__main__":
    main()
