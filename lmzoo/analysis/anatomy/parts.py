"""What a box of an architecture's figure says of one module."""

import re

from torch import nn

from lmzoo.analysis.anatomy.parameters import attention_around, component, is_attention
from lmzoo.analysis.anatomy.trace import Step
from lmzoo.models.base import LanguageModel

TIMES = "\N{MULTIPLICATION SIGN}"
ACTIVATIONS = {"gelu": "GELU", "relu": "ReLU", "silu": "SiLU", "sigmoid": "sigmoid"}


def describe(
    model: LanguageModel, step: Step, module: nn.Module
) -> tuple[str, str, list[str]]:
    """Kind, title and lines of the box of one module."""
    leaf = step.name.rpartition(".")[2]
    if isinstance(module, nn.Embedding):
        name = component(model, f"{step.name}.weight")
        rows, width = module.weight.shape
        return "embedding", name.capitalize(), [f"{rows:,} {TIMES} {width:,}"]
    if type(module).__name__.endswith("Norm"):
        words = type(module).__name__.removesuffix("Norm")
        return "norm", f"{words} norm".strip(), []
    if is_attention(leaf, module):
        return "attention", *_attention(module)
    if isinstance(module, nn.Conv1d):
        return "convolution", "Convolution", _convolution(model, step.name, module)
    if isinstance(module, nn.Linear):
        head = component(model, f"{step.name}.weight") == "head"
        width = f"{module.in_features:,} → {module.out_features:,}"
        return ("head", "Head", [width]) if head else ("mlp", "Linear", [width])
    if not any(True for _ in module.parameters()):
        return "operation", type(module).__name__, []
    chain = _chain(module)
    title = "Feed-forward" if isinstance(module, nn.Sequential) else ""
    return "mlp" if chain else "other", title or type(module).__name__, chain


def _attention(module: nn.Module) -> tuple[str, list[str]]:
    titles = {True: "Causal self-attention", False: "Self-attention, no mask"}
    causal = getattr(module, "causal", None)
    title = titles[causal] if isinstance(causal, bool) else "Attention"
    heads = getattr(module, "num_heads", None)
    lines = []
    if isinstance(heads, int):
        outputs = [m for m in module.modules() if isinstance(m, nn.Linear)][-1:]
        width = outputs[0].in_features // heads if outputs else None
        size = f" {TIMES} {width:,}" if width else ""
        lines.append(f"{heads:,} head{'s' if heads > 1 else ''}{size}")
    return title, lines


def _convolution(model: LanguageModel, name: str, module: nn.Conv1d) -> list[str]:
    """Its kernel, and the dilation in every block of the stack it is in."""
    alike = [module]
    if place := re.fullmatch(r"(.*?)\.0\.(.*)", name):
        path = re.compile(rf"{re.escape(place[1])}\.\d+\.{re.escape(place[2])}")
        named = model.named_modules()
        found = [m for other, m in named if path.fullmatch(other)]
        alike = [m for m in found if isinstance(m, nn.Conv1d)]
    dilations = [one.dilation[0] for one in alike]
    steps = [str(n) for n in dilations]
    if len(steps) > 6:
        steps = [*steps[:4], "…", steps[-1]]
    width = f"{module.in_channels:,} → {module.out_channels:,}"
    return [
        f"{width}, kernel {module.kernel_size[0]}",
        f"dilation {', '.join(steps)}",
    ]


def _chain(module: nn.Module) -> list[str]:
    """The widths that a feed-forward part goes through, and its activation."""
    maps = [m for m in module.modules() if isinstance(m, nn.Linear)]
    if not maps or any(attention_around(module, n) for n, _ in module.named_modules()):
        return []
    widths = [maps[0].in_features, *(m.out_features for m in maps)]
    names = [type(m).__name__ for m in module.modules()]
    used = [name for name in names if name.lower() in ACTIVATIONS]
    return [", ".join([" → ".join(f"{w:,}" for w in widths[:5]), *used[:1]])]
