"""What a full validation pass costs, as a share of the default run.

python benchmarks/validation.py --rounds 5

The default model on the default corpus, both with lmzoo's defaults, float32 on the CPU.
After a warm-up, a full pass over the validation part through Lightning and the bare
logits and losses of the same batches take turns; the
pass's seconds, brought to a twentieth of the corpus, are divided by the seconds of the
default run.
"""

import argparse
import json
import statistics
import time

import torch
from lightning.pytorch import Trainer

from lmzoo.models.gpt import GPT
from lmzoo.text.datamodule import TextDataModule
from lmzoo.training.checkpoints import versions

DEFAULT_RUN = 300.0  # seconds that `lmzoo fit` trains for unless told otherwise
PART = 0.05  # of the corpus


@torch.no_grad()
def by_hand(model: GPT, data: TextDataModule) -> float:
    """Seconds of logits and their loss alone, in the loader's own batches."""
    model.eval()
    began = time.perf_counter()
    for batch in data.val_dataloader():
        model.loss(model(batch.tokens), batch.targets)
    return time.perf_counter() - began


def by_lightning(trainer: Trainer, model: GPT, data: TextDataModule) -> float:
    """Seconds of the pass that ``fit`` and ``validate`` make, metrics included."""
    began = time.perf_counter()
    trainer.validate(model, datamodule=data, verbose=False)
    return time.perf_counter() - began


def main() -> None:
    """Measure in turns; print one line and JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    data = TextDataModule()
    data.setup("validate")
    model = GPT(data.vocab_size)
    trainer = Trainer(
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    by_lightning(trainer, model, data)
    passes, plain = [], []
    for _ in range(options.rounds):
        passes.append(by_lightning(trainer, model, data))
        plain.append(by_hand(model, data))
    splits = data.describe()["splits"]
    whole = sum(part["tokens"] for part in splits.values())
    tokens = splits["val"]["tokens"]
    seconds = statistics.median(passes)
    share = seconds * (PART * whole / tokens) / DEFAULT_RUN
    ratio = statistics.median(a / b for a, b in zip(passes, plain, strict=True))
    print(
        f"{tokens:,} tokens ({tokens / whole:.1%} of the corpus) in {seconds:.2f} s, "
        f"{tokens / seconds:,.0f} tokens/s, {ratio:.2f} x logits and loss by hand; a "
        f"pass over {PART:.0%} of the corpus is {share:.2%} of a run of "
        f"{DEFAULT_RUN:.0f} s"
    )
    print(json.dumps({"threads": torch.get_num_threads(), **versions()}))


if __name__ == "__main__":
    main()
