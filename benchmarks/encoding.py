"""Speed and memory of preparing text: MB/s and peak resident memory by tokenizer.

    python benchmarks/encoding.py --megabytes 100
    python benchmarks/encoding.py --megabytes 1024 --tokenizers char

The text is the default corpus repeated to the size asked for, which flatters bpe's
cache of words. Each tokenizer runs in a fresh process with an empty cache: counting and
hashing the text, learning the vocabulary, encoding, writing, and verifying what was
written; then once more from the cache; then 10 MB are encoded in memory alone.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def measure(kind: str, path: str) -> dict[str, object]:
    """Prepare one file with an empty cache, in this process."""
    from lmzoo.text.preparation import Settings, prepare  # in the child only: its
    from lmzoo.text.tokenizers import encode_stream  # memory is what is measured

    begin = time.perf_counter()
    prepared = prepare(Settings(path=path, tokenizer=kind))
    seconds = time.perf_counter() - begin
    begin = time.perf_counter()
    prepare(Settings(path=path, tokenizer=kind))
    again = time.perf_counter() - begin
    with open(path, encoding="utf-8") as file:
        sample = file.read(10_000_000)
    pieces = [sample[i : i + (1 << 20)] for i in range(0, len(sample), 1 << 20)]
    begin = time.perf_counter()
    for _ in encode_stream(prepared.tokenizer, pieces):
        pass
    rate = len(sample.encode()) / 1e6 / (time.perf_counter() - begin)
    megabytes = os.path.getsize(path) / 1e6
    return {
        "tokenizer": kind,
        "vocab_size": prepared.tokenizer.vocab_size,
        "tokens": sum(stats.tokens for stats in prepared.stats.values()),
        "megabytes": round(megabytes, 1),
        "seconds": round(seconds, 2),
        "prepared_megabytes_per_second": round(megabytes / seconds, 1),
        "encode_only_megabytes_per_second": round(rate, 1),
        "cached_seconds": round(again, 2),
        "peak_resident_megabytes": round(peak_resident() / 1e6),
    }


def peak_resident() -> int:
    """Bytes, of this process alone: getrusage would count the parent's on Linux."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def generate(path: Path, megabytes: int) -> None:
    """The default corpus, repeated and cut to ``megabytes`` million bytes."""
    from lmzoo.text.corpora import resolve_corpus  # not in the measured children

    text = "".join(p for p in resolve_corpus().pieces() if isinstance(p, str))
    data = text.encode() + b"\n"
    left = megabytes * 1_000_000
    with open(path, "wb") as file:
        while left >= len(data):
            left -= file.write(data)
        file.write(data[:left].decode("utf-8", "ignore").encode())


def main() -> None:
    """Measure each tokenizer in its own process; print a table and JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=100)
    parser.add_argument("--tokenizers", default="char,byte,bpe")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--file", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure, options.file)))
        return
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "text.txt"
        generate(path, options.megabytes)
        for kind in options.tokenizers.split(","):
            cache = {"LMZOO_CACHE": str(Path(folder) / kind)}
            command = [sys.executable, __file__, "--measure", kind, "--file", str(path)]
            done = subprocess.run(
                command, env=os.environ | cache, check=True, capture_output=True
            )
            rows.append(json.loads(done.stdout))
    columns = list(rows[0])
    print("| " + " | ".join(columns) + " |")
    print("|" + " --- |" * len(columns))
    for row in rows:
        print("| " + " | ".join(str(row[column]) for column in columns) + " |")
    machine = {"python": platform.python_version(), "cores": os.cpu_count()}
    print(json.dumps(machine | {"rows": rows}))


if __name__ == "__main__":
    main()
