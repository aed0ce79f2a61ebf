"""The controls: models that the kit must reject, each by the law that it breaks."""

from typing import ClassVar

import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch.demos import Transformer
from torch import Tensor, nn

from lmzoo import LanguageModel
from lmzoo.testing import check_model


class Bigram(LanguageModel):
    """The smallest sound model; the controls below spoil it one at a time."""

    def __init__(self, vocab_size: int, context_length: int = 16, d_model: int = 32):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, d_model)
        self.head = nn.Linear(d_model, vocab_size)
        nn.init.normal_(self.head.weight, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.embedding(tokens))


class LightningDemo(LanguageModel):
    """The Transformer of lightning.pytorch.demos, wired as its own example does."""

    def __init__(self, vocab_size: int, context_length: int = 16):
        super().__init__()
        self.net = Transformer(vocab_size=vocab_size, ninp=32, nhid=32, nlayers=1)

    def forward(self, tokens: Tensor) -> Tensor:
        flat = self.net(tokens, tokens)  # log-probabilities, (B * T, V)
        return flat.view(*tokens.shape, -1)


class SeesTheFuture(Bigram):
    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens)
        return self.head(F.scaled_dot_product_attention(x, x, x))


class LeaksAcrossTheBatch(Bigram):
    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens)
        return self.head(x + x.mean(0, keepdim=True))


class UnusedParameter(Bigram):
    def __init__(self, vocab_size: int, context_length: int = 16, d_model: int = 32):
        super().__init__(vocab_size, context_length, d_model)
        self.forgotten = nn.Linear(3, 3)


