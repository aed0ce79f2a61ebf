"""A text and what each of its tokens cost."""

from dataclasses import dataclass

import numpy as np

from lmzoo.metrics import bits_per, perplexity


@dataclass(frozen=True, eq=False)
class Score:
    """A text and what each of its n tokens cost; arrays are (n,).

    Attributes:
        text: what was scored.
        nll: nats, float64; NaN for a first token that is not scored.
        chars: characters that each token stands for; they add up to the text.
        bytes: the same in UTF-8 bytes.
        first: index of the first scored token, 0 or 1.
        first_rule: what the first token is predicted from, in words.
        context: what the other tokens are predicted from, in words.
        ids: token ids; None in an imported column.
        rank: 1 where the token was the likeliest, 0 where it is not scored; or None.
        unknown: which tokens stand for a symbol that the vocabulary lacks; or None.
        top: ids and log-probabilities (nats) of the k likeliest tokens at each place,
            each (n, k); the row of a token that is not scored is empty of meaning.
    """

    text: str
    nll: np.ndarray
    chars: np.ndarray
    bytes: np.ndarray
    first: int
    first_rule: str
    context: str
    ids: np.ndarray | None = None
    rank: np.ndarray | None = None
    unknown: np.ndarray | None = None
    top: tuple[np.ndarray, np.ndarray] | None = None

    @property
    def tokens(self) -> int:
        """Tokens scored."""
        return len(self.nll) - self.first

    @property
    def nats(self) -> float:
        """Total surprise of the scored tokens."""
        return float(self.nll[self.first :].sum())

    def totals(self) -> dict[str, float]:
        """Sums over the scored tokens, and what follows from them."""
        nats = self.nats
        chars, sizes = (float(x[self.first :].sum()) for x in (self.chars, self.bytes))
        return {
            "tokens": self.tokens,
            "characters": round(chars),
            "bytes": round(sizes),
            "unknown": 0 if self.unknown is None else int(self.unknown.sum()),
            "nats": nats,
            "bits": bits_per(nats, 1),
            "perplexity": perplexity(nats / self.tokens),
            "bits_per_char": bits_per(nats, chars),
            "bits_per_byte": bits_per(nats, sizes),
        }

    def pieces(self, limit: int | None = None) -> list[str]:
        """The part of the text that each token stands for; joined they are the text.

        A character that is split among tokens stands at the first of them.
        """
        ends = np.cumsum(self.chars[:limit]).round().astype(int).tolist()
        return [self.text[a:b] for a, b in zip([0, *ends], ends, strict=False)]

    def column(self, name: str) -> dict[str, str | list[str] | list[float | None]]:
        """The score as ``imported`` reads it: name, tokens and their logprobs."""
        logprobs = [None] * self.first + (0.0 - self.nll[self.first :]).tolist()
        return {"name": name, "tokens": self.pieces(), "logprobs": logprobs}
