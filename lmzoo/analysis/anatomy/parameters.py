"""Where the parameters of a model are, and what they cost in memory and arithmetic.

Everything is read from shapes, so a model built on the meta device, which holds no
numbers, is counted as well as a real one:

    model = on_meta(GPT, GPT.preset_arguments("gpt2-xl"))
    count(model).parameters  # 1,557,611,200
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lmzoo.models.base import LanguageModel

BYTES = {"fp32": 4, "bf16": 2}  # of one number
COMPONENTS = (
    "token embedding",
    "position embedding",
    "attention q",
    "attention k",
    "attention v",
    "attention o",
    "MLP",
    "recurrent",
    "convolution",
    "norms",
    "head",
)
FUSED = re.compile(r"c_attn|in_proj\w*|w?qkv\w*|query_key_value|to_qkv")
ROLES = {
    "q": re.compile(r"(to_|w)?q(uery)?(_?(proj|lin|weight)\w*)?"),
    "k": re.compile(r"(to_|w)?k(ey)?(_?(proj|lin|weight)\w*)?"),
    "v": re.compile(r"(to_|w)?v(alue)?(_?(proj|lin|weight)\w*)?"),
    "o": re.compile(r"(to_|w)?o(ut(put)?)?(_?(proj|lin)\w*)?|(c_)?proj(ect)?|dense"),
}
RECURRENT = (nn.RNNBase, nn.RNNCellBase)
CONVOLUTION = (nn.Conv1d, nn.Conv2d)


@dataclass
class Component:
    """One row of the table.

    Attributes:
        name: one of ``COMPONENTS``, or "other: " and where the parameters stand.
        parameters: numbers, those counted in an earlier row left out.
        trainable: those of them that receive a gradient.
        shared: numbers used here and counted in an earlier row.
        shared_with: names of these rows.
    """

    name: str
    parameters: int = 0
    trainable: int = 0
    shared: int = 0
    shared_with: str = ""


@dataclass
class StateSize:
    """Memory of a decoding state at the full context, for one sequence.

    Attributes:
        numbers: floating-point numbers (keys and values, h, c).
        other_bytes: token ids and the like, whose size no precision changes.
    """

    numbers: int
    other_bytes: int

    def bytes(self, dtype: str = "fp32") -> int:
        """Bytes where every floating-point number is a ``dtype``."""
        return self.numbers * BYTES[dtype] + self.other_bytes


@dataclass
class ParameterTable:
    """What ``count`` found.

    Attributes:
        rows: components that have parameters of their own or share some.
        length: tokens T of the texts that the FLOPs are counted for.
        training_flops: FLOPs per token, forward and backward, of the products with
            weights and of attention; every parameter trained; None: the model does not
            say.
        state: None where ``advance`` cannot run on the meta device.
        buffer_bytes: what a checkpoint holds beside parameters (tables of counts).
    """

    rows: list[Component]
    length: int
    training_flops: int | None
    state: StateSize | None
    buffer_bytes: int

    @property
    def parameters(self) -> int:
        """All numbers, shared ones once."""
        return sum(row.parameters for row in self.rows)

    @property
    def trainable(self) -> int:
        """Those that receive a gradient."""
        return sum(row.trainable for row in self.rows)

    @property
    def inference_flops(self) -> int | None:
        """FLOPs per token of the forward pass: backward is two of them."""
        return None if self.training_flops is None else self.training_flops // 3

    @property
    def optimizer_bytes(self) -> int:
        """AdamW in float32: two running means for each trainable parameter."""
        return 2 * BYTES["fp32"] * self.trainable

    def bytes(self, dtype: str = "fp32") -> int:
        """Memory of the parameters."""
        return self.parameters * BYTES[dtype]

    def share(self, row: Component) -> float:
        """Percent of all parameters."""
        return 100 * row.parameters / self.parameters if self.parameters else 0.0


def count(model: LanguageModel, length: int | None = None) -> ParameterTable:
    """Count a model by component.

    A parameter's component follows from the type of the module that owns it, and where
    that leaves it open (a linear map), from names: what stands inside an attention is
    its q, k, v or o (a fused matrix is divided), the last linear map onto the
    vocabulary is the head, every other one belongs to an MLP.

    Args:
        model: on any device; the meta device is enough.
        length: tokens of a text for the FLOPs per token; None: ``context_length``.
    """
    length = length or model.context_length
    rows = {name: Component(name) for name in COMPONENTS}
    last = last_map(model)
    first: dict[int, str] = {}  # id of a parameter -> the row that counts it
    for path, parameter in model.named_parameters(remove_duplicate=False):
        parts = _parts(model, path, parameter, last)
        for name, numbers in parts.items():
            row = rows.setdefault(name, Component(name))
            if id(parameter) in first:
                row.shared += numbers
                row.shared_with = first[id(parameter)]
            else:
                row.parameters += numbers
                row.trainable += numbers * parameter.requires_grad
        first.setdefault(id(parameter), next(iter(parts)))
    saved = model.state_dict()
    buffers = [b for name, b in model.named_buffers() if name in saved]
    return ParameterTable(
        rows=[row for row in rows.values() if row.parameters or row.shared],
        length=length,
        training_flops=model.flops_per_token(length),
        state=state_size(model),
        buffer_bytes=sum(buffer.nbytes for buffer in buffers),
    )


def on_meta(cls: type[LanguageModel], arguments: dict[str, Any]) -> LanguageModel:
    """A model of shapes without numbers: built at once, however large it is."""
    with torch.device("meta"):
        return cls(**arguments).eval()


def state_size(model: LanguageModel) -> StateSize | None:
    """Size of the state that ``advance`` returns after a full context, one sequence.

    Measured on a copy without numbers; None where the model cannot run on it, or is no
    language model and has none.
    """
    if not isinstance(model, LanguageModel):
        return None
    if type(model).advance is LanguageModel.advance:  # the tokens of the window
        return StateSize(0, model.context_length * torch.long.itemsize)
    twin = on_meta(type(model), model.arguments)
    tokens = torch.zeros(1, model.context_length, dtype=torch.long, device="meta")
    try:
        with torch.no_grad():
            _, state = twin.advance(tokens)
    except Exception:  # a plugin may look at numbers that are not there, in any way
        return None
    tensors = list(_tensors(state))
    floating = [tensor for tensor in tensors if tensor.is_floating_point()]
    others = sum(t.nbytes for t in tensors if not t.is_floating_point())
    return StateSize(sum(tensor.numel() for tensor in floating), others)


# ---- which component a parameter belongs to ------------------------------------------


def _parts(
    model: LanguageModel, path: str, parameter: Tensor, last: nn.Module | None
) -> dict[str, int]:
    """Component -> numbers of one parameter; several where q, k and v are fused."""
    where, _, name = path.rpartition(".")
    module, leaf = model.get_submodule(where), where.rpartition(".")[2]
    numbers = parameter.numel()
    if isinstance(module, nn.Embedding):
        position = re.search(r"pos(ition)?|wpe", leaf)
        return {"position embedding" if position else "token embedding": numbers}
    if type(module).__name__.endswith("Norm"):
        return {"norms": numbers}
    if isinstance(module, RECURRENT):
        return {"recurrent": numbers}
    if isinstance(module, CONVOLUTION):
        return {"convolution": numbers}
    if attention := attention_around(model, where):
        return _attention_parts(attention, module, name, leaf, numbers)
    if leaf in ("head", "lm_head") or module is last:
        return {"head": numbers}
    if isinstance(module, nn.Linear) or re.search(r"mlp|feed_?forward", where, re.I):
        return {"MLP": numbers}
    return {f"other: {where or name}": numbers}


def component(model: LanguageModel, path: str) -> str:
    """The component of the parameter at ``path``; of a fused matrix, the first."""
    parameter = model.get_parameter(path)
    return next(iter(_parts(model, path, parameter, last_map(model))))


def _attention_parts(
    attention: nn.Module, module: nn.Module, name: str, leaf: str, numbers: int
) -> dict[str, int]:
    own = module is attention  # nn.MultiheadAttention owns its fused matrix itself
    key = name if own else leaf
    if FUSED.fullmatch(key):
        outputs = getattr(module, "out_features", None) or 3
        inner = [m for m in attention.modules() if isinstance(m, nn.Linear)]
        widths = [m.in_features for m in inner if m is not module]
        # keys and values may have fewer heads than queries; the output has as many
        queries = widths[-1] if widths and outputs > widths[-1] else outputs // 3
        q = numbers * queries // outputs
        k = (numbers - q) // 2
        return {"attention q": q, "attention k": k, "attention v": numbers - q - k}
    for role, pattern in ROLES.items():
        if pattern.fullmatch(key.lower()):
            return {f"attention {role}": numbers}
    return {f"other: {type(attention).__name__}.{key}": numbers}


def attention_around(model: nn.Module, path: str) -> nn.Module | None:
    """The outermost module on the way to ``path`` that is an attention."""
    names = path.split(".") if path else []
    for end in range(1, len(names) + 1):
        module = model.get_submodule(".".join(names[:end]))
        if is_attention(names[end - 1], module):
            return module
    return None


def is_attention(name: str, module: nn.Module) -> bool:
    """Whether a module's own name or its class's says that it is an attention."""
    known = re.search(r"attention|attn", f"{name} {type(module).__name__}", re.I)
    return bool(known) and not type(module).__name__.endswith("Norm")


def last_map(model: LanguageModel) -> nn.Module | None:
    """The last linear map of a model, where it leads onto the vocabulary."""
    maps = [m for m in model.modules() if isinstance(m, nn.Linear)]
    return maps[-1] if maps and maps[-1].out_features == model.vocab_size else None


def _tensors(nest: Any) -> Iterator[Tensor]:
    if isinstance(nest, Tensor):
        yield nest
    elif isinstance(nest, dict):
        nest = list(nest.values())
    if isinstance(nest, list | tuple):
        for part in nest:
            yield from _tensors(part)
