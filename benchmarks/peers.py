"""How fast does lmzoo train beside litgpt and transformers, at one size?

OMP_NUM_THREADS=2 python benchmarks/peers.py --rounds 5 --steps 150

GPT-2's form: 4 layers, 4 heads, 128 wide, context 64, batch 12, characters of the
default corpus, float32, two threads of a CPU, nothing compiled. All: fused AdamW of one
setting, clipping at 1, a cosine after the same warm-up. The first steps are left out.
All but the hand-written loop log every 20 steps.

- ``lmzoo`` and ``hand``: the two of ``overhead.py``, every callback and logger of
  ``lmzoo fit``, and the leanest loop.
- ``litgpt``: its ``GPT`` in its own loop, ``litgpt.pretrain.fit``, set up as
  ``litgpt.pretrain.main`` does, which would compile the model besides. It has no
  learned positions: the nearest is its default, a quarter of each head rotated; hence
  fewer parameters.
- ``transformers``: ``GPT2LMHeadModel``, its head untied as in the others, in a
  ``Trainer`` that saves and reports nothing; with the GELU of its configuration, which
  is written out in several operations, and with torch's own, which the others have.

Both peers read windows of the same text through torch's loader, as their users would.
"""

import argparse
import contextlib
import json
import statistics
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import overhead
import torch
from lightning.fabric import Fabric
from torch import Tensor
from torch.utils.data import DataLoader
from turns import rounds_of

from lmzoo.text.datamodule import TextDataModule
from lmzoo.training.checkpoints import versions

# Every release of litgpt wants older ones of what lmzoo needs (0.5.13: jsonargparse up
# to 4.41, huggingface-hub below 1.4), so the extra cannot name it. What it imports
# comes with lmzoo and the extra; its model and its loop run with those releases.
INSTALL = "pip install -c constraints.txt -e '.[bench]'"
try:
    import accelerate  # noqa: F401  transformers.Trainer needs it
    import transformers
    from litgpt import GPT, Config, pretrain
    from litgpt.args import EvalArgs, TrainArgs
    from litgpt.utils import choose_logger
except ImportError as error:
    line = f"{error}: {INSTALL} && pip install --no-deps litgpt==0.5.13"
    print(line, file=sys.stderr)
    sys.exit(2)

THREADS, LOG_EVERY = 2, 20
CONTEXT, BATCH, OWN = overhead.SIZES["small"]
NAMES = {"num_layers": "n_layer", "num_heads": "n_head", "d_model": "n_embd"}
SHAPE = {NAMES[name]: size for name, size in OWN.items()}  # litgpt's and transformers'
ADAMW = overhead.OPTIMIZER["init_args"]


