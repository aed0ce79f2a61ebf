"""What a run expects at every checkpoint: after a prompt, and along whole texts."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from lmzoo.analysis.distributions import Path, along, greedy, hardened
from lmzoo.analysis.history import History
from lmzoo.analysis.passes import (
    Passage,
    half_width,
    held_out,
    passage,
    uncertainty,
)
from lmzoo.analysis.prompts import Prompt
from lmzoo.analysis.texts import text_for
from lmzoo.generation import never_made
from lmzoo.text.datamodule import TextDataModule


@dataclass(frozen=True)
class Text:
    """A text whose predictions are measured at every checkpoint."""

    name: str  # as a line of a chart is called
    split: str
    data: TextDataModule
    where: Passage


@dataclass
class Looks:
    """What was seen at each checkpoint, by step."""

    own: dict[int, Path] = field(default_factory=dict)
    fixed: dict[int, Path] = field(default_factory=dict)  # along the last one's choices
    texts: dict[str, dict[int, dict[str, float | None]]] = field(default_factory=dict)

    @property
    def steps(self) -> list[int]:
        """Of the checkpoints, ascending."""
        return sorted(self.own)

    @property
    def last(self) -> Path:
        """The continuation of the newest checkpoint."""
        return self.own[self.steps[-1]]

    @property
    def settled(self) -> list[int | None]:
        """From where the first 1, 2, ... characters stay; None: not before the last."""
        steps = self.steps
        return hardened(steps, [self.own[step].tokens for step in steps])


def texts_for(history: History, tokens: int, corpus: str) -> list[Text]:
    """The run's own held-out text, and another corpus's, if asked for.

    Args:
        history: the run.
        tokens: of each text; 0 for none.
        corpus: a name or path; "" for the run's own text alone.

    Raises:
        UsageError: a text that cannot be found, or has no held-out part.
    """
    if not tokens:
        return []
    found, model = [], history.run.model
    for which in ["", corpus] if corpus else [""]:
        data = text_for(history.run, which)
        split = held_out(data)
        where = passage(model, data, split, tokens)
        found.append(Text(data.corpus_name, split, data, where))
    if corpus and found[0].name == found[1].name:
        found[1] = Text(corpus, found[1].split, found[1].data, found[1].where)
    return found


def look(
    history: History, given: Prompt, count: int, texts: Sequence[Text] = ()
) -> Looks:
    """Look at every kept checkpoint; each is loaded once, the newest first.

    Args:
        history: the run.
        given: the prompt.
        count: tokens to continue it with.
        texts: to average the entropy over.
    """
    looks, last = Looks(texts={text.name: {} for text in texts}), None
    banned = never_made(history.run.model, history.tokenizer)
    for step in reversed(history.steps):
        model = history.at(step)
        looks.own[step] = greedy(model, given.tokens, count, banned)
        last = last or looks.own[step].tokens
        looks.fixed[step] = along(model, given.tokens, last)
        for text in texts:
            entropy, cost = uncertainty(model, text.where)
            looks.texts[text.name][step] = {
                "entropy": float(entropy.mean()),
                "half_width": half_width(entropy),
                "cross_entropy": float(cost.mean()),
            }
    return looks
