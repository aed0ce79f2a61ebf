"""Speed and memory of preparing text: MB/s and peak resident memory by tokenizer.

    python benchmarks/encoding.py --megabytes 100
    python benchmarks/encoding.py --megabytes 1024 --tokenizers char
    python benchmarks/encoding.py --against

The last form sets encoding alone, in memory, beside what others do, in turns: for char
a list comprehension over a dictionary (nanoGPT's way), for bpe and word the tokenizers
library alone, on the same merges and words.

The text is the default corpus repeated to the size asked for, which flatters bpe's
cache of words. Each tokenizer runs in a fresh process with an empty cache: counting and
hashing the text, learning the vocabulary, encoding, writing, and verifying what was
written; then once more from the cache; then 10 MB are encoded in memory alone.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


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


def against(megabytes: int, rounds: int, size: int) -> None:
    """Print MB/s of encoding in memory, beside the others': medians and ratios."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "text.txt"
        generate(path, megabytes)
        text = path.read_text(encoding="utf-8")
    print("| tokenizer | lmzoo MB/s | other MB/s | lmzoo : other | other |")
    print("| --- | --- | --- | --- | --- |")
    for kind in ("char", "byte", "bpe", "word"):
        mine, other, name = pair(kind, text, size)
        mine()  # what is looked for once: tables, threads, the fast way
        speeds: list[tuple[float, float]] = []
        for _ in range(rounds):
            one, two = (len(text.encode()) / 1e6 / spent(way) for way in (mine, other))
            speeds.append((one, two))
        ours, theirs = (
            statistics.median(column) for column in zip(*speeds, strict=True)
        )
        each = [one / two for one, two in speeds]
        print(
            f"| {kind} | {ours:,.1f} | {theirs:,.1f} | {statistics.median(each):.2f} "
            f"({min(each):.2f} to {max(each):.2f}) | {name} |",
            flush=True,
        )
    print(json.dumps({"cores": os.cpu_count(), "megabytes": megabytes}))


def pair(kind: str, text: str, size: int) -> tuple[Callable, Callable, str]:
    """How lmzoo encodes ``text``, how another does, and the other's name."""
    import numpy as np
    import tokenizers as hf
    from tokenizers import models, pre_tokenizers

    from lmzoo.text.tokenizers import encode_stream, train_tokenizer

    pieces = [text[i : i + (1 << 20)] for i in range(0, len(text), 1 << 20)]
    given = {"bpe": size, "word": 33_000}.get(kind)
    tokenizer: Any = train_tokenizer(kind, pieces, size=given)

    def mine() -> int:
        return sum(len(ids) for ids in encode_stream(tokenizer, pieces))

    if kind in ("char", "byte"):
        number = {symbol: i for i, symbol in enumerate(sorted(set(text)))}
        way = "list comprehension, np.array"
        return mine, lambda: np.array([number[c] for c in text], np.uint16), way
    if kind == "bpe":
        library = hf.Tokenizer.from_str(tokenizer.state()["tokenizer"])
    else:
        words = {word: i for i, word in enumerate([*tokenizer.known, "<unk>"])}
        library = hf.Tokenizer(models.WordLevel(words, unk_token="<unk>"))
        library.pre_tokenizer = pre_tokenizers.Whitespace()

    def other() -> int:
        os.environ["TOKENIZERS_PARALLELISM"] = "true"
        made = library.encode_batch_fast(
            [text[i : i + (1 << 16)] for i in range(0, len(text), 1 << 16)],
            add_special_tokens=False,
        )
        return sum(len(encoding.ids) for encoding in made)

    return mine, other, "tokenizers"


def spent(way: Callable) -> float:
    """Seconds of one call."""
    began = time.perf_counter()
    way()
    return time.perf_counter() - began


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
    parser.add_argument("--tokenizers", default="char,byte,bpe,word")
    parser.add_argument("--against", action="store_true", help="beside the others")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=int, default=8192, help="of bpe's vocabulary")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--file", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure, options.file)))
        return
    if options.against:
        against(options.megabytes, options.rounds, options.size)
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
