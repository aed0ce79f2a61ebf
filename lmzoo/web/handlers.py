"""What the page answers: from what a visitor gave to HTML, without a web server."""

import logging
import time
from collections.abc import Callable, Iterator

from lmzoo.analysis.attributions import METHODS
from lmzoo.analysis.probes.attribution import attribution
from lmzoo.classification import classify
from lmzoo.errors import UsageError
from lmzoo.generation import Continuation, continue_text
from lmzoo.scoring import next_tokens
from lmzoo.scoring.columns import column, trained_on
from lmzoo.web import training, views
from lmzoo.web.limits import Limits
from lmzoo.web.shelf import Shelf, chosen

FRAME = 0.05  # seconds between two states of a text that is being written
ALTERNATIVES = 5  # likeliest tokens that a scored token tells of
UNNAMED = "this did not work, and the fault is not yours; the terminal says more"

log = logging.getLogger("lmzoo.web")


class Desk:
    """Answers over a shelf of runs, each within the limits.

    Every method takes what a request held, which may be anything, and raises UsageError
    where that is no answerable question.

    Args:
        shelf: the runs.
        limits: of each request.
    """

    def __init__(self, shelf: Shelf, limits: Limits) -> None:
        self.shelf, self.limits = shelf, limits

    def generate(
        self,
        name: str,
        prompt: str,
        temperature: float,
        top_k: float,
        top_p: float,
        length: float,
        seed: float,
        stop: str,
    ) -> Iterator[str]:
        """A text in the making: each item is all of it so far."""
        run = self.shelf[name].run
        self.limits.require_text(prompt, "the prompt")
        ends = self.limits.require_text(stop, "the stop string").replace("\\n", "\n")
        made = continue_text(
            run.model,
            run.tokenizer,
            prompt,
            max_new_tokens=self._length(length),
            temperature=number(temperature, "the temperature"),
            top_k=min(whole(top_k, "top-k"), run.model.vocab_size),
            top_p=number(top_p, "top-p"),
            seed=whole(seed, "the seed"),
            stop=ends or None,
        )
        yield from self._writing(prompt, made)

    def _length(self, given: float) -> int:
        tokens = whole(given, "the length")
        if tokens > self.limits.new_tokens:
            raise UsageError(
                f"the length is {tokens:,} tokens; this page makes "
                f"{self.limits.new_tokens:,} at most"
            )
        return tokens

    def _writing(self, prompt: str, made: Continuation) -> Iterator[str]:
        """The text while it grows, some times a second, and once it has ended."""
        (sample,), deadline = made.samples, self.limits.deadline()
        started = shown = time.monotonic()
        for _ in made:
            now = time.monotonic()
            if deadline.over:
                sample.ended = f"time limit of {deadline.seconds:g} s"
                break
            if now - shown >= FRAME:
                shown = now
                yield views.written(prompt, sample.text, made.notes, done=False)
        seconds, count = time.monotonic() - started, len(sample.tokens)
        speed = f"{count / max(seconds, 1e-9):,.0f} a second"
        foot = f"{count:,} tokens, {speed}; ended by: {sample.ended or 'length'}"
        yield views.written(prompt, sample.text, [foot, *made.notes], done=True)

    def score(self, names: list[str], text: str) -> str:
        """What each token of a text costs each model."""
        wanted = chosen(names, self.shelf.writers, "runs")
        if not self.limits.require_text(text):
            return views.hint("Type a text to see what each of its tokens costs.")
        deadline, columns = self.limits.deadline(), []
        for name in wanted:
            run = self.shelf[name].run
            with deadline.bounding(run.model):
                seen = column(name, run.model, run.tokenizer, text, top_k=ALTERNATIVES)
            seen.notices += trained_on(self.shelf.spans[name], text)
            columns.append(seen)
        return views.surprise(columns)

    def expect(self, names: list[str], text: str, k: float) -> str:
        """The likeliest next tokens of each model."""
        wanted = chosen(names, self.shelf.writers, "runs")
        self.limits.require_text(text)
        most = min(max(1, whole(k, "the number of tokens")), 50)
        deadline, found, unknown = self.limits.deadline(), {}, []
        for name in wanted:
            run = self.shelf[name].run
            if not text and run.tokenizer.start_id is None:
                unknown.append(
                    f"{name} has no token that a text starts after: type one"
                )
                continue
            with deadline.bounding(run.model):
                found[name] = next_tokens(run.model, run.tokenizer, text, most)
            if missing := run.tokenizer.first_unknown(text):
                unknown.append(f"{name} does not know {missing!r}: it is read as <unk>")
        if not found:
            return views.hint("Type a text to see what each model expects next.")
        return views.chances(found, unknown)

    def attribute(self, name: str, prompt: str, target: str, methods: list[str]) -> str:
        """Which tokens of a prompt matter to the next one."""
        history = self.shelf[name]
        self.limits.require_text(prompt, "the prompt")
        self.limits.require_text(target, "the token in question")
        wanted = chosen(methods, METHODS, "methods")
        length = len(history.tokenizer.encode(prompt))
        if length > self.limits.positions:
            raise UsageError(
                f"the prompt has {length:,} tokens; this page attributes "
                f"{self.limits.positions:,} at most"
            )
        with self.limits.deadline().bounding(history.run.model):
            found = attribution(
                history,
                prompt=prompt,
                target=target,
                methods=",".join(wanted),
                checkpoints="best",
            )
        return views.influence(found.data, found.text, found.notes)

    def train(self, name: str) -> str:
        """How a run was trained."""
        folder = self.shelf[name].folder
        drawn = training.charts(folder) if folder else []
        if not folder or not drawn:
            return views.hint(f"{name} holds no training log.")
        return views.facts(training.figures(folder), drawn)

    def classify(self, names: list[str], text: str) -> str:
        """Labels and scores of a text by each classifier."""
        wanted = chosen(names, self.shelf.labellers, "classifiers")
        if not self.limits.require_text(text).strip():
            return views.hint("Type a sentence to see its label.")
        deadline, found = self.limits.deadline(), {}
        for name in wanted:
            run = self.shelf[name].run
            with deadline.bounding(run.member):
                (said,) = classify(run, [text])
            found[name] = said.scores
        return views.labelled(found)

    # ---- mistakes -----------------------------------------------------------------

    def told(self, error: Exception) -> str:
        """A mistake as HTML; what is not the visitor's goes to the log, unnamed."""
        if not isinstance(error, UsageError):
            log.error("a request failed", exc_info=error)
            return views.problem(UNNAMED)
        line = " ".join(str(error).split())
        for name in self.shelf.names:  # a visitor has no use for paths of this machine
            line = line.replace(str(self.shelf[name].path), name)
        return views.problem(line)

    def answering(self, answer: Callable[..., str]) -> Callable[..., str]:
        """``answer`` with mistakes as HTML."""

        def asked(*given: object) -> str:
            try:
                return answer(*given)
            except Exception as error:  # the visitor is told, whatever it is
                return self.told(error)

        return asked

    def streaming(
        self, answer: Callable[..., Iterator[str]]
    ) -> Callable[..., Iterator[str]]:
        """The same for an answer that comes bit by bit."""

        def asked(*given: object) -> Iterator[str]:
            try:
                yield from answer(*given)
            except Exception as error:  # the visitor is told, whatever it is
                yield self.told(error)

        return asked


def number(value: object, what: str) -> float:
    """A number as such.

    Raises:
        UsageError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UsageError(f"{what} must be a number")
    return float(value)


def whole(value: object, what: str) -> int:
    """A whole number that is not negative.

    Raises:
        UsageError: it is none.
    """
    given = number(value, what)
    if not given.is_integer() or given < 0:
        raise UsageError(f"{what} must be a whole number, 0 or more")
    return int(given)
