"""Numbers as a reader wants them: few digits, a unit, a dash for what is not known."""

import math
from collections.abc import Sequence

from lmzoo.report.spread import Spread

NONE = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"
MARKS = {" ": "␣", "\n": "↵", "\t": "⇥", "\r": "␍", "\N{NO-BREAK SPACE}": "⍽"}
SI = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def known(value: float | None) -> bool:
    """A number, and a finite one."""
    return value is not None and math.isfinite(value)


def decimals(value: float | None, digits: int = 3) -> str:
    """``2.3061`` -> ``2.306``."""
    return f"{value:,.{digits}f}" if value is not None and known(value) else NONE


def signed(value: float | None, digits: int = 3) -> str:
    """``-0.0752`` -> ``−0.075``, with a real minus sign."""
    if value is None or not known(value):
        return NONE
    text = f"{value:+.{digits}f}"
    zero = not float(text)
    return text[1:] if zero else text.replace("-", MINUS)


def between(interval: tuple[float, float] | None, digits: int = 3) -> str:
    """An interval as ``2.294 to 2.318``."""
    if interval is None:
        return NONE
    return " to ".join(decimals(end, digits).replace("-", MINUS) for end in interval)


def with_interval(spread: Spread, digits: int = 3) -> str:
    """``2.306 ± 0.012``; the mean alone without an interval, or if all are equal."""
    if not spread.half:
        return decimals(spread.mean, digits)
    return f"{spread.mean:.{digits}f} ± {spread.half:.{digits}f}"


def count(value: float | None) -> str:
    """``560194`` -> ``560,194``."""
    return f"{value:,.0f}" if value is not None and known(value) else NONE


def short(value: float | None) -> str:
    """``1.23e15`` -> ``1.23 P``; below 1,000 as it is."""
    if value is None or not known(value):
        return NONE
    for size, letter in SI:
        if abs(value) >= size:
            return f"{value / size:.3g} {letter}"
    return f"{value:.3g}"


def size(value: float | None) -> str:
    """Bytes: ``384829069`` -> ``367 MiB``."""
    if value is None or not known(value):
        return NONE
    for power, unit in ((3, "GiB"), (2, "MiB"), (1, "KiB")):
        if value >= 1024**power:
            return f"{value / 1024**power:.3g} {unit}"
    return f"{value:.0f} B"


def seconds(value: float | None) -> str:
    """``3.456`` -> ``3.5``; a hundred and more without decimals."""
    if value is None or not known(value):
        return NONE
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def percent(share: float | None, digits: int = 1) -> str:
    """``0.0321`` -> ``3.2 %``."""
    if share is None or not known(share):
        return NONE
    return f"{100 * share:.{digits}f} %"


def listed(names: Sequence[str]) -> str:
    """``a, b and c``."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if names[1:] else names)


def some(names: Sequence[str], most: int = 5) -> str:
    """``a, b and 7 more``."""
    if len(names) <= most:
        return listed(names)
    return listed([*names[: most - 1], f"{len(names) - most + 1} more"])


def with_article(noun: str) -> str:
    """``a classifier``, ``an encoder``."""
    return f"{'an' if noun[:1].lower() in 'aeiou' else 'a'} {noun}"


def plural(number: int, one: str) -> str:
    """``3 seeds``, ``1 seed``."""
    return f"{number:,} {one}{'' if number == 1 else 's'}"


def visible(text: str) -> str:
    """White space and what cannot be printed as marks: ``a b`` -> ``a␣b``."""
    return "".join(_mark(character) for character in text)


def _mark(character: str) -> str:
    if character in MARKS:
        return MARKS[character]
    return character if character.isprintable() else f"U+{ord(character):04X}"


def p_value(p: float) -> str:
    """``= 0.012``, with no claim beyond four decimals."""
    return "< 0.0001" if p < 1e-4 else f"= {p:.2g}"
