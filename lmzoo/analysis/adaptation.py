"""Going on from a checkpoint: a model, another text, a few steps, a look now and then.

The loop is the bare one: the model's own ``training_step``, parameter groups and
clipping, AdamW at a constant rate. Batches and dropout are functions of the seed alone,
so the same seed gives the same weights.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any, Literal

import numpy as np
import torch

from lmzoo import runs
from lmzoo.analysis.history import History
from lmzoo.analysis.transfer.corpora import Corpus, corpus_of
from lmzoo.errors import UsageError
from lmzoo.models.base import LanguageModel
from lmzoo.rebuild import build_model
from lmzoo.text.datamodule import TextDataModule
from lmzoo.training.checkpoints import versions
from lmzoo.training.warm_start import warm_start

Rule = Literal["union", "unk"]
Watch = Callable[[int, LanguageModel], None]
# Of the run's own peak rate. Tried at 200 steps on gpt (2 layers, width 64), kjv, pydoc
# and pysource, target / source in nats per token. Run of 1,500 steps, pydoc to kjv:
# 1.0 1.96 / 3.86, 0.3 1.95 / 3.07, 0.1 1.97 / 2.77; kjv to pydoc: 1.0 2.08 / 2.38,
# 0.3 2.07 / 2.13, 0.1 2.25 / 1.95. New weights learn best at 0.3 (2.73; 1.0 2.86).
SHARE = 0.3


@dataclass(frozen=True)
class Vocabulary:
    """How a model reads a text that it was not made for.

    Attributes:
        rule: ``union`` gives new symbols rows of their own, ``unk`` reads them as the
            run reads what it does not know.
        shared: symbols of the training part that the run knew.
        new: symbols that were given a row; 0 under ``unk``.
        size: of the vocabulary.
        unknown: share of the training part that is not in the vocabulary.
    """

    rule: str
    shared: int
    new: int
    size: int
    unknown: float

    def plain(self) -> dict[str, Any]:
        """JSON-plain."""
        return asdict(self)


def target_text(
    history: History, corpus: Corpus, rule: Rule = "union", seed: int = 1337
) -> tuple[TextDataModule, Vocabulary]:
    """A text to go on with, under the run's vocabulary or a larger one.

    Args:
        history: of the run.
        corpus: the text.
        rule: what happens to symbols that the run does not know; a sub-word or byte
            vocabulary has a way to write everything, and never grows.
        seed: of the order of the batches.
    """
    data = corpus.under(history, extend_tokenizer=rule == "union", seed=seed)
    data.order = "stream" if history.run.model.carry_state else data.order
    symbols = data.tokenizer.symbols()
    known = set(history.tokenizer.symbols())
    unk = data.tokenizer.unk_id
    used = np.unique(np.asarray(data.train_tokens)).tolist()
    shared = sum(symbols[i] in known for i in used if i != unk)
    stats = data.describe()["splits"]["train"]
    new = len(symbols) - len(known.intersection(symbols))
    return data, Vocabulary(rule, shared, new, len(symbols), stats["oov_share"])


def begin(
    history: History, step: int | None, data: TextDataModule, seed: int
) -> LanguageModel:
    """A new model object for ``data``.

    Args:
        history: of the run.
        step: the checkpoint whose weights it has, row by row where the vocabulary
            grew; None for weights as new, of the same architecture.
        data: from ``target_text``.
        seed: of weights as new.

    Raises:
        UsageError: a counting model, which has no steps to take, or no such step.
    """
    run, arguments = history.run, dict(history.run.stored["arguments"])
    if run.model.counting:
        raise UsageError(
            f"{history.path}: a {history.model_name} model counts its text and takes "
            f"no steps; name runs of models that are trained"
        )
    if data.vocab_size != history.tokenizer.vocab_size:
        arguments["vocab_size"] = data.vocab_size
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: Any = build_model(history.model_name, arguments, history.path)
    if step is not None:
        history.at(step)
        warm_start(model, data, run)
        quiet_rows(model, data, history)
    model.seed = seed
    return model


def quiet_rows(model: LanguageModel, data: TextDataModule, history: History) -> None:
    """Start the rows of new symbols where they cost next to nothing.

    They become copies of the row of the symbol that the run's training text has least
    often, ``<unk>`` as a rule, which the run has learned not to expect; where logits
    have a bias, they share its probability, and nothing else has changed. New rows
    at random have logits near 0, as likely symbols have: kjv to pysource (159 of them,
    gpt of 600 steps) they cost 0.36 nats per token of the source at once, copies 0.005,
    and after 200 steps both starts come to the same on the target (2.27 and 2.28).

    Args:
        model: with the weights of the history's current step, changed in place.
        data: from ``target_text``.
        history: of the run.
    """
    own, symbols = history.tokenizer, data.tokenizer.symbols()
    known = set(own.symbols())
    new = torch.tensor([i for i, symbol in enumerate(symbols) if symbol not in known])
    if not len(new):
        return
    tokens = np.asarray(corpus_of(history).under(history).train_tokens)
    counts = np.bincount(tokens, minlength=own.vocab_size).tolist()
    rarest = min(range(own.vocab_size), key=lambda i: (counts[i], i != own.unk_id))
    copied = symbols.index(own.symbols()[rarest])
    rows, old = torch.full_like(new, copied), history.run.model.state_dict()
    with torch.no_grad():
        for name, value in model.state_dict().items():
            sizes = zip(value.shape, old[name].shape, strict=True)
            for axis in [i for i, (mine, its) in enumerate(sizes) if mine != its]:
                value.index_copy_(axis, new, value.index_select(axis, rows))
                if value.ndim == 1:  # one number a symbol: the bias of the logits
                    value[[*new.tolist(), copied]] -= math.log(len(new) + 1)


def own_rate(history: History, share: float = 1.0) -> float:
    """The run's own peak learning rate, times ``share``."""
    stored = (history.run.stored.get("training") or {}).get("optimizer.lr")
    rate = stored if isinstance(stored, int | float) else None
    return share * float(rate or type(history.run.model).recipe.get(
        "optimizer.lr", 1e-3))  # fmt: skip


