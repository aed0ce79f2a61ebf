"""Classification of texts: the contract, and a head on any body of the zoo.

    x = body(tokens)                     one vector for each token
    p = mean, last or first of x         one vector for the text
    logits = W2 f(W1 p)                  one number for each label

The head, with f = relu, is that of DistilBERT (Sanh et al. 2019, arXiv:1910.01108). The
body is any other member of the zoo without its own head.
"""

from typing import Any, ClassVar, Literal, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lmzoo.errors import UsageError, first_line
from lmzoo.metrics import IGNORED, ClassificationMetrics
from lmzoo.models.layers import SMALL, require_probability
from lmzoo.models.member import Member, seed_for
from lmzoo.registry import models

Pooling = Literal["mean", "last", "first"]
Activation = Literal["relu", "tanh", "gelu"]
UNNAMED = ["0", "1"]  # labels where no data names any


class Batch(Protocol):
    """What a data module yields: see ``lmzoo.text.labelled_loader.LabelledBatch``."""

    @property
    def tokens(self) -> Tensor:
        """Token ids (B, T), padded at the right."""
        ...

    @property
    def mask(self) -> Tensor:
        """True where a token is text, (B, T)."""
        ...

    @property
    def targets(self) -> Tensor:
        """Labels (B,), -100 where not counted."""
        ...

    @property
    def rows(self) -> Tensor:
        """Which texts of the part these are, (B,)."""
        ...

    @property
    def position(self) -> int:
        """Global index of the first sample."""
        ...


class Teacher(NamedTuple):
    """What another classifier says of each training text, and how much it counts."""

    logits: Tensor  # (n, K), in the order of the training texts
    weight: float  # of the teacher's part of the loss, in [0, 1]
    temperature: float


class Classifier(Member):
    """Base of every classifier: tokens and mask to one logit for each label.

    A subclass has an annotated keyword constructor with ``vocab_size``,
    ``context_length`` and ``labels``, and ``forward(tokens (B, T), mask (B, T)) ->
    logits (B, K)``. Where the mask is False there is no text: tokens there, and how
    many there are, change nothing.
    """

    task: ClassVar[str] = "classifier"
    data: ClassVar[str] = "labelled"
    linked: ClassVar[dict[str, str]] = {"vocab_size": "vocab_size", "labels": "labels"}
    metric_names: ClassVar[tuple[str, ...]] = ClassificationMetrics.NAMES

    metrics: ClassificationMetrics
    teacher: Teacher | None = None

    def __init__(self) -> None:
        super().__init__()
        self.labels: list[str] = self.arguments.get("labels") or UNNAMED
        if len(self.labels) < 2 or len(set(self.labels)) < len(self.labels):
            raise ValueError(
                f"labels must be two or more different names, given {self.labels}"
            )
        self.metrics = ClassificationMetrics()

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """One logit for each label; (B, T) and (B, T) -> (B, K)."""
        raise NotImplementedError(f"{type(self).__name__} has no forward")

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy in nats over the counted texts, at least float32."""
        if logits.dtype in (torch.float16, torch.bfloat16):
            logits = logits.float()
        total = F.cross_entropy(logits, targets, ignore_index=IGNORED, reduction="sum")
        return total / (targets != IGNORED).sum().clamp(min=1)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Loss of one micro-batch; randomness is a function of its position."""
        del batch_idx
        seed_for(self.seed, batch.position, self.global_rank)
        logits = self.batch_logits(batch, "train")
        loss = self.loss(logits, batch.targets)
        if self.teacher is None:
            return loss
        said = self.teacher.logits.to(logits)[batch.rows]
        weight = self.teacher.weight
        soft = distillation_loss(logits, said, self.teacher.temperature)
        return (1 - weight) * loss + weight * soft

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Keep the logits of one batch for the end of the pass."""
        del batch_idx
        self.metrics.update(self.batch_logits(batch, "val"), batch.targets)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """The same over the test part."""
        del batch_idx
        self.metrics.update(self.batch_logits(batch, "test"), batch.targets)

    def batch_logits(self, batch: Batch, split: str) -> Tensor:
        """Logits (B, K) of a batch of a part of the data."""
        del split
        return self(batch.tokens, batch.mask)

    def body_parameters(self) -> list[nn.Parameter]:
        """What lies below the head; empty where there is no telling."""
        return []


class PooledClassifier(Classifier):
    """A head on the body of any other model, pooled over the text.

    Maps tokens (B, T) and mask (B, T) to logits (B, K), T at most ``context_length``.

    Args:
        vocab_size: number of distinct tokens V.
        context_length: most tokens of a text.
        labels: names of the labels, in the order of the logits.
        body: registry name of the body; on the command line also a run or a folder,
            whose weights it then starts from.
        body_arguments: the body's constructor arguments; the defaults for the rest.
        pooling: the mean over the tokens of the text, its last or its first.
        activation: between the head's two maps: relu as in DistilBERT, tanh as in BERT
            and RoBERTa, gelu as in ELECTRA.
        dropout: probability of dropping an entry of what the last map reads, in [0, 1).

    Raises:
        ValueError: a dropout outside [0, 1), or a context too long for the body.
        UsageError: an unknown body, or one that can be none.
    """

    recipe: ClassVar[dict[str, Any]] = {
        "optimizer.lr": 1e-3,
        "optimizer.weight_decay": 0.01,
        "data.batch_size": 32,
        "lr_scheduler.warmup_steps": 50,
        "trainer.max_steps": 600,
    }

    def __init__(
        self,
        vocab_size: int,
        context_length: int = 128,
        *,
        labels: list[str] | None = None,
        body: str = "lstm",
        body_arguments: dict[str, Any] | None = None,
        pooling: Pooling = "mean",
        activation: Activation = "relu",
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        require_probability(dropout=dropout)
        if pooling not in ("mean", "last", "first"):
            raise ValueError(f"pooling must be mean, last or first, given {pooling!r}")
        if activation not in ("relu", "tanh", "gelu"):
            raise ValueError(
                f"activation must be relu, tanh or gelu, given {activation!r}"
            )
        self.pooling = pooling
        self.body = build_body(body, vocab_size, context_length, body_arguments or {})
        if pooling == "first" and self.body.task == "language model":
            raise ValueError(
                f"pooling first: the first vector of a {body} has seen one token only; "
                f"choose mean or last"
            )
        size = self.body.take_head()
        require_features(self.body, size, body)
        self.head = Head(size, len(self.labels), dropout, activation)
        self.features: dict[str, Tensor] = {}  # part -> (n, D), where the body is fixed

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """One logit for each label; (B, T) and (B, T) -> (B, K)."""
        return self.head(self.pooled(tokens, mask))

    def pooled(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """One vector for each text; (B, T) and (B, T) -> (B, D)."""
        x = self.body.features(tokens, mask)  # (B, T, D)
        if self.pooling == "first":
            return x[:, 0]
        if self.pooling == "last":
            ends = (mask.sum(1) - 1).clamp(min=0)
            return x[torch.arange(len(x), device=x.device), ends]
        x = x.masked_fill(~mask[..., None], 0.0)
        return x.sum(1) / mask.sum(1, keepdim=True).clamp(min=1)

    def batch_logits(self, batch: Batch, split: str) -> Tensor:
        """Logits (B, K); from the kept features of that part, if there are any."""
        if split in self.features:
            return self.head(self.features[split].to(self.device)[batch.rows])
        return self(batch.tokens, batch.mask)

    def blocks(self) -> dict[str, nn.Module]:
        """The body's."""
        return {f"body.{name}": block for name, block in self.body.blocks().items()}

    def body_parameters(self) -> list[nn.Parameter]:
        """The body's."""
        return list(self.body.parameters())


