"""A scored text as one page of HTML that needs nothing else: no script, no network.

Its parts are for other pages too, with the style ``MARKS``.
"""

import math
from collections.abc import Sequence
from html import escape

from lmzoo.scoring.columns import (
    COMPARE,
    FIGURES,
    Column,
    cells,
    notes,
    scale,
    shade,
    spelled,
    visible,
)

MOST = 20_000  # tokens drawn for each model
STEPS = 8  # boxes of the legend
MARKS = """
.tokens { font: 15px/1.95 ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace;
  white-space: pre-wrap; overflow-wrap: anywhere; border: 1px solid #e4e4e4;
  border-radius: 6px; padding: .75rem 1rem; margin: .5rem 0 }
.tokens span { border-radius: 3px; padding: .15em 0; box-shadow: inset 1px 0 #fff;
  position: relative }
.tokens span:hover { outline: 2px solid #1b1b1b }
.tokens span:hover::after { content: attr(data-tip); position: absolute; left: 0;
  top: 1.75em; z-index: 9; white-space: pre; pointer-events: none; color: #fff;
  background: #1f2933; border-radius: 5px; padding: .45rem .7rem; font-size: 13px;
  line-height: 1.5 }
.tokens span.none { color: #595959; border-bottom: 2px dotted #8c8c8c }
.mark { font-weight: 400; opacity: .65 }
.legend { display: flex; align-items: flex-end; font-size: .8125rem; margin: 1rem 0 }
.legend div { width: 3.25rem; text-align: left }
.legend i { display: block; height: 1.1rem; border: 1px solid #e4e4e4;
  border-width: 1px 0 }
"""
STYLE = (
    """
:root { color-scheme: light }
body { margin: 2.5rem auto; max-width: 62rem; padding: 0 1.25rem; color: #1b1b1b;
  background: #fff; font: 16px/1.5 system-ui, "Helvetica Neue", Arial, sans-serif }
h1 { font-size: 1.5rem; margin: 0 0 .25rem }
h2 { font-size: 1.05rem; margin: 2rem 0 .5rem }
p.small, footer, caption { color: #595959; font-size: .875rem }
table { border-collapse: collapse; font-variant-numeric: tabular-nums;
  font-size: .9rem; margin: 1rem 0 }
caption { text-align: left; padding-bottom: .35rem }
th, td { padding: .3rem .75rem; text-align: right; border-bottom: 1px solid #e4e4e4 }
th { font-weight: 600; border-bottom-color: #8c8c8c; white-space: nowrap }
th:first-child, td:first-child, .left { text-align: left }
td:first-child { overflow-wrap: anywhere }
.wide { overflow-x: auto }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1.25rem }
dt { font-weight: 600 }
dd { margin: 0; overflow-wrap: anywhere }
"""
    + MARKS
)


def page(text: str, columns: Sequence[Column]) -> str:
    """The whole page; all that comes from the text or the models is escaped."""
    limit = scale(columns)
    sizes = f"{len(text):,} characters, {len(text.encode('utf-8', 'replace')):,} bytes"
    parts = [
        "<h1>What each token costs</h1>",
        f'<p class="small">{sizes}. Point at a token to see its figures.</p>',
        summary(columns),
        remarks(columns),
        legend(limit),
        *(tokens(column, limit) for column in columns),
        _next([column for column in columns if column.next_tokens]),
        _continuations([column for column in columns if column.continuations]),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Scores</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(part for part in parts if part)
        + "\n</body>\n</html>\n"
    )


def summary(columns: Sequence[Column]) -> str:
    """The figures of each model, in a table."""
    heads = ["model", "tokenizer", *FIGURES.values()]
    rows = [[c.name, c.tokenizer, *cells(c.score)] for c in columns]
    return _table(heads, rows, left=2) + f'<p class="small">{COMPARE}</p>'


def remarks(columns: Sequence[Column]) -> str:
    """The rules that the figures follow, and notices."""
    lines = [
        f"<dt>{'' if i else escape(title)}</dt><dd>{_safe(line)}</dd>"
        for title, found in notes(columns)
        for i, line in enumerate(found)
    ]
    return f"<dl>{''.join(lines)}</dl>"


