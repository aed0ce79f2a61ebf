"""A plain training loop of the size and recipe that nanoGPT publishes for a CPU.

python benchmarks/reference.py --seed 1

Karpathy's README (https://github.com/karpathy/nanoGPT): 4 layers, 4 heads, 128 wide,
context 64, batch 12, no dropout, no biases, tied embeddings, tiny Shakespeare by
characters, the last tenth held out; AdamW with betas 0.9 and 0.99, decay 0.1 on
matrices, clipping at 1, 100 steps of warm-up, half a cosine from 1e-3 to 1e-4 over
2,000 steps; every 250 steps the mean loss of 20 sampled batches of each part. Written
here from those figures, in torch alone, as what anyone would write; nothing of lmzoo is
imported. At the end the held-out text is read once in full, in windows of the context,
each target once. Prints one line of JSON.
"""

import argparse
import json
import math
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STARTED = time.perf_counter()
LAYERS, HEADS, WIDTH, CONTEXT, BATCH = 4, 4, 128, 64, 12
PEAK, LEAST, WARM_UP = 1e-3, 1e-4, 100
EVERY, BATCHES = 250, 20


class Block(nn.Module):
    """Attention and a GELU network, each on a normalised copy of the stream."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.LayerNorm(WIDTH, bias=False)
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        self.mix = nn.Linear(WIDTH, WIDTH, bias=False)
        self.second = nn.LayerNorm(WIDTH, bias=False)
        self.up = nn.Linear(WIDTH, 4 * WIDTH, bias=False)
        self.down = nn.Linear(4 * WIDTH, WIDTH, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        size = (*x.shape[:2], HEADS, WIDTH // HEADS)
        q, k, v = self.qkv(self.first(x)).split(WIDTH, dim=2)
        q, k, v = (part.view(size).transpose(1, 2) for part in (q, k, v))
        seen = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.mix(seen.transpose(1, 2).reshape(x.shape))
        return x + self.down(F.gelu(self.up(self.second(x))))


class Net(nn.Module):
    """Token and position embeddings, blocks, a head tied to the embedding."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, WIDTH)
        self.positions = nn.Embedding(CONTEXT, WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))
        self.norm = nn.LayerNorm(WIDTH, bias=False)
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                last = name.endswith(("mix.weight", "down.weight"))
                std = 0.02 / math.sqrt(2 * LAYERS) if last else 0.02
                nn.init.normal_(parameter, std=std)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T) -> (B, T, V)."""
        h = self.tokens(x) + self.positions(torch.arange(x.shape[1], device=x.device))
        for block in self.blocks:
            h = block(h)
        return F.linear(self.norm(h), self.tokens.weight)


def loss_of(net: Net, x: Tensor, y: Tensor, reduction: str = "mean") -> Tensor:
    """Cross-entropy in nats."""
    return F.cross_entropy(net(x).flatten(0, 1), y.flatten(), reduction=reduction)


def sampled(ids: Tensor) -> tuple[Tensor, Tensor]:
    """A batch of windows at random places, and what follows each token."""
    starts = torch.randint(len(ids) - CONTEXT, (BATCH,)).tolist()
    x = torch.stack([ids[i : i + CONTEXT] for i in starts])
    return x, torch.stack([ids[i + 1 : i + 1 + CONTEXT] for i in starts])


@torch.no_grad()
def estimate(net: Net, ids: Tensor) -> float:
    """Mean loss of a few sampled batches."""
    return sum(loss_of(net, *sampled(ids)).item() for _ in range(BATCHES)) / BATCHES


@torch.no_grad()
def full_pass(net: Net, ids: Tensor) -> float:
    """Nats per token over all of ``ids``: windows side by side, each target once."""
    count, total = len(ids) - 1, 0.0
    whole = count // CONTEXT * CONTEXT
    rows = zip(
        ids[:whole].view(-1, CONTEXT).split(64),
        ids[1 : whole + 1].view(-1, CONTEXT).split(64),
        strict=True,
    )
    for x, y in rows:
        total += loss_of(net, x, y, "sum").item()
    if whole < count:
        total += loss_of(net, ids[None, whole:-1], ids[None, whole + 1 :], "sum").item()
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


def train(net: Net, parts: tuple[Tensor, Tensor], steps: int) -> list[list[float]]:
    """The run; returns [step, seconds since start, sampled nats] of each validation."""
    decayed = [p for p in net.parameters() if p.ndim == 2]
    others = [p for p in net.parameters() if p.ndim < 2]
    optimizer = torch.optim.AdamW(
        [{"params": decayed}, {"params": others, "weight_decay": 0.0}],
        lr=PEAK,
        betas=(0.9, 0.99),
        weight_decay=0.1,
    )
    curve = []
    for step in range(steps + 1):
        for group in optimizer.param_groups:
            group["lr"] = rate(step, steps)
        if step % max(1, EVERY * steps // 2000) == 0:
            estimate(net, parts[0])
            curve.append([step, time.perf_counter() - STARTED, estimate(net, parts[1])])
        if step == steps:
            break
        loss_of(net, *sampled(parts[0])).backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return curve


def main() -> None:
    """Train, read the held-out part in full, print one line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1337)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    *parts, vocabulary = read(options.text)
    net = Net(vocabulary)
    curve = train(net, (parts[0], parts[1]), options.steps)
    trained = time.perf_counter() - STARTED
    result = {
        "parameters": sum(p.numel() for p in net.parameters()),
        "steps": options.steps,
        "seed": options.seed,
        "seconds": trained,
        "sampled": curve[-1][2],
        "nats": full_pass(net, parts[1]),
        "curve": curve,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