def adapt(
    model: LanguageModel,
    data: TextDataModule,
    history: History,
    *,
    at: Sequence[int],
    lr: float,
    watch: Watch,
) -> None:
    """Train ``model`` on ``data`` up to the last of ``at``, in place.

    Args:
        model: from ``begin``.
        data: from ``target_text``; the batch is as large as the run's.
        history: of the run: its weight decay, betas and clipping are used.
        at: numbers of steps after which ``watch`` is called, ascending; 0 is before.
        lr: constant learning rate.
        watch: given the step and the model in evaluation mode.

    Raises:
        UsageError: the text is too short for a window, or training diverges.
    """
    data.setup("fit")
    optimizer = torch.optim.AdamW(
        model.parameter_groups(), lr=lr, fused=True, **_habits(history)
    )
    clip = (history.run.stored.get("training") or {}).get(
        "trainer.gradient_clip_val", 1.0
    )
    with torch.random.fork_rng(devices=[]):
        if 0 in at:
            watch(0, model.eval())
        model.train()
        batches = islice(data.train_dataloader(), max(at))
        for step, batch in enumerate(batches, 1):
            optimizer.zero_grad()
            model.training_step(batch, step - 1).backward()
            model.configure_gradient_clipping(optimizer, clip)
            optimizer.step()
            if step in at:
                watch(step, model.eval())
                model.train()
    model.eval()


def _habits(history: History) -> dict[str, Any]:
    """Betas and weight decay of a run that was trained with AdamW; numbers only."""
    training = history.run.stored.get("training") or {}
    if not str(training.get("optimizer.class_path")).endswith("AdamW"):
        return {}
    found: dict[str, Any] = {}
    decay, betas = (
        training.get(f"optimizer.{key}") for key in ("weight_decay", "betas")
    )
    if isinstance(decay, int | float):
        found["weight_decay"] = float(decay)
    if isinstance(betas, list) and len(betas) == 2:
        found["betas"] = (float(betas[0]), float(betas[1]))
    return found


def as_checkpoint(
    model: LanguageModel, data: TextDataModule, history: History, step: int, taken: int
) -> dict[str, Any]:
    """What ``runs.write_checkpoint`` takes: the adapted model as a run of its own.

    Args:
        model: after ``adapt``.
        data: what it was adapted to.
        history: of the run that it began as.
        step: of the checkpoint.
        taken: steps on ``data``.
    """
    stored = history.run.stored
    arguments = {
        **(stored["data"].get("arguments") or {}),
        **{
            key: getattr(data.settings, key)
            for key in stored["data"].get("arguments") or {}
            if hasattr(data.settings, key) and key != "extend_tokenizer"
        },
    }
    return {
        "state_dict": model.state_dict(),
        "global_step": step,
        "lmzoo": {
            "format": runs.FORMAT,
            "model": history.model_name,
            "arguments": model.arguments,
            "tokenizer": data.tokenizer.state(),
            "versions": versions(),
            "threads": torch.get_num_threads(),
            "data": {
                "name": "text",
                "arguments": arguments,
                "described": data.describe(),
                "adapted": {"from": history.corpus, "steps": taken},
            },
            "training": dict(stored.get("training") or {}),
        },
    }
