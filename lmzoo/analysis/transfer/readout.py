"""What a matrix of losses says, in sentences."""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

from lmzoo.analysis.transfer.passes import difference, same_text
from lmzoo.report.words import listed, percent

SHORT = 0.99  # coverage below which a comparison is said to be lame


def readout(cells: Sequence[Any]) -> list[str]:
    """Sentences on one split: the diagonal, the rows, what cannot be told apart.

    Args:
        cells: of ``matrix``; each has ``model``, ``corpus``, ``home``, ``losses``.
    """
    return [
        *_diagonal(cells),
        *_rows(cells),
        *_ties(cells),
        *_lame(cells),
    ]


def _bits(cell: Any) -> float:
    return cell.losses.bits_per_char


def _columns(cells: Sequence[Any]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for cell in cells:
        found.setdefault(cell.corpus, []).append(cell)
    return found


def _diagonal(cells: Sequence[Any]) -> list[str]:
    """Whether each corpus is easiest for the model that was trained on it."""
    holds, broken = [], []
    for corpus, column in _columns(cells).items():
        home = [cell for cell in column if cell.home]
        if not home or len(column) < 2:
            continue
        best = min(column, key=_bits)
        if best.home:
            holds.append(corpus)
        else:
            own = min(home, key=_bits)
            broken.append(
                f"on {corpus}, {best.model} loses {_bits(best):.3f} bits per character "
                f"and its own model {own.model} {_bits(own):.3f}"
            )
    if not holds and not broken:
        return []
    if not broken:
        return [
            f"The diagonal is the lowest of each column: on {listed(holds)} the model "
            f"that was trained there loses least."
        ]
    rest = f" It is lowest on {listed(holds)}." if holds else ""
    return [
        f"The diagonal is not the lowest of each column: {'; '.join(broken)}.{rest}"
    ]


def _rows(cells: Sequence[Any]) -> list[str]:
    """The foreign corpus that each model finds easiest."""
    lines = []
    for model in dict.fromkeys(cell.model for cell in cells):
        foreign = [cell for cell in cells if cell.model == model and not cell.home]
        if len(foreign) < 2:
            continue
        foreign.sort(key=_bits)
        near = _overlap(foreign[0], foreign[1])
        doubt = f"; its interval overlaps that of {foreign[1].corpus}" if near else ""
        lines.append(
            f"{model} finds {foreign[0].corpus} the easiest foreign corpus "
            f"({_bits(foreign[0]):.3f} bits per character) and {foreign[-1].corpus} "
            f"the hardest ({_bits(foreign[-1]):.3f}){doubt}."
        )
    return lines


def _overlap(one: Any, other: Any) -> bool:
    """Whether two cells on different texts may be equal; unknown counts as may."""
    ends = []
    for cell in (one, other):
        half = cell.interval.half
        if half is None:
            return True
        scale = _bits(cell) / cell.losses.nats_per_token
        ends.append((_bits(cell) - half * scale, _bits(cell) + half * scale))
    return ends[0][1] >= ends[1][0]


def _ties(cells: Sequence[Any]) -> list[str]:
    """Pairs of models on one corpus whose difference may be chance."""
    found, unknown, compared, apart = [], 0, 0, 0
    for corpus, column in _columns(cells).items():
        for one, other in combinations(column, 2):
            compared += 1
            apart += not same_text(one.losses, other.losses)
            gap = difference(one.losses, other.losses)
            if gap.interval is None:
                unknown += 1
            elif gap.interval[0] <= 0 <= gap.interval[1]:
                found.append(f"{one.model} and {other.model} on {corpus}")
    if not compared:
        return []
    if unknown:
        return [
            f"{unknown} of {compared} differences within columns have no interval: the "
            f"text is too short for two blocks."
        ]
    how = "block by block" if not apart else "from two intervals taken as independent"
    if 0 < apart < compared:
        how = f"block by block or, in {apart} of {compared}, {how}"
    why = (
        " Models that differ in context, tokenizer or skipped symbols read different "
        "stretches of a text, which cannot be paired."
        if apart
        else ""
    )
    if found:
        return [f"Cannot be told apart on this text: {'; '.join(found)}.{why}"]
    return [
        f"Within each column every two models can be told apart: no 95 % interval of "
        f"their difference, {how}, holds 0 (not corrected for the number of "
        f"pairs).{why}"
    ]


def _lame(cells: Sequence[Any]) -> list[str]:
    """Cells in which a good part of the text is outside the vocabulary."""
    poor = [cell for cell in cells if cell.losses.coverage < SHORT]
    if not poor:
        return []
    named = [
        f"{cell.model} on {cell.corpus} ({percent(cell.losses.coverage)})"
        for cell in poor
    ]
    return [
        f"Less than {percent(SHORT, 0)} of the symbols are in the vocabulary of "
        f"{listed(named)}: a part of that loss is the vocabulary's, not the language's."
    ]