class Head(nn.Module):
    """Two linear maps with a function between them; the last starts near zero."""

    def __init__(
        self, size: int, classes: int, dropout: float, activation: Activation = "relu"
    ) -> None:
        super().__init__()
        self.activation = activation
        self.pre_classifier = nn.Linear(size, size)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(size, classes)
        nn.init.normal_(self.classifier.weight, std=SMALL)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, pooled: Tensor) -> Tensor:
        """(B, D) -> (B, K)."""
        between = getattr(F, self.activation)(self.pre_classifier(pooled))
        return self.classifier(self.dropout(between))


def build_body(
    name: str, vocab_size: int, context_length: int, arguments: dict[str, Any]
) -> Member:
    """The member called ``name``, its head still on.

    Raises:
        UsageError: an unknown name, or one that can be no body.
        ValueError: its context is shorter than the texts.
    """
    cls = models.load(name)
    if not can_be_body(cls):
        raise UsageError(
            f"--model.body {name}: no body for a classifier; choose {bodies()}"
        )
    sizes = {"vocab_size": vocab_size, "context_length": context_length}
    body = cls(**{**sizes, **arguments})
    bounded = not body.unbounded and body.window is None
    if bounded and body.context_length < context_length:
        raise ValueError(
            f"context_length {context_length}: the body reads at most "
            f"{body.context_length} tokens"
        )
    return body


def can_be_body(cls: type[Member]) -> bool:
    """Whether a model gives each token a hidden vector for a head to stand on.

    Classifiers have their own head, counting models no vectors, and exhibits break a
    law.
    """
    return not (issubclass(cls, Classifier) or cls.counting or cls.exhibit)


def bodies() -> str:
    """Names of the zoo's models that can be a body, with commas between."""
    named = {name: models.load(name) for name in models.entries()[0]}
    return ", ".join(sorted(name for name in named if can_be_body(named[name])))


@torch.no_grad()
def require_features(body: Member, size: int, name: str) -> None:
    """Refuse a body whose ``features`` are not one vector of ``size`` for each token.

    Raises:
        UsageError: saying what they are.
    """
    if any(parameter.is_meta for parameter in body.parameters()):
        return  # nothing is computed there
    modes = [(module, module.training) for module in body.modules()]
    shape = (2, min(3, body.context_length))
    tokens = torch.zeros(shape, dtype=torch.long)
    body.eval()
    try:
        found = str(tuple(body.features(tokens, tokens == 0).shape))
    except Exception as error:  # whatever a body that is none of ours does
        found = first_line(error)
    finally:
        for module, mode in modes:
            module.training = mode
    if found != str((*shape, size)):
        raise UsageError(
            f"--model.body {name}: without its head, the features of tokens {shape} "
            f"should be {(*shape, size)}: {found}; it may define take_head and "
            f"features itself"
        )


def distillation_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T^2 KL(teacher / T || student / T), mean over the batch; (B, K) each.

    Hinton et al. 2015, arXiv:1503.02531.
    """
    logs = F.log_softmax(student.float() / temperature, dim=-1)
    wanted = F.log_softmax(teacher.float() / temperature, dim=-1)
    divergence = F.kl_div(logs, wanted, reduction="batchmean", log_target=True)
    return temperature**2 * divergence
