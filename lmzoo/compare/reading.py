"""``results.json`` as rows: cells of one label together, ranked and compared.

Everything that a report, a table or a sentence says is read from here, so that they
say the same.
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from lmzoo.compare.statistics import Measured, Pair, compare, ranks
from lmzoo.report.spread import Spread, spread
from lmzoo.report.words import NONE
from lmzoo.training.budget import TOLERANCE

UNITS = {"bits_per_char": "bits per character", "bits_per_byte": "bits per byte"}
COUNTS = {"bits_per_char": "block_chars", "bits_per_byte": "block_bytes"}

Cell = Mapping[str, Any]


@dataclass
class Row:
    """All seeds of one label.

    Attributes:
        cells: finished ones with a figure, by seed.
        missing: failed, excluded, waiting, or finished without a finite figure.
        figure: the ranked figure over seeds.
        place: first and last possible rank; None where nothing can be ranked.
    """

    label: str
    cells: list[Cell]
    missing: list[Cell]
    unit: str
    figure: Spread
    place: tuple[int, int] | None = None
    first: Cell = field(init=False)

    def __post_init__(self) -> None:
        self.first = [*self.cells, *self.missing][0]

    def __getattr__(self, name: str) -> Any:
        """What is the same for all seeds: model, mark, corpus, tokenizer ..."""
        if name in ("model", "mark", "corpus", "tokenizer", "axes"):
            return self.first.get(name) or ({} if name == "axes" else "")
        raise AttributeError(name)

    @property
    def unranked(self) -> str:
        """Why it stands below the ranked rows; nothing if it does not."""
        if self.mark == "exhibit":
            return "exhibit"
        return "off budget" if any(map(off_budget, self.cells)) else ""

    @property
    def remark(self) -> str:
        """What is said behind the label."""
        return self.unranked or self.mark

    @property
    def unknown(self) -> float:
        """Share of the validation tokens that the vocabulary lacks."""
        return pick(self.first, "oov_share") or 0.0

    @property
    def coded(self) -> tuple[str, str]:
        """What was coded: a text, and what cut it where that lost something."""
        return self.corpus, self.tokenizer if self.unknown else ""

    @property
    def rank(self) -> str:
        """``1`` or ``2–4``; nothing where nothing can be ranked."""
        first, last = self.place or ("", "")
        return f"{first}" if first == last else f"{first}{NONE}{last}"

    def values(self, *path: str) -> list[float]:
        """One figure of every seed that has it: ``values("best", "nll")``."""
        return [v for v in (pick(cell, *path) for cell in self.cells) if v is not None]

    def mean(self, *path: str) -> float | None:
        """Mean over the seeds that have it."""
        found = self.values(*path)
        return sum(found) / len(found) if found else None

    def seconds_to(self, target: float) -> list[float]:
        """Training seconds until a check first reached ``target``; a seed each."""
        found = (reached(cell, self.unit, target) for cell in self.cells)
        return [one for one in found if one is not None]


def pick(cell: Cell, *path: str) -> float | None:
    """A finite number along a path of keys, or None."""
    found: Any = cell
    for key in path:
        found = found.get(key) if isinstance(found, Mapping) else None
    number = isinstance(found, int | float) and not isinstance(found, bool)
    return float(found) if number and math.isfinite(found) else None


def level(cell: Cell, point: Mapping[str, Any], unit: str) -> float | None:
    """Bits per unit at one check of the curve, which may know only characters."""
    found = pick(point, unit)
    if found is None and unit == "bits_per_byte":
        chars, best = pick(point, "bits_per_char"), cell.get("best") or {}
        both = pick(best, "bits_per_byte"), pick(best, "bits_per_char")
        if chars is not None and both[0] and both[1]:
            return chars * both[0] / both[1]
    return found


def reached(cell: Cell, unit: str, target: float) -> float | None:
    """Seconds until the first check at or below ``target``; None if it never was."""
    if cell.get("mark") == "counting":  # in one go
        best = pick(cell, "best", unit)
        return pick(cell, "seconds") if best is not None and best <= target else None
    for point in cell.get("curve") or []:
        now = level(cell, point, unit)
        if now is not None and now <= target:
            return pick(point, "seconds")
    return None


def context(cell: Cell) -> str:
    """What a prediction of this cell could see: ``64 tokens``, ``carried state``.

    A window's length stands in the protocol; ``context_length`` may be only the length
    of a training window.
    """
    protocol = str(cell.get("protocol") or "")
    if protocol.startswith("state carried"):
        return "carried state"
    found = re.search(r"windows? of ([\d,]+)", protocol)
    length = found.group(1) if found else cell.get("context_length")
    return f"{length} tokens" if length else "not stated"


def off_budget(cell: Cell) -> bool:
    """Whether a cell trained for another time than its budget of seconds."""
    return abs(pick(cell, "deviation") or 0) > TOLERANCE


def text_of(cell: Cell) -> str:
    """What tells validation texts apart: the hash of one, or the corpus's name."""
    return str((cell.get("text") or {}).get("val_text_sha256") or cell.get("corpus"))


