"""Limits of text and of time."""

import pytest
import torch
from torch import nn

from lmzoo.errors import UsageError
from lmzoo.web.limits import Limits, TimeUp


def test_texts() -> None:
    limits = Limits(characters=5)

    assert limits.require_text("fives") == "fives"
    with pytest.raises(UsageError, match="6 characters; this page takes 5"):
        limits.require_text("sixsix")
    for given in (None, 5, ["a"], {"text": "a"}):
        with pytest.raises(UsageError, match="must be text"):
            limits.require_text(given)


class Counting(nn.Module):
    """Calls a part of itself many times."""

    def __init__(self, clock: list[float]) -> None:
        super().__init__()
        self.part, self.clock, self.calls = nn.Linear(2, 2), clock, 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for _ in range(10):
            self.clock[0] += 1.0
            x = self.part(x)
            self.calls += 1
        return x


@pytest.mark.parametrize(("seconds", "calls"), [(4.0, 4), (20.0, 10)])
def test_a_model_is_stopped_between_its_parts(
    seconds: float, calls: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr("lmzoo.web.limits.time.monotonic", lambda: clock[0])
    model = Counting(clock)
    deadline = Limits(seconds=seconds).deadline()

    if calls < 10:
        with pytest.raises(TimeUp, match="after 4 seconds"), deadline.bounding(model):
            model(torch.ones(2))
    else:
        with deadline.bounding(model):
            model(torch.ones(2))

    assert model.calls == calls
    model(torch.ones(2))  # nothing is left behind
    assert model.calls == calls + 10
