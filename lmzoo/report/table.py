"""A table as words: what HTML, Markdown and the terminal all show."""

from dataclasses import dataclass, field


@dataclass
class Table:
    """Words in rows.

    Attributes:
        words: the columns that are words, not numbers.
        kinds: row number -> "best", "floor" or "mark", for its looks.
    """

    heads: list[str]
    rows: list[list[str]]
    caption: str = ""
    words: tuple[int, ...] = (0,)
    kinds: dict[int, str] = field(default_factory=dict)
