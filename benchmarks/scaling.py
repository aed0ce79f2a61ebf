"""What several processes cost: measured on this machine, projected on paper to more.

OMP_NUM_THREADS=1 python benchmarks/scaling.py --path input.txt --write

Measured: seconds per token and bytes handed to collective operations in a training step
of gpt in 1, 2 and 4 processes (torchrun, gloo), weights copied (ddp) and sharded
(fsdp2); what activation checkpointing saves. Bytes are counted where the operations are
called, not computed. Projected: the arithmetic of docs/scaling.md for gpt2 and palm-8b,
every assumption an option: the defaults are an H100's and their sources stand there.
``--projection`` prints that alone.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lmzoo.compare.surroundings import commit, machine
from lmzoo.models.gpt import GPT
from lmzoo.models.palm import PaLM
from lmzoo.training.activation_checkpointing import recompute_blocks, recomputed_flops
from lmzoo.training.checkpoints import versions

RESULT = Path(__file__).parent / "results" / "scaling.md"
CONTENDERS = [(1, "auto"), (2, "ddp"), (2, "fsdp2"), (4, "ddp"), (4, "fsdp2")]
WARM = 3  # steps before the first that counts
BYTES = 4  # of a weight, a gradient, each of Adam's two moments: all float32
GATHERED = 3  # blocks in flight: two with whole weights, one with whole gradients
PER_BLOCK = 34  # bytes per token and width that a block keeps (Korthikanti et al. 2022)
PER_LOGIT = 14, 18  # bytes: see docs/scaling.md


# ---- measured ------------------------------------------------------------------------


class Traffic(TorchDispatchMode):
    """Counts the tensors handed to collective operations: the larger of in and out."""

    def __init__(self) -> None:
        super().__init__()
        self.payload: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Note what is handed over, then hand it over."""
        space, _, name = func.name().partition("::")
        result = func(*args, **(kwargs or {}))
        if "c10d" in space and "wait" not in name:
            given = [*args, result] if "functional" in space else args
            sizes = [
                sum(t.nbytes for t in tree_leaves(one) if isinstance(t, torch.Tensor))
                for one in given
            ]
            self.payload[name.strip("_")] += max(sizes)
        return result


class Watch(Callback):
    """Seconds and traffic of each training step."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.payload: list[Counter[str]] = []

    def on_train_batch_start(self, *_: Any) -> None:
        """Begin to count."""
        self._traffic = Traffic()
        self._traffic.__enter__()
        self._since = time.perf_counter()

    def on_train_batch_end(self, *_: Any) -> None:
        """The optimizer's step is done."""
        self.seconds.append(time.perf_counter() - self._since)
        self._traffic.__exit__(None, None, None)
        self.payload.append(self._traffic.payload)


def small(given: argparse.Namespace, vocab_size: int) -> GPT:
    """The measured model."""
    torch.manual_seed(0)
    sizes = {"num_layers": given.layers, "num_heads": 4, "d_model": given.width}
    return GPT(vocab_size, given.context, **sizes)


