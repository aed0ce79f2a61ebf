"""A plain training loop of the sizes and recipes that nanoGPT publishes.

python benchmarks/reference.py --text input.txt --seed 1
python benchmarks/reference.py --text input.txt --seed 1 --size gpu --device cuda \
--precision bf16 --compile

Karpathy's README (https://github.com/karpathy/nanoGPT), for a CPU: 4 layers, 4 heads,
128 wide, context 64, batch 12, no dropout, 2,000 steps, every 250 the mean loss of 20
sampled batches of each part. For a GPU: 6 layers, 6 heads, 384 wide, context 256, batch
64, dropout 0.2, 5,000 steps, 200 sampled batches; it publishes 1.4697 as the least.
Both: no biases, tied embeddings, tiny Shakespeare by characters, the last tenth held
out; AdamW with betas 0.9 and 0.99, decay 0.1 on matrices, clipping at 1, 100 steps of
warm-up, half a cosine from 1e-3 to 1e-4. Written here from those figures, in torch
alone, as what anyone would write; nothing of lmzoo is imported. At the end the held-out
text is read once in full, in windows of the context, each target once. Prints one line
of JSON. The GPU's size also keeps the weights of its least sampled loss, as nanoGPT
does, and reads the text with those too.
"""

import argparse
import json
import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from plain_gpt import SIZES, Net, Size
from torch import Tensor, nn

STARTED = time.perf_counter()
PEAK, LEAST, WARM_UP = 1e-3, 1e-4, 100
EVERY = 250  # steps between validations, of a run in full length


@dataclass(frozen=True)
class Machine:
    """Where to compute, and whether products are bfloat16."""

    device: torch.device
    bf16: bool = False

    def autocast(self) -> torch.autocast:
        """Around every forward pass."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)

    def moved(self, batch: Tensor) -> Tensor:
        """On the device; a GPU fetches it beside its work."""
        if self.device.type == "cuda":
            batch = batch.pin_memory()
        return batch.to(self.device, non_blocking=True)

    def seconds(self) -> float:
        """Since the start, once the device has done what it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - STARTED


def loss_of(net: Any, on: Machine, x: Tensor, y: Tensor, how: str = "mean") -> Tensor:
    """Cross-entropy in nats."""
    with on.autocast():
        logits = net(on.moved(x)).flatten(0, 1)
    return F.cross_entropy(logits.float(), on.moved(y).flatten(), reduction=how)


def sampled(ids: Tensor, size: Size) -> tuple[Tensor, Tensor]:
    """A batch of windows at random places, and what follows each token."""
    width = size.context
    starts = torch.randint(len(ids) - width, (size.batch,)).tolist()
    x = torch.stack([ids[i : i + width] for i in starts])
    return x, torch.stack([ids[i + 1 : i + 1 + width] for i in starts])


@torch.no_grad()
def estimate(net: Any, ids: Tensor, size: Size, on: Machine) -> float:
    """Mean loss of sampled batches, without dropout."""
    net.eval()
    losses = (loss_of(net, on, *sampled(ids, size)) for _ in range(size.batches))
    mean = sum(loss.item() for loss in losses) / size.batches
    net.train()
    return mean


@torch.no_grad()
def full_pass(net: nn.Module, ids: Tensor, size: Size, on: Machine) -> float:
    """Nats per token over all of ``ids``: windows side by side, each target once."""
    net.eval()
    count, total = len(ids) - 1, 0.0
    whole = count // size.context * size.context
    rows = zip(
        ids[:whole].view(-1, size.context).split(64),
        ids[1 : whole + 1].view(-1, size.context).split(64),
        strict=True,
    )
    for x, y in rows:
        total += loss_of(net, on, x, y, "sum").item()
    if whole < count:
        x, y = ids[None, whole:-1], ids[None, whole + 1 :]
        total += loss_of(net, on, x, y, "sum").item()
    return total / count


