"""Text in, text out: prompts, whole characters, stop strings."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypedDict, Unpack

import torch
from torch import Tensor

from lmzoo.errors import UsageError
from lmzoo.generation.decoding import (
    check_count,
    check_sampling,
    first_seen,
    generate,
)
from lmzoo.models.base import LanguageModel
from lmzoo.text.protocol import REPLACEMENT, Tokenizer

MOST_TOKENS = 1_000_000  # of one sample
MOST_SAMPLES = 10_000


class Sampling(TypedDict, total=False):
    """Options of ``generate`` that ``continue_text`` hands on."""

    temperature: float
    top_k: int
    top_p: float
    repetition_penalty: float
    cache: bool


@dataclass
class Sample:
    """One continuation so far: its new tokens, its text, and what ended it."""

    seed: int
    tokens: list[int] = field(default_factory=list)
    text: str = ""
    ended: str = ""  # "length", "stop string" or "end of document"; "": not yet


@dataclass
class Continuation:
    """Samples in the making: iterate for (number of the sample, piece of its text).

    Attributes:
        prompt: token ids that the model is given.
        notes: what a reader should know of the prompt, one line each.
        samples: filled while iterating.
    """

    prompt: list[int]
    notes: list[str]
    samples: list[Sample]
    _pieces: Iterator[tuple[int, str]]

    def __iter__(self) -> Iterator[tuple[int, str]]:
        return self._pieces


def continue_text(
    model: LanguageModel,
    tokenizer: Tokenizer,
    prompt: str = "",
    *,
    num_samples: int = 1,
    max_new_tokens: int = 200,
    stop: str | Sequence[str] | None = None,
    seed: int = 42,
    **sampling: Unpack[Sampling],
) -> Continuation:
    """Continue a text; pieces come as they are made, whole characters only.

    The text starts after ``tokenizer.start_id``; where there is none and the prompt is
    empty, after a line break if the vocabulary has one, else after token 0. The unknown
    token and what only starts a text are never made; the end of a document ends a
    sample. Of a prompt longer than the model's window its end is seen.

    Args:
        model: any member of the zoo.
        tokenizer: the one it was trained with.
        prompt: the text to continue.
        num_samples: continuations, made side by side; sample i has seed ``seed + i``.
        max_new_tokens: tokens of each sample at most; 0 makes none.
        stop: a sample ends before the first of these strings in its new text.
        seed: of sample 0.
        sampling: temperature, top_k, top_p, repetition_penalty, cache: ``generate``.

    Raises:
        UsageError: an argument out of its range, or a tokenizer of another model.
    """
    if not isinstance(prompt, str):
        raise UsageError(f"a prompt is text, given a {type(prompt).__name__}")
    check_count("num_samples", num_samples, 1, MOST_SAMPLES)
    check_count("max_new_tokens", max_new_tokens, 0, MOST_TOKENS)
    stops = [stop] if isinstance(stop, str) else list(stop or [])
    if "" in stops:
        raise UsageError("a stop string must have a character, given an empty one")
    ids, notes = _read_prompt(model, tokenizer, prompt)
    tokens = torch.tensor(ids, device=model.device).expand(num_samples, -1)
    check_sampling(model, tokens, seed=seed, **sampling)
    banned = never_made(model, tokenizer)
    stream = generate(model, tokens, seed=seed, banned=banned, **sampling)
    samples = [Sample(seed + i) for i in range(num_samples)]
    before = ids if prompt else []  # what starts a text is not part of it
    writers = [_Writer(sample, tokenizer, before, stops) for sample in samples]
    pieces = _write(islice(stream, max_new_tokens), writers)
    return Continuation(ids, notes, samples, pieces)


def generate_texts(
    model: LanguageModel, tokenizer: Tokenizer, prompt: str = "", **options: Any
) -> list[str]:
    """The continuations of ``prompt``, without it; options as of ``continue_text``."""
    continuation = continue_text(model, tokenizer, prompt, **options)
    for _ in continuation:
        pass
    return [sample.text for sample in continuation.samples]


class Decoder:
    """Tokens to text one by one: the pieces join to the text of all, no half character.

    A token's text may depend on those before it, so a few are decoded again with each;
    text is held back while it ends in an incomplete character.

    Args:
        tokenizer: whose tokens these are.
        before: tokens that stand before the text.
    """

    def __init__(self, tokenizer: Tokenizer, before: Sequence[int] = ()) -> None:
        self._decode = tokenizer.decode
        self._told = list(before)[-8:]  # decoded before, and what is decoded with them
        self._held: list[int] = []

    def feed(self, token: int) -> str:
        """What can be said after this token; "" while a character is incomplete."""
        self._held.append(token)
        text = self._text()
        if text.endswith(REPLACEMENT):
            return ""
        self._told, self._held = self._held, []
        return text

    def flush(self) -> str:
        """What was held back; U+FFFD stands for an incomplete character."""
        text = self._text() if self._held else ""
        self._held = []
        return text

    def _text(self) -> str:
        return self._decode(self._told + self._held)[len(self._decode(self._told)) :]


class _Writer:
    """Fills one sample, token by token, and says what can be shown of it."""

    def __init__(
        self, sample: Sample, tokenizer: Tokenizer, prompt: list[int], stops: list[str]
    ) -> None:
        self.sample, self.stops, self._end = sample, stops, tokenizer.eod_id
        self._decoder, self._held = Decoder(tokenizer, prompt), ""

    def feed(self, token: int) -> str:
        """The new text that no stop string can take back."""
        if token == self._end:
            return self.finish("end of document")
        self.sample.tokens.append(token)
        return self._show(self._decoder.feed(token), last=False)

    def finish(self, why: str) -> str:
        """The rest of the text."""
        self.sample.ended = why
        return self._show(self._decoder.flush(), last=True)

    def _show(self, piece: str, last: bool) -> str:
        text = self._held + piece
        found = [place for stop in self.stops if (place := text.find(stop)) >= 0]
        if found:
            self.sample.ended, shown = "stop string", text[: min(found)]
        else:
            begun = [] if last else [_overlap(text, stop) for stop in self.stops]
            shown = text[: len(text) - max(begun, default=0)]
        self._held = text[len(shown) :]
        self.sample.text += shown
        return shown


def _write(
    stream: Iterator[Tensor], writers: list[_Writer]
) -> Iterator[tuple[int, str]]:
    """Feed each writer its token until all have ended."""
    for tokens in stream:
        for i, token in enumerate(tokens.tolist()):
            if not writers[i].sample.ended and (piece := writers[i].feed(token)):
                yield i, piece
        if all(writer.sample.ended for writer in writers):
            return
    for i, writer in enumerate(writers):
        if not writer.sample.ended and (piece := writer.finish("length")):
            yield i, piece


def _overlap(text: str, stop: str) -> int:
    """How many characters at the end of ``text`` may be the beginning of ``stop``."""
    longest = min(len(stop) - 1, len(text))
    return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)


def never_made(model: LanguageModel, tokenizer: Tokenizer) -> list[int]:
    """Ids never to be made: unknown, what only starts a text, what is no token."""
    special = {tokenizer.unk_id, tokenizer.start_id} - {tokenizer.eod_id, None}
    spare = range(tokenizer.vocab_size, model.vocab_size)
    return [token for token in (*special, *spare) if token is not None]


def _read_prompt(
    model: LanguageModel, tokenizer: Tokenizer, text: str
) -> tuple[list[int], list[str]]:
    """Token ids to feed, and notes about them."""
    if tokenizer.vocab_size > model.vocab_size:
        raise UsageError(
            f"the tokenizer has {tokenizer.vocab_size:,} tokens, the model only "
            f"{model.vocab_size:,}; use the tokenizer that it was trained with"
        )
    ids, notes = tokenizer.encode(text).tolist(), []
    unknown = 0 if tokenizer.unk_id is None else ids.count(tokenizer.unk_id)
    if unknown:
        what = {"char": "characters", "word": "words"}.get(tokenizer.kind, "tokens")
        first = tokenizer.first_unknown(text)
        named = f" (the first: {first!r})" if first else ""
        notes.append(
            f"{what} of the prompt that the vocabulary lacks, read as unknown: "
            f"{unknown:,}{named}"
        )
    if tokenizer.start_id is not None:
        ids = [tokenizer.start_id, *ids]
    elif not ids:
        line_break = tokenizer.encode("\n").tolist()
        known = len(line_break) == 1 and line_break[0] != tokenizer.unk_id
        ids = line_break if known else [0]
    if left_out := first_seen(model, len(ids)):
        halves = "" if model.window else " (past its edge a context moves on by halves)"
        notes.append(
            f"the prompt has {len(ids):,} tokens; the model sees the last "
            f"{len(ids) - left_out:,}{halves}"
        )
    return ids, notes
