"""Character frequencies of corpora, and how far one's characters cover another."""

from collections.abc import Sequence

from lmzoo.analysis.probes.characters import Characters, characters_of
from lmzoo.errors import UsageError
from lmzoo.report.bars import bars
from lmzoo.report.finding import Finding
from lmzoo.report.table import Table
from lmzoo.report.words import count, decimals, percent, plural, visible

EXAMPLES = 8  # characters that a corpus lacks, named


def frequencies(corpora: list[str], *, top: int = 80) -> Finding:
    """Which characters occur in each corpus, how often, and what corpora share.

    Entropy is that of the frequencies alone, in bits per character: what the best code
    that knows no context would need. The out-of-vocabulary share of B under A is the
    share of B's text whose characters do not occur in A.

    Args:
        corpora: named corpora (kjv, pydoc, pysource, ...), files, folders or globs
        top: characters of each corpus in tables and charts, the most frequent first

    Raises:
        UsageError: no such corpus, one without text, or ``top`` below 1.
    """
    if top < 1:
        raise UsageError(f"--top {top}: give 1 or more")
    if not corpora:
        raise UsageError("name a corpus or more; see lmzoo inspect frequencies --help")
    found = _named_apart([characters_of(corpus) for corpus in corpora], corpora)
    tables = [_summary(found)]
    if len(found) > 1:
        tables.append(_overlap(found))
    tables += [_table(one, top) for one in found]
    return Finding(
        "frequencies",
        f"Character frequencies: {', '.join(one.name for one in found)}",
        text=_said(found),
        tables=tables,
        figures=_figures(found, top),
        notes=_notes(found, top),
        rows=[row for one in found for row in _rows(one)],
        data=_data(found),
    )


def _named_apart(found: list[Characters], given: Sequence[str]) -> list[Characters]:
    """Corpora whose names clash are called by what was typed."""
    names = [one.name for one in found]
    if repeated := [word for i, word in enumerate(given) if word in given[:i]]:
        raise UsageError(f"{repeated[0]} is given twice; name each corpus once")
    return [
        one
        if names.count(one.name) == 1
        else Characters(word, one.symbols, one.counts, one.documents, one.notes)
        for one, word in zip(found, given, strict=True)
    ]


# ---- words ---------------------------------------------------------------------------


def _said(found: Sequence[Characters]) -> list[str]:
    said = []
    for one in found:
        needed = int((one.shares.cumsum() < 0.9).sum()) + 1
        said.append(
            f"{one.name}: {plural(len(one.symbols), 'different character')} in "
            f"{one.total:,}, {one.entropy:.3f} bits per character by frequency alone; "
            f"the most frequent is {visible(one.symbols[0])} "
            f"({percent(float(one.shares[0]))}), and {needed} make up 90 % of the text."
        )
    pairs = [(a, b) for a in found for b in found if a is not b]
    if pairs:
        a, b = max(pairs, key=lambda pair: pair[0].unknown_share(pair[1]))
        said.append(_worst(a, b))
    return said


def _worst(a: Characters, b: Characters) -> str:
    missing = a.missing(b)
    if not missing:
        return "Every corpus has every character of the others."
    named = " ".join(visible(symbol) for symbol, _ in missing[:EXAMPLES])
    more = f" and {len(missing) - EXAMPLES} more" if len(missing) > EXAMPLES else ""
    return (
        f"A vocabulary of the characters of {a.name} fits {b.name} worst: "
        f"{_share(a.unknown_share(b))} of that text lies outside it "
        f"({plural(len(missing), 'character')}: {named}{more})."
    )


def _notes(found: Sequence[Characters], top: int) -> list[str]:
    notes = [
        "characters are Unicode code points of the whole text, all splits together, as "
        "lmzoo reads it (UTF-8, CRLF read as LF); marks between documents are not "
        "counted; ␣ is a space, ↵ a line break, ⇥ a tab"
    ]
    for one in found:
        if len(one.symbols) > top:
            rest = percent(float(one.shares[top:].sum()), 2)
            notes.append(
                f"{one.name}: {len(one.symbols) - top} characters after the first "
                f"{top} are in the files; together {rest} of the text"
            )
        notes += [f"{one.name}: {note}" for note in one.notes]
    return notes


def _share(value: float) -> str:
    """A percentage that never calls a little nothing."""
    if 0 < value < 5e-5:
        return f"{100 * value:.3f} %" if value >= 5e-6 else "< 0.001 %"
    return percent(value, 2)


