r"""Comparisons made by ``lmzoo compare``, kept as pages.

lmzoo compare --config configs/compare_standing.yaml --out runs/standing_shakespeare
lmzoo compare --config configs/compare_standing.yaml --data.corpus kjv \
    --data.max_val_tokens 110000 --out runs/standing_kjv
lmzoo compare --config configs/compare_palm.yaml --out runs/ablation
lmzoo compare --config configs/compare_stopping.yaml --out runs/stopping
lmzoo compare --config configs/compare_tokenizers.yaml --out runs/tokenizers
python benchmarks/comparisons.py runs/standing_shakespeare runs/standing_kjv ...

Writes ``results/NAME.md`` under each folder's name: of the standing comparisons and of
the ablation the whole report and its first figure, of the others the tables that answer
their question.
"""

import sys
from pathlib import Path

from lmzoo.compare import plots, report
from lmzoo.compare.reading import Comparison
from lmzoo.report.page import Section, markdown

RESULTS = Path(__file__).resolve().parent / "results"
STANDING = "Side by side: equal parameters, equal seconds"
KEPT: dict[str, tuple[str, tuple[str, ...]]] = {  # title, sections; none: all of them
    "standing_shakespeare": (f"{STANDING}, tiny Shakespeare", ()),
    "standing_kjv": (f"{STANDING}, the King James Bible", ()),
    "ablation": ("What each choice of a modern decoder is worth", ()),
    "stopping": ("Fixed, absolute or relative: when to stop", ("When to stop",)),
    "tokenizers": (
        "Word, character or subword, and which figure to rank by",
        ("Word, character or subword", "Which figure to rank by"),
    ),
}
MEASURED = "How it was measured"


def main(folders: list[str]) -> int:
    """Write a page for every folder."""
    if not folders or any(Path(folder).name not in KEPT for folder in folders):
        print(__doc__, file=sys.stderr)
        return 2
    for folder in folders:
        name = Path(folder).name
        title, wanted = KEPT[name]
        found = Comparison(report.read(Path(folder) / report.RESULTS))
        sections = report.sections(found)
        if wanted:
            made = {section.title: section for section in sections}
            first = Section("", made["Quality"].text, tables=made["Quality"].tables)
            sections = [first, *(made[one] for one in (*wanted, MEASURED))]
        elif figure := plots.intervals(found):
            (RESULTS / f"{name}.svg").write_text(figure, encoding="utf-8")
        under = report.subtitle(found)
        text = markdown(title, under, sections, report.PAGE)
        file = RESULTS / f"{name}.md"
        file.write_text(text, encoding="utf-8")
        print(file)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