class ShiftedTargets(LanguageModel):
    """The take-home task's window model: all shifted targets from all inputs (F13)."""

    def __init__(self, vocab_size: int, context_length: int = 16, d_model: int = 8):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, d_model)
        self.hidden = nn.Linear(context_length * d_model, 64)
        self.head = nn.Linear(64, context_length * vocab_size)
        nn.init.normal_(self.head.weight, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        rows, length = tokens.shape
        padded = F.pad(tokens, (0, self.context_length - length))
        x = torch.tanh(self.hidden(self.embedding(padded).flatten(1)))
        logits = self.head(x).view(rows, self.context_length, self.vocab_size)
        return logits[:, :length]


class WrongShape(Bigram):
    def forward(self, tokens: Tensor) -> Tensor:
        return super().forward(tokens)[:, -1:]


class RandomAtEvaluation(Bigram):
    def forward(self, tokens: Tensor) -> Tensor:
        return super().forward(tokens) + torch.rand(())


class HugeAtTheStart(Bigram):
    def __init__(self, vocab_size: int, context_length: int = 16, d_model: int = 32):
        super().__init__(vocab_size, context_length, d_model)
        nn.init.normal_(self.head.weight, std=5.0)


class ExpectsAnotherStart(Bigram):
    """Starts flat, near ln V, and says that it starts a nat above."""

    def expected_initial_nll(self) -> float:
        return super().expected_initial_nll() + 1.0


class OverflowsInHalf(Bigram):
    def forward(self, tokens: Tensor) -> Tensor:
        logits = super().forward(tokens)
        if torch.is_autocast_enabled("cpu"):
            return logits * torch.finfo(torch.float32).max * 10
        return logits


class WrongStep(Bigram):
    def advance(self, tokens: Tensor, state: object = None) -> tuple:
        logits, state = super().advance(tokens, state)
        return logits + 0.01, state


class RemembersOnItself(Bigram):
    def advance(self, tokens: Tensor, state: object = None) -> tuple:
        self.calls = getattr(self, "calls", 0) + 1
        logits, state = super().advance(tokens, state)
        return logits + 1e-3 * self.calls, state


class CannotLearn(Bigram):
    def forward(self, tokens: Tensor) -> Tensor:
        return 1e-3 * torch.tanh(super().forward(tokens))


class Unannotated(Bigram):
    def __init__(self, vocab_size, context_length=16):
        super().__init__(vocab_size, context_length)


class HidesArguments(Bigram):
    def __init__(self, vocab_size: int, context_length: int = 16, **more: int):
        super().__init__(vocab_size, context_length)


class OwnLoss(Bigram):
    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        return super().loss(logits, targets) * 2


class Miscounts(Bigram):
    """Claims to count, and counts one too many."""

    counting: ClassVar[bool] = True
    order: ClassVar[int] = 1

    def count(self, tokens: object) -> None:
        self.text = list(tokens)  # type: ignore[call-overload]

    def successors(self, context: list[int]) -> dict[int, int]:
        return {int(t): self.text.count(t) + 1 for t in set(self.text)}


class UnderstatesItsWindow(LanguageModel):
    """Sees three tokens, says one."""

    def __init__(self, vocab_size: int, context_length: int = 16, d_model: int = 32):
        super().__init__()
        self.window = 1
        self.embedding = nn.Embedding(vocab_size, d_model)
        self.mix = nn.Conv1d(d_model, d_model, 3)
        self.head = nn.Linear(d_model, vocab_size)
        nn.init.normal_(self.head.weight, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        x = F.pad(self.embedding(tokens).transpose(1, 2), (2, 0))
        return self.head(self.mix(x).transpose(1, 2))


class OwnMeasure(Bigram):
    def nll(self, logits: Tensor, targets: Tensor) -> Tensor:
        return super().nll(logits, targets) / 2


class WrongBeforeTheLast(Bigram):
    def advance(self, tokens: Tensor, state: object = None) -> tuple:
        logits, state = super().advance(tokens, state)
        logits = logits.clone()
        logits[:, :-1] += 0.1
        return logits, state


class WidensInHalf(Bigram):
    """What a state in float32 does to weights that are halved; autocast mends it."""

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.embedding(tokens).float())


class TimeFirstState(Bigram):
    def advance(self, tokens: Tensor, state: object = None) -> tuple:
        logits, _ = super().advance(tokens, None)
        return logits, (torch.zeros(tokens.shape[0] + 3, 2),)


class TupleDefault(Bigram):
    def __init__(
        self,
        vocab_size: int,
        context_length: int = 16,
        sizes: tuple[int, int] = (1, 2),
    ):
        super().__init__(vocab_size, context_length)


class LeaksBehindAZero(SeesTheFuture):
    def __init__(self, vocab_size: int, context_length: int = 16, d_model: int = 32):
        super().__init__(vocab_size, context_length, d_model)
        nn.init.zeros_(self.head.weight)


CONTROLS = [
    (UnderstatesItsWindow, "window"),
    (OwnMeasure, "attributes"),
    (WrongBeforeTheLast, "step"),
    (TimeFirstState, "step"),
    (TupleDefault, "constructor"),
    (LeaksBehindAZero, "causality"),
    (LightningDemo, "causality"),
    (SeesTheFuture, "causality"),
    (ShiftedTargets, "causality"),
    (LeaksAcrossTheBatch, "batch"),
    (UnusedParameter, "gradient"),
    (WrongShape, "shapes"),
    (RandomAtEvaluation, "deterministic"),
    (HugeAtTheStart, "initial_loss"),
    (ExpectsAnotherStart, "initial_loss"),
    (OverflowsInHalf, "bf16"),
    (WidensInHalf, "bf16"),
    (WrongStep, "step"),
    (RemembersOnItself, "fork"),
    (CannotLearn, "overfit"),
    (Unannotated, "constructor"),
    (HidesArguments, "constructor"),
    (OwnLoss, "attributes"),
    (Miscounts, "counts"),
    (nn.Linear, "constructor"),
]


def test_the_sound_model_passes() -> None:
    report = check_model(Bigram)
    assert report.ok, str(report)


@pytest.mark.parametrize(("cls", "law"), CONTROLS)
def test_the_controls_are_rejected_by_name(cls: type, law: str) -> None:
    report = check_model(cls)
    assert not report.ok
    assert law in report.broken, str(report)
    assert "BREAKS" in str(report) or law == "constructor"


def test_an_exhibit_that_keeps_its_law_is_rejected() -> None:
    class Harmless(Bigram):
        exhibit: ClassVar[str | None] = "causality"

    report = check_model(Harmless)
    assert report.broken == []
    assert not report.ok


def test_an_exhibit_may_break_no_other_law() -> None:
    class Worse(SeesTheFuture):
        exhibit: ClassVar[str | None] = "gradient"

    assert not check_model(Worse).ok