def warm_up(steps: int) -> int:
    """Steps of warm-up that lmzoo's schedule takes by default."""
    return min(60, steps // 5)


def windows(data: TextDataModule) -> Tensor:
    """The training part one window after the other, (N, T + 1)."""
    ids = torch.from_numpy(data.train_tokens.astype("int64"))
    return ids.unfold(0, CONTEXT + 1, CONTEXT)


class Asked:
    """The batches of a loader, and when each but the first was asked for."""

    def __init__(self, loader: Any) -> None:
        self.loader, self.times = loader, []

    def __iter__(self) -> Iterator[Tensor]:
        for batch in self.loader:
            yield batch
            self.times.append(overhead.CLOCK())


def litgpt_model(data: TextDataModule) -> GPT:
    """GPT of litgpt, as near to GPT-2 as its options go."""
    vocabulary = {"vocab_size": data.vocab_size, "padded_vocab_size": data.vocab_size}
    form = {"parallel_residual": False, "gelu_approximate": "tanh"}
    return GPT(Config(block_size=CONTEXT, **SHAPE, **vocabulary, **form))


def by_litgpt(data: TextDataModule, steps: int) -> list[float]:
    """Seconds of each step of litgpt's pretraining loop."""
    with tempfile.TemporaryDirectory() as folder:
        logger = choose_logger("tensorboard", Path(folder), name="peers")
        fabric = Fabric(accelerator="cpu", devices=1, loggers=[logger])
        fabric.seed_everything(0)
        net = litgpt_model(data)
        pretrain.initialize_weights(fabric, net, SHAPE["n_layer"], SHAPE["n_embd"])
        net = fabric.setup(net)
        optimizer = fabric.setup_optimizers(
            torch.optim.AdamW(net.parameters(), **ADAMW)
        )
        loader = DataLoader(windows(data), batch_size=BATCH, shuffle=True)
        asked = Asked(fabric.setup_dataloaders(loader))
        state = {"model": net, "optimizer": optimizer, "iter_num": 0, "step_count": 0}
        pretrain.fit(
            fabric=fabric,
            devices=1,
            state=state,
            train_dataloader=asked,
            val_dataloader=[next(iter(loader))],  # it tries one before it starts
            out_dir=Path(folder),
            tokenizer_dir=None,
            train=TrainArgs(
                save_interval=None,
                log_interval=LOG_EVERY,
                global_batch_size=BATCH,
                micro_batch_size=BATCH,
                lr_warmup_steps=warm_up(steps),
                max_tokens=steps * BATCH * CONTEXT,
                max_norm=1.0,
                min_lr=0.01 * ADAMW["lr"],
            ),
            eval=EvalArgs(interval=steps + 1, final_validation=False),
        )
        logger.finalize("success")
    return overhead.gaps(asked.times)


class Ends(transformers.TrainerCallback):
    """When each step of a ``transformers.Trainer`` ended."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """After the optimizer's step, before a line of log."""
        self.times.append(overhead.CLOCK())


def transformers_model(data: TextDataModule, **form: Any) -> Any:
    """GPT-2 of transformers, without dropout."""
    form |= dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
    form |= dict.fromkeys(("bos_token_id", "eos_token_id"))  # its own are beyond V
    form |= {"vocab_size": data.vocab_size, "tie_word_embeddings": False}
    config = transformers.GPT2Config(n_positions=CONTEXT, **SHAPE, **form)
    return transformers.GPT2LMHeadModel(config)


def labelled(rows: list[Tensor]) -> dict[str, Tensor]:
    """A batch as transformers wants it: its model shifts the labels itself."""
    ids = torch.stack(rows)[:, :-1]
    return {"input_ids": ids, "labels": ids}


def by_transformers(data: TextDataModule, steps: int, **form: Any) -> list[float]:
    """Seconds of each step of ``transformers.Trainer``."""
    ends = Ends()
    with tempfile.TemporaryDirectory() as folder:
        arguments = transformers.TrainingArguments(
            output_dir=folder,
            max_steps=steps,
            per_device_train_batch_size=BATCH,
            optim="adamw_torch_fused",
            learning_rate=ADAMW["lr"],
            adam_beta1=ADAMW["betas"][0],
            adam_beta2=ADAMW["betas"][1],
            weight_decay=ADAMW["weight_decay"],
            max_grad_norm=1.0,
            lr_scheduler_type="cosine",
            warmup_steps=warm_up(steps),
            logging_steps=LOG_EVERY,
            save_strategy="no",
            report_to="none",
            use_cpu=True,
            seed=0,
        )
        transformers.Trainer(
            model=transformers_model(data, **form),
            args=arguments,
            train_dataset=windows(data),
            data_collator=labelled,
            callbacks=[ends],
        ).train()
    return overhead.gaps(ends.times)


GELU = "gelu_pytorch_tanh"
CONTENDERS: dict[str, tuple[Any, Any, dict[str, Any]]] = {  # loop, model, its options
    "lmzoo": (overhead.by_lmzoo, overhead.model, {"size": "small"}),
    "hand": (overhead.by_hand, overhead.model, {"size": "small"}),
    "litgpt": (by_litgpt, litgpt_model, {}),
    "transformers": (by_transformers, transformers_model, {}),
    "transformers, torch's GELU": (
        by_transformers,
        transformers_model,
        {"activation_function": GELU},
    ),
}
HEAD = """\
| contender | parameters | p10, ms | median, ms | tokens/s, p10 / median \
| its time over lmzoo's, p10 / median |
|---|---|---|---|---|---|"""


def measured(name: str, data: TextDataModule, steps: int) -> dict[str, float]:
    """One turn of a contender; what it says goes to stderr."""
    train, _, form = CONTENDERS[name]
    with contextlib.redirect_stdout(sys.stderr):
        times = train(data, steps, **form)
    return overhead.figures(times)


def line_of(name: str, rounds: list[dict[str, Any]], data: TextDataModule) -> str:
    """A row: medians over the rounds, and of each round's own ratio to lmzoo."""
    _, build, form = CONTENDERS[name]
    parameters = sum(p.numel() for p in build(data, **form).parameters())
    times, ratios = [], []
    for which in ("p10_ms", "median_ms"):
        pairs = [(row[name][which], row["lmzoo"][which]) for row in rounds]
        times.append(statistics.median(own for own, _ in pairs))
        ratios.append(statistics.median(own / lmzoo for own, lmzoo in pairs))
    cells = [name, f"{parameters:,}", *(f"{ms:.2f}" for ms in times)]
    cells.append(" / ".join(f"{BATCH * CONTEXT / ms * 1e3:,.0f}" for ms in times))
    cells.append(" / ".join(f"{ratio:.3f}" for ratio in ratios))
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Rounds in turns, every other one in reversed order."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--only", choices=CONTENDERS, help="one of them, alone")
    options = parser.parse_args()
    torch.set_num_threads(THREADS)
    data = TextDataModule(context_length=CONTEXT, batch_size=BATCH)
    if options.only:
        print(json.dumps(measured(options.only, data, options.steps)))
        return
    rounds = rounds_of(__file__, list(CONTENDERS), options.rounds, sys.argv[1:])
    print("\n".join([HEAD, *(line_of(name, rounds, data) for name in CONTENDERS)]))
    peers = {name: version(name) for name in ("litgpt", "transformers", "accelerate")}
    print(json.dumps({"threads": torch.get_num_threads(), **versions(), **peers}))


if __name__ == "__main__":
    main()