def named_by_text(cells: Iterable[Cell]) -> list[Cell]:
    """The cells, where two texts have one name (files, splits) with a name for each."""
    cells = list(cells)
    texts = {cell.get("corpus"): set[str]() for cell in cells}
    for cell in cells:
        texts[cell.get("corpus")].add(text_of(cell))
    return [
        {**cell, "corpus": f"{cell['corpus']} #{text_of(cell)[:6]}"}
        if len(texts[cell.get("corpus")]) > 1
        else cell
        for cell in cells
    ]


class Comparison:
    """Rows in reading order, pairs, floors and what they are measured in."""

    def __init__(self, results: Mapping[str, Any]) -> None:
        self.results = results
        self.cells: list[Cell] = named_by_text(results.get("cells") or [])
        self.tokenizers = distinct(cell.get("tokenizer") for cell in self.cells)
        self.corpora = distinct(cell.get("corpus") for cell in self.cells)
        seeds = distinct(cell["seed"] for cell in self.cells)
        self.asked: list[int] = results.get("seeds") or seeds
        mixed = len(self.tokenizers) > 1 or len(self.corpora) > 1
        self.unit = "bits_per_byte" if mixed else "bits_per_char"
        self.unit_words = UNITS[self.unit]
        labels = distinct(cell["label"] for cell in self.cells)
        every = [self._row(label) for label in labels]
        self.exhibits = [row for row in every if row.cells and row.unranked]
        broken = [row for row in every if row.mark == "exhibit"]
        self.shown = [*broken, *(row for row in self.exhibits if row not in broken)]
        self.without = [row for row in every if not row.cells]
        ranked = [row for row in every if row.cells and not row.unranked]
        whole = {row.corpus for row in ranked if not row.unknown}
        self.lossy = [row for row in ranked if row.unknown and row.corpus in whole]
        self.rows = sorted(
            ranked,
            key=lambda row: (
                self.corpora.index(row.corpus), row in self.lossy, row.figure.mean
            ),
        )  # fmt: skip
        self.pairs: list[Pair] = self._pairs()

    def _row(self, label: str) -> Row:
        cells = [cell for cell in self.cells if cell["label"] == label]
        usable = [
            cell
            for cell in cells
            if cell.get("status") == "done"
            and pick(cell, "best", self.unit) is not None
        ]
        kept = [cell for cell in usable if not off_budget(cell)]
        usable = kept or usable  # none kept it: the row is shown, and not ranked
        missing = [cell for cell in cells if cell not in usable]
        values = [pick(cell, "best", self.unit) or math.nan for cell in usable]
        figure = spread(values)
        if len(values) == 1 < len(self.asked) and usable[0].get("mark") == "counting":
            figure = Spread(figure.values, values[0], 0.0, (values[0], values[0]))
        return Row(label, usable, missing, self.unit, figure)

    def _pairs(self) -> list[Pair]:
        """Pairs on the same text; ranks are set on the way."""
        texts = self.groups()
        pairs = compare(*(self._samples(rows) for rows in texts))
        for rows in texts:
            places = ranks({row.label: row.figure for row in rows}, pairs)
            for row in rows:
                row.place = None if row in self.lossy else places[row.label]
        return pairs

    def groups(self) -> list[list[Row]]:
        """Rows that are compared with one another: one text, wholly coded or not.

        A tokenizer with unknown words codes less than the text, so its models compare
        among themselves only.
        """
        keys = distinct(row.coded for row in self.rows)
        return [[row for row in self.rows if row.coded == key] for key in keys]

    def _samples(self, rows: list[Row]) -> dict[str, dict[int, Measured]]:
        samples = {}
        for row in rows:
            own = {cell["seed"]: self._measured(cell) for cell in row.cells}
            if row.mark == "counting" and len(own) == 1:  # no seed changes a count
                own = dict.fromkeys(self.asked, next(iter(own.values())))
            samples[row.label] = own
        return samples

    def _measured(self, cell: Cell) -> Measured:
        bits = [float(nats) / math.log(2) for nats in cell.get("blocks") or []]
        units = [float(n) for n in cell.get(COUNTS[self.unit]) or []]
        figure = pick(cell, "best", self.unit) or math.nan
        whole = len(bits) == len(units) > 0 and all(u > 0 for u in units)
        if not whole or not all(map(math.isfinite, bits)):
            bits = units = []
        return Measured(figure, tuple(bits), tuple(units))

    @property
    def seeds(self) -> int:
        """The most seeds that a label has finished."""
        return max((len(row.cells) for row in self.rows), default=0)

    @property
    def best(self) -> Row | None:
        """The true minimum; None while nothing is done."""
        return self.rows[0] if self.rows else None

    def pair(self, one: str, other: str) -> Pair | None:
        """The pair of two labels, in the order it was made."""
        both = {one, other}
        return next((p for p in self.pairs if {p.one, p.other} == both), None)

    def texts(self, corpus: str | None = None) -> list[Mapping[str, Any]]:
        """What was measured on: ``corpus``, ``text``, ``tokenizer``, ``floors``."""
        only = {key: self.results.get(key) or {} for key in ("text", "floors")}
        name = self.corpora[0] if self.corpora else only["text"].get("name")
        every = [{"corpus": name, "tokenizer": "", **only}]
        if self.results.get("texts"):
            names = {text_of(cell): cell.get("corpus") for cell in self.cells}
            every = [
                {**one, "corpus": names.get(one["text"]["val_text_sha256"])}
                for one in self.results["texts"]
            ]
        return [one for one in every if corpus in (None, one["corpus"])]

    def floor_rows(self, corpus: str) -> dict[str, Mapping[str, Any]]:
        """Name -> figures on one text; by tokenizer too where there are several."""
        texts, rows = self.texts(corpus), {}
        for one in texts:
            for name, figures in (one["floors"] or {}).items():
                packed = pick(figures, "nll") is None  # the same however it is cut
                more = "" if packed or len(texts) == 1 else f" ({one['tokenizer']})"
                rows.setdefault(f"{name}{more}", figures)
        return rows

    def floors(self, corpus: str | None = None) -> dict[str, float]:
        """Name -> figure in the ranked unit; without a corpus, of the only one."""
        if corpus is None and len(self.corpora) != 1:
            return {}
        rows = self.floor_rows(corpus or self.corpora[0])
        found = {name: pick(row, self.unit) for name, row in rows.items()}
        return {name: value for name, value in found.items() if value is not None}

    def counted_floor(self, corpus: str | None = None) -> tuple[str, float] | None:
        """The lowest floor that counting reaches (compressors are apart)."""
        values = self.floors(corpus)
        if values:
            rows = self.floor_rows(corpus or self.corpora[0])
            values = {k: v for k, v in values.items() if pick(rows[k], "nll")}
        return min(values.items(), key=lambda one: one[1]) if values else None

    def protocols(self) -> list[str]:
        """Distinct protocols, in the order of the rows."""
        rows = [*self.rows, *self.exhibits]
        return distinct(
            c.get("protocol") or "not stated" for r in rows for c in r.cells
        )

    def budget(self) -> str:
        """``60 seconds``, ``2,000 steps`` ... a model."""
        return spent(self.results.get("budget") or {})

    def search(self) -> str:
        """``15 went to the search ...``; "" where no rate was searched for."""
        budget, tuned = self.results.get("budget") or {}, self.results.get("tuned")
        value, share = pick(budget, "value"), pick(tuned or {}, "share")
        trials = int(pick(tuned or {}, "trials") or 0)
        if not trials or value is None or share is None:
            return ""
        used = share * value
        if budget.get("kind") in ("steps", "tokens"):  # whole ones in every trial
            used = trials * int(used / trials)
        of = f"{trials} trials" if trials > 1 else "1 trial"
        return f"{_amount(used)} went to the search of a learning rate ({of})"


def spent(budget: Mapping[str, Any]) -> str:
    """``60 seconds``, ``1,000,000 steps``, ``1.5e+12 training FLOPs``."""
    value, kind = budget.get("value"), str(budget.get("kind") or "")
    if not isinstance(value, int | float):
        return "its own budget"
    if kind == "flops":
        return f"{value:.3g} training FLOPs"
    return f"{_amount(value)} {kind if value != 1 else kind.removesuffix('s')}"


def _amount(value: float) -> str:
    """``60``, ``2,000``, ``7.5``, ``3e+12``."""
    if value >= 1e10:
        return f"{value:.3g}"
    return f"{value:,.0f}" if value == int(value) else f"{round(value, 2):,}"


def distinct(values: Iterable[Any]) -> list[Any]:
    """Each once, in order of appearance."""
    return list(dict.fromkeys(values))


def styles(found: Comparison) -> dict[str, int]:
    """Label -> the style it has in every figure."""
    rows = sorted([*found.rows, *found.exhibits], key=lambda row: row.label)
    return {row.label: i for i, row in enumerate(rows)}
