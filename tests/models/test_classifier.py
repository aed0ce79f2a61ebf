"""Bodies of classifiers: which layer is the head, and what is left without it."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lmzoo.errors import UsageError
from lmzoo.models.base import LanguageModel
from lmzoo.models.classifier import PooledClassifier, require_features
from lmzoo.models.pretrained import UNNAMED, Pretrained


class Widening(LanguageModel):
    """A model whose head is not the last linear layer that is made, nor the widest."""

    def __init__(self, vocab_size: int, context_length: int = 8) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, 4)
        self.head = nn.Linear(4, vocab_size)
        self.wide = nn.Linear(4, 3 * vocab_size)
        self.narrow = nn.Linear(3 * vocab_size, 4)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, T) -> (B, T, V)."""
        return self.head(self.narrow(self.wide(self.embedding(tokens)).relu()))


class Unnamed(Widening):
    """The same, and it does not say which one is the head."""

    def output_head(self) -> nn.Module | None:
        """Nothing."""
        return None


class Scaled(Widening):
    """What comes out of its head is not what a classifier reads."""

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, T) -> (B, V)."""
        return super().forward(tokens).mean(1)


class Mixed(Widening):
    """Its head is more than a linear layer."""

    def __init__(self, vocab_size: int, context_length: int = 8) -> None:
        super().__init__(vocab_size, context_length)
        self.head = nn.Sequential(nn.Linear(4, vocab_size), nn.Tanh())  # type: ignore


def test_the_head_is_the_one_that_the_model_names() -> None:
    model = Widening(11).eval()
    tokens = torch.randint(11, (2, 5))
    with torch.no_grad():
        logits, head = model(tokens), model.head
        assert model.take_head() == 4
        require_features(model, 4, "widening")
        torch.testing.assert_close(head(model.features(tokens)), logits)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (Unnamed, "should be (2, 3, 4): "),  # the widest was taken: refused, not used
        (Scaled, "should be (2, 3, 4): (2, 4); it may define take_head"),
        (Mixed, "no linear head to take away"),
    ],
)
def test_a_body_that_gives_no_vectors_is_refused(
    kind: Any, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (kind, Widening):  # the control comes last
        monkeypatch.setattr("lmzoo.models.classifier.models.load", lambda _, n=name: n)
        if name is Widening:
            PooledClassifier(11, 8, body="it")
            return
        with pytest.raises(UsageError) as caught:
            PooledClassifier(11, 8, body="it")
        assert said in str(caught.value)
        assert "\n" not in str(caught.value)


def test_looking_at_the_features_leaves_the_modes_alone() -> None:
    model = Widening(11)
    model.narrow.eval()
    size = model.take_head()
    require_features(model, size, "widening")
    assert model.training
    assert not model.narrow.training


def test_adapters_on_the_head_are_no_body() -> None:
    pytest.importorskip("transformers")
    pytest.importorskip("peft")
    source = {**UNNAMED, "vocab_size": 11, "tie_word_embeddings": False}
    adapted = {"source": source, "lora_rank": 2, "lora_targets": ["lm_head"]}
    assert Pretrained(11, 8, **adapted).output_head() is not None
    with pytest.raises(UsageError, match=r"lora_targets \['lm_head'\] name the head"):
        PooledClassifier(11, 8, body="pretrained", body_arguments=adapted)
    others = {**adapted, "lora_targets": ["c_attn"]}  # the control
    model = PooledClassifier(11, 8, body="pretrained", body_arguments=others)
    assert model.pooled(torch.zeros(2, 3).long(), torch.ones(2, 3).bool()).shape[1] > 11
