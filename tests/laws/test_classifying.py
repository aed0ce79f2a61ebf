"""The laws of classifiers and encoders, each with a control that must fail."""

import pytest
import torch
from torch import Tensor, nn

from lmzoo.laws import LAWS_OF
from lmzoo.models.classifier import Classifier, PooledClassifier
from lmzoo.models.encoder import Encoder
from lmzoo.testing import check_model

SMALL = {"d_model": 16, "num_layers": 1}
BODIES = {
    "lstm": {"d_model": 16, "d_hidden": 16},
    "gpt": {**SMALL, "num_heads": 2},
    "ff": {**SMALL, "d_hidden": 16},
    "conv": SMALL,
    "palm": {**SMALL, "num_heads": 2},
    "mingru": {**SMALL, "d_hidden": 16},
    "mamba2": {**SMALL, "num_heads": 2, "d_head": 8, "d_state": 8},
    "mlp": SMALL,
    "encoder": {**SMALL, "num_heads": 2, "dropout": 0.0},
}


@pytest.mark.parametrize(
    ("body", "pooling"),
    [
        ("lstm", "mean"),
        ("lstm", "last"),
        ("encoder", "mean"),
        ("encoder", "last"),
        ("encoder", "first"),
    ],
)
def test_a_pooled_classifier_keeps_the_contract(body: str, pooling: str) -> None:
    report = check_model(
        "classifier",
        laws=["constructor", "shapes", "padding", "labels", "state_dict", "gradient"],
        body=body,
        body_arguments=BODIES[body],
        pooling=pooling,
    )

    assert report.ok, str(report)


def test_the_first_vector_of_a_causal_body_has_seen_one_token() -> None:
    with pytest.raises(ValueError, match="choose mean or last"):
        PooledClassifier(29, 16, body="lstm", pooling="first")


@pytest.mark.parametrize("body", list(BODIES))
def test_any_body_keeps_all_laws(body: str) -> None:
    report = check_model("classifier", body=body, body_arguments=BODIES[body])

    assert report.ok, str(report)
    assert len(report.rows) == len(LAWS_OF["classifier"])


def test_the_encoder_keeps_its_laws() -> None:
    report = check_model("encoder", **BODIES["encoder"])

    assert report.ok, str(report)
    assert {"padding", "bidirectional", "hidden"} <= {row.law for row in report.rows}


class Careful(Classifier):
    """A mean of embeddings that keeps every law; the controls each break one."""

    def __init__(
        self,
        vocab_size: int,
        context_length: int = 16,
        *,
        labels: list[str] | None = None,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, 24)
        self.out = nn.Linear(24, len(self.labels))
        nn.init.normal_(self.out.weight, std=0.02)
        nn.init.zeros_(self.out.bias)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        x = self.embedding(tokens) * mask[..., None]
        return self.out(x.sum(1) / mask.sum(1, keepdim=True))


class CountsPadding(Careful):
    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        return self.out((self.embedding(tokens) * mask[..., None]).mean(1))


class ReadsPadding(Careful):
    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        return self.out(self.embedding(tokens).sum(1) / mask.sum(1, keepdim=True))


class Together(Careful):
    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        logits = super().forward(tokens, mask)
        return logits - logits.mean(0)


class Shuffled(Careful):
    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        return super().loss(logits.flip(-1), targets)


class Forgetful(Careful):
    def __init__(
        self,
        vocab_size: int,
        context_length: int = 16,
        *,
        labels: list[str] | None = None,
    ) -> None:
        super().__init__(vocab_size, context_length, labels=labels)
        self.scale = float(torch.rand(()))

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        return super().forward(tokens, mask) * self.scale


class Prejudiced(Careful):
    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        lean = torch.arange(len(self.labels), dtype=torch.float32)
        return super().forward(tokens, mask) + 3 * lean


class Deaf(Careful):
    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        return self.out(torch.zeros(len(tokens), 24)) + 0 * self.embedding.weight.sum()


class Flat(Careful):
    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        return super().forward(tokens, mask)[:, :1]


def test_the_careful_one_keeps_all() -> None:
    report = check_model(Careful)

    assert report.ok, str(report)


@pytest.mark.parametrize(
    ("cls", "law"),
    [
        (CountsPadding, "padding"),
        (ReadsPadding, "padding"),
        (Together, "batch"),
        (Shuffled, "labels"),
        (Forgetful, "state_dict"),
        (Prejudiced, "initial_loss"),
        (Deaf, "gradient"),
        (Flat, "shapes"),
    ],
)
def test_a_control_breaks_its_law(cls: type[Classifier], law: str) -> None:
    report = check_model(cls, laws=["constructor", law])

    assert report.broken == [law], str(report)


class Unmasked(Encoder):
    def features(self, tokens, mask=None, hidden=None):
        return super().features(tokens, None, hidden)


class Peeking(Encoder):
    def features(self, tokens, mask=None, hidden=None):
        return super().features(tokens, mask, None)


class OneWay(Encoder):
    def features(self, tokens, mask=None, hidden=None):
        x = self.token_embedding(tokens).cumsum(1)
        return self.norm(x)


@pytest.mark.parametrize(
    ("cls", "law"),
    [(Unmasked, "padding"), (Peeking, "hidden"), (OneWay, "bidirectional")],
)
def test_an_encoder_that_breaks_a_law(cls: type[Encoder], law: str) -> None:
    report = check_model(cls, laws=["constructor", law], **BODIES["encoder"])

    assert report.broken == [law], str(report)


def test_a_body_that_sees_the_future_is_refused() -> None:
    report = check_model("classifier", laws=["shapes"], body="conv-noncausal")

    assert report.broken == ["shapes"]
    with pytest.raises(Exception, match="no body for a classifier"):
        PooledClassifier(29, 16, body="conv-noncausal")