# ---- tables --------------------------------------------------------------------------


def _summary(found: Sequence[Characters]) -> Table:
    heads = ["corpus", "characters", "documents", "different", "entropy, bits/char"]
    rows = [
        [
            one.name,
            count(one.total),
            count(one.documents),
            count(len(one.symbols)),
            decimals(one.entropy),
        ]
        for one in found
    ]
    return Table(heads, rows)


def _overlap(found: Sequence[Characters]) -> Table:
    """Each ordered pair: characters of one, text of the other."""
    rows = [
        [
            a.name,
            b.name,
            _share(a.unknown_share(b)),
            count(len(a.missing(b))),
            " ".join(visible(symbol) for symbol, _ in a.missing(b)[:EXAMPLES]),
            decimals(a.jaccard(b)),
        ]
        for a in found
        for b in found
        if a is not b
    ]
    heads = [
        "characters of",
        "text of",
        "out of vocabulary",
        "missing",
        "most frequent of these",
        "Jaccard",
    ]
    caption = (
        "What a vocabulary made of one corpus lacks in another; Jaccard: characters "
        "in both / in either"
    )
    return Table(heads, rows, caption, words=(0, 1, 4))


def _table(one: Characters, top: int) -> Table:
    rows = [
        [str(i + 1), visible(symbol), count(number), _share(float(share))]
        for i, (symbol, number, share) in enumerate(
            zip(one.symbols[:top], one.counts.tolist(), one.shares, strict=False)
        )
    ]
    caption = f"{one.name}: the most frequent characters"
    return Table(["rank", "character", "count", "share"], rows, caption, words=(1,))


# ---- figures and numbers -------------------------------------------------------------


def _figures(found: Sequence[Characters], top: int) -> dict[str, str]:
    figures = {}
    for i, one in enumerate(found):
        shown = min(top, len(one.symbols))
        which = f"top {shown} of {len(one.symbols)}" if shown < len(one.symbols) else (
            f"all {shown}"
        )  # fmt: skip
        figures[_file(one.name, figures)] = bars(
            [visible(symbol) for symbol in one.symbols[:shown]],
            {one.name: [100 * float(share) for share in one.shares[:shown]]},
            f"Characters of {one.name}: {which}",
            "% of the text",
            [i],
        )
    if len(found) > 1:
        figures["together"] = _together(found)
    return figures


def _together(found: Sequence[Characters], most: int = 40) -> str:
    """The same characters in every corpus, those with the largest mean share."""
    shares = [dict(zip(c.symbols, c.shares.tolist(), strict=True)) for c in found]
    every = sorted(set().union(*shares))
    every.sort(key=lambda symbol: -sum(share.get(symbol, 0.0) for share in shares))
    shown = every[:most]
    return bars(
        [visible(symbol) for symbol in shown],
        {
            one.name: [100 * share.get(symbol, 0.0) for symbol in shown]
            for one, share in zip(found, shares, strict=True)
        },
        f"The {len(shown)} characters with the largest mean share",
        "% of each text",
    )


def _file(name: str, taken: dict[str, str]) -> str:
    """A figure's name as a file's, which no other figure has."""
    safe = "".join(c if c.isalnum() or c in "-_" else "-" for c in name).strip("-")
    return safe if safe and safe not in taken else f"{safe}-{len(taken) + 1}"


def _rows(one: Characters) -> list[dict[str, object]]:
    return [
        {
            "corpus": one.name,
            "rank": i + 1,
            "character": visible(symbol),
            "code_point": f"U+{ord(symbol):04X}",
            "count": number,
            "share": number / one.total,
        }
        for i, (symbol, number) in enumerate(
            zip(one.symbols, one.counts.tolist(), strict=True)
        )
    ]


def _data(found: Sequence[Characters]) -> dict[str, object]:
    return {
        "corpora": [
            {
                "name": one.name,
                "characters": one.total,
                "documents": one.documents,
                "unique": len(one.symbols),
                "entropy_bits": one.entropy,
                "counts": {
                    f"U+{ord(symbol):04X}": number
                    for symbol, number in zip(
                        one.symbols, one.counts.tolist(), strict=True
                    )
                },
            }
            for one in found
        ],
        "overlap": [
            {
                "characters_of": a.name,
                "text_of": b.name,
                "oov_share": a.unknown_share(b),
                "missing": len(a.missing(b)),
                "jaccard": a.jaccard(b),
            }
            for a in found
            for b in found
            if a is not b
        ],
    }