def rate(step: int, steps: int) -> float:
    """Warm-up, then half a cosine from the peak to the least."""
    warm = min(WARM_UP, steps // 2)
    if step < warm:
        return PEAK * (step + 1) / (warm + 1)
    share = (step - warm) / max(1, steps - warm)
    return LEAST + 0.5 * (1 + math.cos(math.pi * share)) * (PEAK - LEAST)


def read(path: Path) -> tuple[Tensor, Tensor, int]:
    """Ids of the first nine tenths and of the rest, and the number of symbols."""
    text = path.read_text(encoding="utf-8")
    number = {symbol: i for i, symbol in enumerate(sorted(set(text)))}
    ids = torch.tensor([number[symbol] for symbol in text])
    cut = int(0.9 * len(ids))
    return ids[:cut], ids[cut:], len(number)


@dataclass
class Course:
    """What a run leaves behind, beside its last weights."""

    curve: list[list[float]] = field(default_factory=list)  # step, seconds, sampled
    speeds: list[float] = field(default_factory=list)  # tokens/s between validations
    kept: dict[str, Tensor] = field(default_factory=dict)  # weights of the least

    def least(self) -> list[float]:
        """The validation of the least sampled loss."""
        return min(self.curve, key=lambda row: row[2])


def optimizer_of(net: nn.Module, on: Machine) -> torch.optim.Optimizer:
    """AdamW, decaying matrices alone; the rate is set in every step."""
    decayed = [p for p in net.parameters() if p.ndim == 2]
    others = [p for p in net.parameters() if p.ndim < 2]
    return torch.optim.AdamW(
        [{"params": decayed}, {"params": others, "weight_decay": 0.0}],
        lr=PEAK,
        betas=(0.9, 0.99),
        weight_decay=0.1,
        fused=True if on.device.type == "cuda" else None,
    )


def update(
    run: Any, optimizer: torch.optim.Optimizer, ids: Tensor, size: Size, on: Machine
) -> None:
    """One step of the optimizer, on a batch from random places."""
    loss_of(run, on, *sampled(ids, size)).backward()
    nn.utils.clip_grad_norm_(run.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def train(
    net: Net,
    run: Any,
    parts: tuple[Tensor, Tensor],
    steps: int,
    size: Size,
    on: Machine,
) -> Course:
    """The run, ``run`` being the network, compiled or not."""
    optimizer = optimizer_of(net, on)
    course, done, since = Course(), 0, 0.0
    for step in range(steps + 1):
        for group in optimizer.param_groups:
            group["lr"] = rate(step, steps)
        if step % max(1, EVERY * steps // size.steps) == 0:
            if step:
                tokens = (step - done) * size.batch * size.context
                course.speeds.append(tokens / (on.seconds() - since))
            estimate(run, parts[0], size, on)
            nats = estimate(run, parts[1], size, on)
            course.curve.append([step, on.seconds(), nats])
            if size.keep and nats == course.least()[2]:
                state = net.state_dict()
                course.kept = {name: value.clone() for name, value in state.items()}
            done, since = step, on.seconds()
        if step == steps:
            break
        update(run, optimizer, parts[0], size, on)
    return course


def main() -> None:
    """Train, read the held-out part in full, print one line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--size", choices=SIZES, default="cpu")
    parser.add_argument("--steps", type=int, help="default: as published")
    parser.add_argument("--seed", type=int, default=1337)
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1 ...")
    parser.add_argument("--precision", choices=["float32", "bf16"], default="float32")
    parser.add_argument("--compile", action="store_true")
    options = parser.parse_args()
    size = SIZES[options.size]
    on = Machine(torch.device(options.device), options.precision == "bf16")
    steps = options.steps or size.steps
    torch.manual_seed(options.seed)
    *parts, vocabulary = read(options.text)
    net = Net(vocabulary, size).to(on.device)
    run = torch.compile(net) if options.compile else net
    course = train(net, run, (parts[0], parts[1]), steps, size, on)
    trained = on.seconds()
    result = {
        "parameters": sum(p.numel() for p in net.parameters()),
        "steps": steps,
        "seed": options.seed,
        "seconds": trained,
        "sampled": course.curve[-1][2],
        "nats": full_pass(net, parts[1], size, on),
        "curve": course.curve,
        "speeds": course.speeds,
    }
    if course.kept:
        net.load_state_dict(course.kept)
        step, _, least = course.least()
        nats = full_pass(net, parts[1], size, on)
        result |= {"least": {"step": step, "sampled": least, "nats": nats}}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
