"""A model class under test, the verdict on it, and what several laws need."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

VOCABULARY = 29
CONTEXT = 16


class Broken(Exception):  # a verdict, not an error
    """A law does not hold; the message says what was seen."""


@dataclass
class Subject:
    """A model class under test, and how to make fresh instances of it."""

    cls: Any  # a class that derives from Member
    arguments: dict[str, Any]

    def make(self, seed: int = 0, **changes: Any) -> Any:
        """A new instance from a fixed seed, in evaluation mode."""
        torch.manual_seed(seed)
        model = self.cls(**{**self.arguments, **changes})
        if self.cls.counting:
            model.count(tokens(1, 400, seed=1)[0].numpy())  # type: ignore[operator]
        return model.eval()


def tokens(rows: int, length: int, seed: int = 0) -> Tensor:
    """Random token ids (rows, length)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, VOCABULARY, (rows, length), generator=generator)


def stirred(subject: Subject) -> Any:
    """An instance with noise on its weights: nothing hides behind a zero."""
    model = subject.make()
    generator = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter += 0.02 * noise
    return model


def close(left: Tensor, right: Tensor, tolerance: float, what: str) -> None:
    """Raise ``Broken`` unless two tensors agree to ``tolerance``."""
    if left.shape != right.shape:
        raise Broken(f"{what}: shape {tuple(left.shape)}, not {tuple(right.shape)}")
    gap = float((left - right).abs().max())
    if not gap <= tolerance:
        raise Broken(f"{what}: differs by {gap:.2g} from the full forward pass")
