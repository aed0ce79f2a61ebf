"""What a model does with its input, step by step, as one pass through it shows.

The pass runs on the meta device: shapes, no numbers. Each call of a sub-module is a
step, and so are the few operations that a picture of an architecture needs: additions
(residual streams), activations, windows and concatenations.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from lmzoo.analysis.anatomy.parameters import on_meta
from lmzoo.models.base import LanguageModel

BATCH = 2
ACTIVATIONS = ("gelu", "relu", "silu", "tanh", "sigmoid")
PASSING = (nn.Dropout, nn.Identity)  # nothing happens in them when not training


@dataclass
class Step:
    """One call.

    Attributes:
        kind: "module", "add", "concatenate", "window" or "activation".
        name: path of the module, or name of the function.
        module: the module that was called.
        shape: of what came out, in letters and numbers: ("B", "T", 128).
        sources: the steps whose outputs went in; None stands for the tokens.
        inside: steps within the module's own forward.
        result: the last of ``inside`` that led to the output, if there was one.
    """

    kind: str
    name: str
    module: nn.Module | None = None
    shape: tuple[str | int, ...] = ()
    sources: list["Step | None"] = field(default_factory=list)
    inside: list["Step"] = field(default_factory=list)
    result: "Step | None" = None


def trace(model: LanguageModel) -> list[Step]:
    """The steps of ``model.forward``; empty where it cannot run without numbers."""
    twin = on_meta(type(model), model.arguments)
    length = _telling_length(twin)
    tokens = torch.zeros(BATCH, length, dtype=torch.long, device="meta")
    recorder = _Recorder(tokens, length)
    handles = [
        handle
        for name, module in twin.named_modules()
        if module is not twin and not isinstance(module, nn.ModuleList)
        for handle in recorder.watch(name, module)
    ]
    try:
        with torch.no_grad(), recorder:
            twin(tokens)
    except Exception:  # a plugin may look at numbers that are not there, in any way
        return []
    finally:
        for handle in handles:
            handle.remove()
    return recorder.steps


def _telling_length(model: LanguageModel) -> int:
    """The longest text whose length is no size of the model, so that T is known."""
    sizes = {size for p in model.parameters() for size in p.shape}
    lengths = range(model.context_length, 0, -1)
    return next((n for n in lengths if n not in sizes), model.context_length)


class _Recorder(TorchFunctionMode):
    """Notes module calls by hooks and functions by torch's function mode."""

    def __init__(self, tokens: Tensor, length: int) -> None:
        super().__init__()
        self.steps: list[Step] = []
        self._open: list[Step] = []
        self._length = length
        self._origin: dict[int, Step | None] = {id(tokens): None}
        self._kept: list[Any] = [tokens]  # an id must not come back

    def watch(self, name: str, module: nn.Module) -> list[Any]:
        """Hooks on one module."""

        def before(module: nn.Module, args: Any, kwargs: Any) -> None:
            sources = self._sources([*args, *kwargs.values()])
            self._open.append(Step("module", name, module, sources=sources))

        def after(module: nn.Module, args: Any, output: Any) -> None:
            step, tensor = self._open.pop(), _first_tensor(output)
            if tensor is None:
                return
            if isinstance(module, PASSING):
                self._note(tensor, step.sources[0] if step.sources else None)
                return
            step.result = self._origin.get(id(tensor))
            self._add(step, tensor)

        return [
            module.register_forward_pre_hook(before, with_kwargs=True),
            module.register_forward_hook(after),
        ]

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Run a function, and see what it was."""
        result = func(*args, **(kwargs or {}))
        tensor = _first_tensor(result)
        if tensor is None or (self._open and _is_leaf(self._open[-1].module)):
            return result
        sources = self._sources(list(args))
        step = _step(func, args, kwargs or {}, tensor, sources)
        if step is not None:
            self._add(step, tensor)
        elif sources and id(tensor) not in self._origin:
            self._note(tensor, sources[-1])
        return result

    def _add(self, step: Step, tensor: Tensor) -> None:
        step.shape = self._letters(tensor)
        (self._open[-1].inside if self._open else self.steps).append(step)
        self._note(tensor, step)

    def _note(self, tensor: Tensor, step: Step | None) -> None:
        self._origin[id(tensor)] = step
        self._kept.append(tensor)

    def _sources(self, values: list[Any]) -> list[Step | None]:
        found: list[Step | None] = []
        for value in values:
            parts = value if isinstance(value, list | tuple) else [value]
            for part in parts:
                if isinstance(part, Tensor) and id(part) in self._origin:
                    origin = self._origin[id(part)]
                    if all(origin is not other for other in found):
                        found.append(origin)
        return found

    def _letters(self, tensor: Tensor) -> tuple[str | int, ...]:
        letters: list[str | int] = ["B"] if tensor.shape[:1] == (BATCH,) else []
        rest = list(tensor.shape)[len(letters) :]
        for size in rest:
            known = size == self._length and "T" not in letters
            letters.append("T" if known else size)
        return tuple(letters)


def _step(
    func: Callable[..., Any],
    args: Any,
    kwargs: dict[str, Any],
    tensor: Tensor,
    sources: list[Step | None],
) -> Step | None:
    """The step that a function is, if a picture needs it."""
    name = getattr(func, "__name__", "").strip("_")
    if name in ("add", "radd", "iadd") and len(sources) == 2:
        return Step("add", "add", sources=sources)
    if name in ACTIVATIONS:
        return Step("activation", name, sources=sources)
    if name == "unfold":
        return Step("window", f"last {args[2]} positions", sources=sources)
    dim = kwargs.get("dim", args[1] if len(args) > 1 else 0)
    if name in ("cat", "concat") and dim in (-1, tensor.ndim - 1):
        return Step("concatenate", "side by side", sources=sources)
    return None


def _is_leaf(module: nn.Module | None) -> bool:
    """A module of torch's own, whose inside is not the model's affair."""
    containers = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
    own = type(module).__module__.startswith("torch.nn.modules")
    return own and not isinstance(module, containers)


def _first_tensor(value: Any) -> Tensor | None:
    if isinstance(value, Tensor):
        return value
    if isinstance(value, list | tuple):
        found = (_first_tensor(part) for part in value)
        return next((tensor for tensor in found if tensor is not None), None)
    return None
