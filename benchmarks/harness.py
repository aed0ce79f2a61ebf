"""An exported gpt in lm-evaluation-harness against lmzoo: the same perplexity.

python benchmarks/harness.py RUN --write

Exports the run (``lmzoo export --to hf``), lets the harness (extra ``bench``) sum
log-likelihoods of held-out windows by its own transformers wrapper, and asks lmzoo the
same of the run. Windows are as long as the context, so both see the same; what the
harness calls the request is token ids, so neither side encodes anything.
"""

import argparse
import math
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from lmzoo import runs
from lmzoo.analysis.texts import text_for
from lmzoo.training.checkpoints import versions

LIMIT = 1e-5  # relative difference of perplexities


def windows(run: runs.Run, number: int) -> list[list[int]]:
    """Held-out token ids, each a context and one token more."""
    data = text_for(run)
    data.setup("validate")
    context, found = run.model.context_length, []
    for batch in data.val_dataloader():
        for row, wanted in zip(batch[0].tolist(), batch[1].tolist(), strict=True):
            if len(row) == context and min(wanted) >= 0:
                found.append([*row, wanted[-1]])
    return found[:: max(1, len(found) // number)][:number]


@torch.inference_mode()
def by_lmzoo(run: runs.Run, rows: list[list[int]]) -> list[float]:
    """Nats of the tokens after the first of each row."""
    found = []
    for row in rows:
        ids = torch.tensor(row)[None]
        logp = run.model.eval()(ids[:, :-1]).float().log_softmax(-1)
        own = logp.gather(-1, ids[:, 1:, None]).double()
        found.append(-float(own.sum()))
    return found


def by_harness(folder: Path, rows: list[list[int]]) -> list[float]:
    """The same by the harness's own wrapper of a transformers model."""
    from lm_eval.models.huggingface import HFLM  # the extra bench

    model = HFLM(str(folder), device="cpu", batch_size=8, dtype="float32")
    asked = [(("", ""), row[:1], row[1:]) for row in rows]
    return [-nats for nats, _ in model._loglikelihood_tokens(asked, disable_tqdm=True)]


def export(run: Path, folder: Path) -> None:
    """What a user types."""
    line = ["export", str(run), "--to", "hf", "--out", str(folder)]
    subprocess.run([sys.executable, "-m", "lmzoo", *line], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--windows", type=int, default=200)
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    loaded = runs.load(given.run)
    rows = windows(loaded, given.windows)
    tokens = sum(len(row) - 1 for row in rows)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "exported"
        export(given.run, folder)
        began = time.perf_counter()
        theirs = by_harness(folder, rows)
        seconds = time.perf_counter() - began
    ours = by_lmzoo(loaded, rows)
    one, other = (math.exp(sum(nats) / tokens) for nats in (ours, theirs))
    apart = abs(one / other - 1)
    shown = report(given.run, loaded, len(rows), tokens, one, other, apart, seconds)
    print(shown)
    if given.write:
        (Path(__file__).parent / "results" / "harness.md").write_text(shown)
    if apart > LIMIT:
        sys.exit(f"the perplexities differ by {apart:.1e}, more than {LIMIT:g}")


def report(run, loaded, number, tokens, one, other, apart, seconds) -> str:
    """The result as Markdown."""
    import lm_eval  # the extra bench

    size = sum(p.numel() for p in loaded.model.parameters())
    seen = ", ".join(f"{name} {version}" for name, version in versions().items())
    stored = loaded.stored
    return f"""# The same perplexity in lm-evaluation-harness

{stored["model"]}, {size:,} parameters, arguments {stored["arguments"]}, step
{loaded.step}; {number} held-out windows of {loaded.model.context_length} tokens,
{tokens:,} predictions. lm_eval {lm_eval.__version__}, {seen}.

    python benchmarks/harness.py {run} --write

| by | perplexity |
|---|---|
| lmzoo | {one:.8f} |
| lm-evaluation-harness, exported model | {other:.8f} |
| relative difference | {apart:.1e} |

The harness took {seconds:.1f} s. The limit is {LIMIT:g}; the run fails above it.
"""


if __name__ == "__main__":
    main()