def legend(limit: float) -> str:
    """What the colours are, up to ``limit`` bits."""
    boxes = []
    for i in range(STEPS + 1):
        more = "+" if i == STEPS else ""
        bits = f"{limit * i / STEPS:g}{more}{' bits' if not i else ''}"
        boxes.append(f'<div><i style="background:{shade(i / STEPS)}"></i>{bits}</div>')
    return f'<div class="legend" title="surprise of a token">{"".join(boxes)}</div>'


def tokens(column: Column, limit: float) -> str:
    """A model's name and the text, each token coloured by its surprise."""
    score = column.score
    pieces = score.pieces(MOST)
    spans = [_span(column, i, piece, limit) for i, piece in enumerate(pieces)]
    rest = len(score.nll) - len(pieces)
    cut = f'<p class="small">and {rest:,} more tokens</p>' if rest else ""
    figure = f"{score.totals()['bits_per_char']:.3f} bits/char"
    return (
        f'<section><h2>{_safe(column.name)} <span class="mark">'
        f"{_safe(column.tokenizer)}, {figure}</span></h2>\n"
        f'<div class="tokens">{"".join(spans)}</div>{cut}</section>'
    )


def _span(column: Column, i: int, piece: str, limit: float) -> str:
    nll = float(column.score.nll[i])
    shown = "".join(_shown(character) for character in visible(piece))
    if "\n" in piece:  # the mark, and then the line does end
        shown = shown.replace("\u21b5</b>", "\u21b5</b>\n")
    if math.isnan(nll):
        tip = f"{_safe(piece)}&#10;not scored"
        return f'<span class="none" data-tip="{tip}">{shown}</span>'
    bits = nll / math.log(2)
    lines = [
        f"{visible(piece)!r}",
        f"{bits:.3f} bits, {nll:.3f} nats",
        f"probability {math.exp(-nll):.4g}",
    ]
    if column.score.rank is not None:
        lines.append(f"rank {column.score.rank[i]:,}")
    if column.top:
        lines += [f"  {math.exp(-n):.3f}  {visible(t)!r}" for t, n in column.top[i]]
    tip = "&#10;".join(map(_safe, lines))
    colour = shade(bits / limit)
    return f'<span style="background:{colour}" data-tip="{tip}">{shown}</span>'


def _shown(character: str) -> str:
    if character in "\u21b5\u21e5\u240d\u00b7":
        return f'<b class="mark">{character}</b>'
    return escape(character)


def _next(columns: Sequence[Column]) -> str:
    if not columns:
        return ""
    heads = ["next", *(head for c in columns for head in (c.name, "probability"))]
    rows = []
    for i in range(max(len(c.next_tokens) for c in columns)):
        row = [str(i + 1)]
        for column in columns:
            best = column.next_tokens[i : i + 1]
            row += [spelled(b.token) for b in best] or [""]
            row += [f"{b.probability:.2%}" for b in best] or [""]
        rows.append(row)
    return "<h2>What may come next</h2>" + _table(heads, rows)


def _continuations(columns: Sequence[Column]) -> str:
    if not columns:
        return ""
    heads = ["text", *(h for c in columns for h in (f"{c.name}, nats", "share"))]
    rows = [
        [spelled(first.text)]
        + [
            cell
            for one in (c.continuations[i] for c in columns)
            for cell in (f"{one.nats:.2f}", f"{one.share:.2%}")
        ]
        for i, first in enumerate(columns[0].continuations)
    ]
    return "<h2>Continuations</h2>" + _table(heads, rows)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    def line(tag: str, row: Sequence[str]) -> str:
        kinds = [' class="left"' if i < left else "" for i in range(len(row))]
        return "".join(
            f"<{tag}{kind}>{_safe(cell)}</{tag}>"
            for kind, cell in zip(kinds, row, strict=True)
        )

    body = "\n".join(f"<tr>{line('td', row)}</tr>" for row in rows)
    return (
        f'<div class="wide"><table><thead><tr>{line("th", heads)}</tr></thead>\n'
        f"<tbody>{body}</tbody></table></div>"
    )


def _safe(text: str) -> str:
    return escape(visible(text))