def work(given: argparse.Namespace) -> None:
    """One process among ``WORLD_SIZE``; the first prints its figures as JSON."""
    from lmzoo.text.datamodule import TextDataModule
    from lmzoo.training.sharded import FullySharded

    sizes = {"context_length": given.context, "batch_size": given.batch}
    data = TextDataModule(path=given.path, val_fraction=0, test_fraction=0, **sizes)
    model, watch = small(given, data.vocab_size), Watch()
    if given.again:
        recompute_blocks(model)
    parameters = sum(p.numel() for p in model.parameters())
    trainer = Trainer(
        accelerator="cpu",
        devices=int(os.environ.get("WORLD_SIZE", "1")),
        strategy=FullySharded() if given.work == "fsdp2" else given.work,
        max_steps=WARM + given.steps,
        callbacks=[watch],
        gradient_clip_val=1.0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    trainer.fit(model, data)
    if trainer.is_global_zero:
        tokens = given.batch * given.context
        seconds = statistics.median(watch.seconds[WARM:])
        told = {"us": 1e6 * seconds / tokens, "payload": dict(watch.payload[-1])}
        print("\n" + json.dumps({**told, "parameters": parameters}))


def measure(
    given: argparse.Namespace, processes: int, how: str, *more: str
) -> dict[str, Any]:
    """What ``work`` says, in processes of its own."""
    launcher = ["-m", "torch.distributed.run", "--standalone"]
    launcher += ["--nproc_per_node", str(processes)]
    line = [*launcher, __file__, "--work", how, *more]
    for name in ("path", "steps", "layers", "width", "context", "batch"):
        line += [f"--{name}", str(getattr(given, name))]
    if processes == 1:
        line = line[len(launcher) :]
    done = subprocess.run(
        [sys.executable, *line], capture_output=True, text=True, check=False
    )
    rows = [row for row in done.stdout.splitlines() if row.startswith("{")]
    if not rows:
        raise SystemExit(f"{' '.join(line)}\n{done.stderr[-3000:]}")
    return json.loads(rows[-1])


def kept(given: argparse.Namespace, again: bool) -> int:
    """Bytes that a forward pass keeps for the backward pass, weights apart."""
    model, stored = small(given, 65), {}
    if again:
        recompute_blocks(model)
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            stored[storage.data_ptr()] = storage.nbytes()
        alive.append(tensor)  # so that no two share an address
        return tensor

    alive: list[torch.Tensor] = []
    tokens = torch.zeros(given.batch, given.context, dtype=torch.long)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        model.loss(model(tokens), tokens)
    return sum(stored.values())


def measured(given: argparse.Namespace) -> str:
    """Both tables of what was measured."""
    rounds: dict[tuple[int, str], list[dict[str, Any]]] = {c: [] for c in CONTENDERS}
    for _ in range(given.rounds):
        for contender, found in rounds.items():
            if contender[0] <= given.processes:
                found.append(measure(given, *contender))
    rows = [
        "| processes | strategy | us per token | against one process | "
        "payload of a step, bytes | of the weights' bytes |",
        "|---|---|---|---|---|---|",
    ]
    alone = [row["us"] for row in rounds[CONTENDERS[0]]]
    for (processes, how), found in rounds.items():
        if not found:
            continue
        ratios = [a / row["us"] for a, row in zip(alone, found, strict=True)]
        sent = found[-1]["payload"]
        said = ", ".join(f"{name} {size:,}" for name, size in sent.items()) or "none"
        share = sum(sent.values()) / (BYTES * found[-1]["parameters"])
        us = statistics.median(row["us"] for row in found)
        rows.append(
            f"| {processes} | {how} | {us:.2f} | {statistics.median(ratios):.2f} x "
            f"({min(ratios):.2f} to {max(ratios):.2f}) | {said} | {share:.3f} |"
        )
    plain, again = (
        [measure(given, 1, "auto", *more)["us"] for _ in range(given.rounds)]
        for more in ((), ("--again",))
    )
    ratio = statistics.median(b / a for a, b in zip(plain, again, strict=True))
    rows += [
        "",
        "| activation checkpointing | bytes kept for backward | time of a step |",
        "|---|---|---|",
        f"| no | {kept(given, False):,} | 1 |",
        f"| yes | {kept(given, True):,} | {ratio:.2f} |",
    ]
    return "\n".join(rows)


# ---- projected -----------------------------------------------------------------------


@dataclass
class Job:
    """A model trained on paper."""

    name: str
    parameters: int
    outside: int  # of them, in no block: embeddings, the last norm, the head
    blocks: int
    width: int
    vocab_size: int
    flops_per_token: int  # of the model, forward and backward
    again_per_token: int  # FLOPs that activation checkpointing spends twice
    context: int
    windows: int  # of a GPU in a step
    sharded: bool  # fsdp2; else ddp
    checkpointing: bool  # blocks run a second time

    @property
    def tokens(self) -> int:
        """Of a GPU in a step."""
        return self.windows * self.context


def job(name: str, model: GPT | PaLM, windows: int, sharded: bool) -> Job:
    """Sizes and costs from the model's own closed forms; sharded: checkpointing too."""
    if sharded:
        recompute_blocks(model)
    blocks = model.stack()
    inside = sum(p.numel() for block in blocks for p in block.parameters())
    size = sum(p.numel() for p in model.parameters())
    context = model.context_length
    return Job(
        name=name,
        parameters=size,
        outside=size - inside,
        blocks=len(blocks),
        width=model.token_embedding.embedding_dim,
        vocab_size=model.vocab_size,
        flops_per_token=model.flops_per_token(context),
        again_per_token=recomputed_flops(model, context),
        context=context,
        windows=windows,
        sharded=sharded,
        checkpointing=sharded,
    )


def jobs(given: argparse.Namespace) -> list[Job]:
    """The two models, built without numbers."""
    with torch.device("meta"):
        gpt2, palm = GPT.from_preset("gpt2"), PaLM.from_preset("palm-8b")
    return [
        job("gpt2", gpt2, given.gpt2_windows, False),
        job("palm-8b", palm, given.palm_windows, True),
    ]


def memory(job: Job, gpus: int) -> dict[str, tuple[float, float]]:
    """Bytes that one GPU holds at most, at least and at most of the estimate.

    See docs/scaling.md for what is counted; nothing here was measured.
    """
    state = 4 * BYTES * job.parameters / (gpus if job.sharded else 1)
    per_block = BYTES * (job.parameters - job.outside) / job.blocks
    if job.sharded and gpus > 1:
        whole = 2 * BYTES * job.outside + GATHERED * per_block
    else:  # ddp copies the gradients into buckets of its own
        whole = BYTES * job.parameters if gpus > 1 else 0.0
    inside = job.tokens * job.width * PER_BLOCK  # of one block
    inputs = job.tokens * job.width * BYTES * job.blocks
    kept = inputs + inside if job.checkpointing else job.blocks * inside
    logits = [job.tokens * job.vocab_size * each for each in PER_LOGIT]
    found = {
        "state": (state, state),
        "whole": (whole, whole),
        "activations": (kept, kept),
        "logits": (logits[0], logits[1]),
    }
    return found | {
        "sum": (
            sum(least for least, _ in found.values()),
            sum(most for _, most in found.values()),
        )
    }


def seconds(job: Job, gpus: int, given: argparse.Namespace) -> tuple[float, float]:
    """Computing and communicating, of one step."""
    flops = job.tokens * (job.flops_per_token + job.again_per_token)
    compute = flops / (given.peak * given.utilisation)
    link = given.node_link if gpus <= given.per_node else given.network
    return compute, communicated(job, gpus) / link


def communicated(job: Job, gpus: int) -> float:
    """Bytes that each GPU sends in a step, in a ring."""
    return (gpus - 1) / gpus * BYTES * job.parameters * (3 if job.sharded else 2)


def project(job: Job, gpus: int, given: argparse.Namespace) -> list[str]:
    """One row: the arithmetic of docs/scaling.md."""
    compute, communication = seconds(job, gpus, given)
    least, most = max(compute, communication), compute + communication
    peak = job.tokens * job.flops_per_token / given.peak
    rates = [gpus * job.tokens / time for time in (most, least)]
    held = memory(job, gpus)
    return [
        job.name,
        f"{gpus}",
        "fsdp2" if job.sharded else "ddp",
        f"{gpus * job.tokens:,}",
        *(_range(*(size / 1e9 for size in sizes), ".1f") for sizes in held.values()),
        f"{compute * 1e3:,.0f}",
        f"{communicated(job, gpus) / 1e9:.2f}",
        f"{communication * 1e3:,.0f}",
        _range(*rates, ",.0f"),
        _range(peak / most, peak / least, ".0%"),
        _range(compute / most, compute / least, ".0%"),
    ]


def _range(least: float, most: float, form: str) -> str:
    one, other = f"{least:{form}}", f"{most:{form}}"
    return one if one == other else f"{one} to {other}"


HEADS = (
    "model",
    "GPUs",
    "strategy",
    "tokens a step",
    "state, GB",
    "gathered or copied, GB",
    "activations, GB",
    "logits, GB",
    "sum a GPU, GB",
    "compute, ms",
    "sent by a GPU, GB",
    "communication, ms",
    "tokens/s",
    "MFU",
    "scaling efficiency",
)


def projected(given: argparse.Namespace) -> str:
    """The table of the projection."""
    rows = [f"| {' | '.join(HEADS)} |", "|" + "---|" * len(HEADS)]
    for job in jobs(given):
        for gpus in given.gpus:
            rows.append(f"| {' | '.join(project(job, gpus, given))} |")
    return "\n".join(rows)


PAGE = """\
# Several processes

{about}

    OMP_NUM_THREADS=1 python benchmarks/scaling.py --path FILE --steps {steps} \
--rounds {rounds} --write

One machine, one thread to a process, load average {before:.1f} before: more processes
than cores only show that it works. gpt {layers} layers, {width} wide, {batch} windows
of {context} tokens over all processes; medians of {rounds} rounds of {steps} steps.

{measured}

The payload is what one process hands to collective operations in a step. Of it, a ring
of n sends 2 (n - 1) / n for an all-reduce, (n - 1) / n for the others.

Projected, see docs/scaling.md:

{projected}
"""


def options() -> argparse.ArgumentParser:
    """The command line; what a projection assumes is all there."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--path", help="the text")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--processes", type=int, default=4, help="at most")
    for name, default in (("layers", 4), ("width", 128), ("context", 64)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--batch", type=int, default=16, help="windows, over all")
    parser.add_argument("--peak", type=float, default=989e12, help="FLOP/s of a GPU")
    parser.add_argument("--utilisation", type=float, default=0.4, help="of the peak")
    parser.add_argument("--node_link", type=float, default=450e9, help="bytes/s out")
    parser.add_argument("--network", type=float, default=50e9, help="bytes/s of a GPU")
    parser.add_argument("--per_node", type=int, default=8, help="GPUs")
    parser.add_argument("--gpus", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--gpt2_windows", type=int, default=32, help="of a GPU")
    parser.add_argument("--palm_windows", type=int, default=4, help="of a GPU")
    parser.add_argument("--projection", action="store_true", help="nothing measured")
    parser.add_argument("--write", action="store_true", help="the page in results/")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    parser.add_argument("--again", action="store_true", help=argparse.SUPPRESS)
    return parser


def main() -> None:
    """Measure, project, print and write."""
    parser = options()
    given = parser.parse_args()
    if given.work:
        work(given)
        return
    if given.projection:
        print(projected(given))
        return
    if not given.path:
        parser.error("--path: give a text")
    before = os.getloadavg()[0]
    about = ", ".join(f"{name} {value}" for name, value in machine().items())
    seen = ", ".join(f"{name} {version}" for name, version in versions().items())
    page = PAGE.format(
        about=f"Tree {commit()}, {seen}. {about}",
        before=before,
        measured=measured(given),
        projected=projected(given),
        **{name: value for name, value in vars(given).items() if name != "path"},
    )
    print(page)
    if given.write:
        RESULT.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
