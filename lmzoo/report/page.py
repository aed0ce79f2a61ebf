"""A report's sections as one self-contained page of HTML, and as Markdown."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

from lmzoo.report.table import Table

STYLE = """
:root { color-scheme: light }
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 78rem; padding: 2.25rem 1.5rem 4rem; color: #1f2933;
  background: #fff; font: 17px/1.55 system-ui, "Helvetica Neue", Arial, sans-serif }
h1 { font-size: 2rem; line-height: 1.2; margin: 0 0 .35rem; letter-spacing: -.01em }
h2 { font-size: 1.35rem; margin: 2.75rem 0 .6rem; padding-top: .9rem;
  border-top: 2px solid #1f2933 }
h2.part { font-size: 1.15rem; border-top-width: 0; margin-top: 1.2rem }
p { max-width: 52rem; margin: .6rem 0 }
p.lead { font-size: 1.2rem; line-height: 1.5 }
p.under, .note, caption { color: #52606d; font-size: .9rem }
.note { max-width: 60rem }
.wide { overflow-x: auto; margin: .9rem 0 }
table { border-collapse: collapse; font-variant-numeric: tabular-nums;
  font-size: .9rem }
caption { text-align: left; padding-bottom: .3rem }
th, td { padding: .32rem .5rem; text-align: right; vertical-align: top;
  border-bottom: 1px solid #e3e7eb; white-space: nowrap }
th { font-weight: 600; vertical-align: bottom; border-bottom-color: #7b8794;
  white-space: normal; line-height: 1.25 }
.l { text-align: left }
td.w { white-space: normal; overflow-wrap: anywhere; min-width: 9rem }
tr.best td { font-weight: 650; background: #eef6ee }
tr.floor td { color: #616e7c; background: #f7f8f9 }
tr.mark td { color: #616e7c; font-style: italic }
.figures { display: grid; gap: 1.5rem 2rem; margin: 1rem 0;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 32rem), 1fr)) }
figure { margin: 0; overflow-x: auto; break-inside: avoid }
figure.all { grid-column: 1 / -1 }
figure svg { width: 100%; height: auto; display: block; min-width: 34rem }
.samples { display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 22rem), 1fr)) }
.samples > div { min-width: 0; break-inside: avoid }
.samples h3 { font-size: 1rem; margin: 0 0 .25rem }
pre { font: 14px/1.45 ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace;
  white-space: pre-wrap; overflow-wrap: anywhere; background: #f7f8f9; margin: 0;
  border: 1px solid #e3e7eb; border-radius: 5px; padding: .7rem .9rem }
nav ol { columns: 20rem; max-width: 60rem; padding-left: 1.4rem; font-size: .95rem }
details { margin: .9rem 0 } summary { cursor: pointer; color: #0b5a94 }
@media print {
  body { font-size: 10.5pt; padding: 0; max-width: none }
  table { font-size: 8pt } th, td { padding: .15rem .3rem }
  h2 { break-after: avoid } tr { break-inside: avoid } .wide { overflow: visible }
  .figures { grid-template-columns: 1fr 1fr } figure svg { min-width: 0 }
}
"""


CONTENTS, ROWS, BOXES = 9, 40, 12  # more sections have a list; more of these are folded


@dataclass
class Section:
    """One heading with what stands under it, in this order.

    Attributes:
        text: paragraphs.
        wide: figures that take the whole width.
        figures: SVG, in two columns where there is room.
        tables: each may have a caption.
        notes: small print under the tables.
        samples: (title, text) of each box, side by side.
        part: whether it belongs to the section before it.
    """

    title: str
    text: list[str] = field(default_factory=list)
    wide: list[str] = field(default_factory=list)
    figures: list[str] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    samples: list[tuple[str, str]] = field(default_factory=list)
    part: bool = False


# ---- HTML ----------------------------------------------------------------------------


def html(title: str, under: str, sections: Sequence[Section]) -> str:
    """The whole page; every word from the data is escaped."""
    listed = sum(not section.part for section in sections) > CONTENTS
    parts = [_section(section, number) for number, section in enumerate(sections)]
    body = "\n".join(
        [*parts[:1], *([_contents(sections)] if listed else []), *parts[1:]]
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f'<h1>{escape(title)}</h1>\n<p class="under">{escape(under)}</p>\n{body}\n'
        "</body>\n</html>\n"
    )


def _contents(sections: Sequence[Section]) -> str:
    lines = [
        f'<li><a href="#s{number}">{escape(section.title)}</a></li>'
        for number, section in enumerate(sections)
        if number and not section.part
    ]
    return f"<nav><ol>{''.join(lines)}</ol></nav>"


def _folded(block: str, told: str) -> str:
    return f"<details><summary>{escape(told)}</summary>{block}</details>"


def _section(section: Section, number: int) -> str:
    first = not number
    tag = 'h2 class="part"' if section.part else "h2"
    head = f'<{tag} id="s{number}">{escape(section.title)}</h2>'
    parts = [] if first else [head]
    for i, text in enumerate(section.text):
        lead = ' class="lead"' if first and not i else ""
        parts.append(f"<p{lead}>{escape(text)}</p>")
    if section.wide or section.figures:
        boxes = [f'<figure class="all">{svg}</figure>' for svg in section.wide]
        boxes += [f"<figure>{svg}</figure>" for svg in section.figures]
        parts.append(f'<div class="figures">{"".join(boxes)}</div>')
    parts += [_table(table) for table in section.tables]
    parts += [f'<p class="note">{escape(note)}</p>' for note in section.notes]
    if section.samples:
        boxes = [
            f"<div><h3>{escape(title)}</h3><pre>{escape(printable(text))}</pre></div>"
            for title, text in section.samples
        ]
        block = f'<div class="samples">{"".join(boxes)}</div>'
        many = len(boxes) > BOXES
        parts.append(_folded(block, f"{len(boxes)} texts") if many else block)
    return "<section>\n" + "\n".join(parts) + "\n</section>"


def _table(table: Table) -> str:
    def line(tag: str, row: Sequence[str]) -> str:
        cells = []
        for i, cell in enumerate(row):
            kinds = (["l"] if i in table.words else []) + (
                ["w"] if len(cell) > 44 else []
            )
            named = f' class="{" ".join(kinds)}"' if kinds else ""
            cells.append(f"<{tag}{named}>{escape(cell)}</{tag}>")
        return "".join(cells)

    caption = f"<caption>{escape(table.caption)}</caption>" if table.caption else ""
    head = (
        f"<thead><tr>{line('th', table.heads)}</tr></thead>" if any(table.heads) else ""
    )
    body = "\n".join(
        f"<tr{_kind(table, i)}>{line('td', row)}</tr>"
        for i, row in enumerate(table.rows)
    )
    block = (
        f'<div class="wide"><table>{caption}{head}\n<tbody>{body}</tbody></table></div>'
    )
    if len(table.rows) <= ROWS:
        return block
    return _folded(block, f"{table.caption or 'table'}: {len(table.rows)} rows")


def _kind(table: Table, row: int) -> str:
    return f' class="{table.kinds[row]}"' if row in table.kinds else ""


def printable(text: str) -> str:
    """Text without control characters, which a page may not hold."""
    return "".join(c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}"
                   for c in text)  # fmt: skip


# ---- Markdown ------------------------------------------------------------------------


def markdown(
    title: str,
    under: str,
    sections: Sequence[Section],
    page: str,
    pictures: Mapping[str, str] | None = None,
) -> str:
    """The same words and tables; figures by ``pictures`` (SVG to file), or ``page``."""
    pictures = pictures or {}
    parts = [f"# {_inline(title)}", _inline(under)]
    for i, section in enumerate(sections):
        if i:
            mark = "###" if section.part else "##"
            parts.append(f"{mark} {_inline(section.title)}")
        parts += [_inline(text) for text in section.text]
        figures = [*section.wide, *section.figures]
        shown = [pictures[svg] for svg in figures if svg in pictures]
        parts += [f"![{_inline(section.title)}]({file})" for file in shown]
        drawn = len(figures) - len(shown)
        if drawn:
            figures = "1 figure" if drawn == 1 else f"{drawn} figures"
            parts.append(f"*{figures} in {page}*")
        parts += [_piped(table) for table in section.tables]
        parts += [_inline(note) for note in section.notes]
        for name, text in section.samples:
            parts.append(f"**{_inline(name)}**")
            lines = printable(text).splitlines() or [""]
            parts.append("\n".join(f"    {line}" for line in lines))
    return "\n\n".join(part for part in parts if part) + "\n"


def _piped(table: Table) -> str:
    heads = [head or " " for head in table.heads]
    rule = ["---" if i in table.words else "--:" for i in range(len(heads))]
    lines = [heads, rule]
    for i, row in enumerate(table.rows):
        best = table.kinds.get(i) == "best"
        lines.append([f"**{_cell(c)}**" if best and c else _cell(c) for c in row])
    drawn = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"{_inline(table.caption)}\n\n{drawn}" if table.caption else drawn


def _cell(text: str) -> str:
    return _inline(text).replace("|", "\\|")


def _inline(text: str) -> str:
    """Words that Markdown must not read as marks or tags."""
    plain = " ".join(printable(text).split())
    for mark in "\\`*_[]<>":
        plain = plain.replace(mark, f"\\{mark}")
    return plain
