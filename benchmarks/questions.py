"""When to stop, how to cut the text, which figure to rank by: tables of a comparison.

lmzoo compare --config configs/compare_stopping.yaml --out runs/stopping
lmzoo compare --config configs/compare_tokenizers.yaml --out runs/tokenizers
python benchmarks/questions.py runs/stopping runs/tokenizers

Takes the tables out of each folder's report and writes them to ``results/NAME.md``,
under the folder's name, with the command, the commit and the machine.
"""

import sys
from pathlib import Path

from lmzoo.compare import report
from lmzoo.compare.reading import Comparison
from lmzoo.report.page import Section, markdown

RESULTS = Path(__file__).resolve().parent / "results"
KEPT = {
    "stopping": ("When to stop",),
    "tokenizers": ("Word, character or subword", "Which figure to rank by"),
}
TITLES = {
    "stopping": "Fixed, absolute or relative: when to stop",
    "tokenizers": "Word, character or subword, and which figure to rank by",
}
MEASURED = "How it was measured"


def main(folders: list[str]) -> int:
    """Write a page for every folder."""
    if not folders or any(Path(folder).name not in KEPT for folder in folders):
        print(__doc__, file=sys.stderr)
        return 2
    for folder in folders:
        name = Path(folder).name
        found = Comparison(report.read(Path(folder) / report.RESULTS))
        made = {section.title: section for section in report.sections(found)}
        wanted = [made[title] for title in (*KEPT[name], MEASURED)]
        parts = [Section("", made["Quality"].text, tables=made["Quality"].tables)]
        parts += wanted
        file = RESULTS / f"{name}.md"
        under = report.subtitle(found)
        text = markdown(TITLES[name], under, parts, report.PAGE)
        file.write_text(text, encoding="utf-8")
        print(file)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
