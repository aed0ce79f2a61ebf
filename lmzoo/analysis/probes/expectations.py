"""What a run expects at every checkpoint: after a prompt, and along whole texts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from lmzoo.analysis.history import History
from lmzoo.analysis.passes import (
    Passage,
    half_width,
    held_out,
    passage,
    uncertainty,
)
from lmzoo.analysis.probes.distributions import Path, along, greedy, hardened
from lmzoo.analysis.prompts import Prompt
from lmzoo.analysis.texts import text_for
from lmzoo.errors import UsageError
from lmzoo.generation import never_made
from lmzoo.report.words import visible
from lmzoo.text.datamodule import TextDataModule

Names = Callable[[int], str]  # how a token reads


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
    own, other = (text.data.describe()["sha256"] for text in (found[0], found[-1]))
    if corpus and own == other:
        raise UsageError(
            f"--corpus {corpus} is the text that the run was trained on; name another, "
            f"or leave it out"
        )
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


def unit(history: History) -> str:
    """What one step of a continuation is, in words."""
    return "character" if history.tokenizer.kind == "char" else "token"


# ---- numbers -------------------------------------------------------------------------


def rows_of(looks: Looks, top: int, names: Names) -> list[dict[str, Any]]:
    """The ``top`` likeliest at each place of each checkpoint, as a flat table."""
    found = []
    for step in looks.steps:
        path = looks.own[step]
        for place, entropy in enumerate(path.entropies.tolist()):
            before = "".join(names(token) for token in path.tokens[:place])
            for rank, (token, p) in enumerate(path.top(place, top), start=1):
                found.append(
                    {
                        "step": step,
                        "position": place + 1,
                        "after": visible(before),
                        "rank": rank,
                        "token": visible(names(token)),
                        "probability": p,
                        "entropy_bits": entropy,
                    }
                )
    return found


def data_of(
    history: History,
    looks: Looks,
    given: Prompt,
    names: Names,
    texts: Sequence[Text],
) -> dict[str, Any]:
    """All that was measured, JSON-plain."""
    return {
        "run": str(history.path),
        "prompt": given.text,
        "unit": "bits",
        "final_choices": [names(token) for token in looks.last.tokens],
        "hardened_at": looks.settled,
        "checkpoints": [
            {
                "step": step,
                "continuation": "".join(names(t) for t in looks.own[step].tokens),
                "entropies": looks.own[step].entropies.tolist(),
                "mean_entropy": float(looks.own[step].entropies.mean()),
                "final_choice_probabilities": looks.fixed[step].chosen.tolist(),
                "texts": {text.name: looks.texts[text.name][step] for text in texts},
            }
            for step in looks.steps
        ],
        "texts": [
            {
                "name": text.name,
                "split": text.split,
                "tokens": len(text.where.targets),
                "domain": "out" if i else "in",
                "unknown": text.data.describe()["splits"][text.split]["oov_share"],
            }
            for i, text in enumerate(texts)
        ],
    }
