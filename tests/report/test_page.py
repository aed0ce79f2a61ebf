"""A page of many sections can be found one's way in, and hides nothing."""

import re

from lmzoo.report.page import BOXES, CONTENTS, ROWS, Section, html, markdown
from lmzoo.report.table import Table


def page(sections: int, **content: object) -> str:
    rest = [Section(f"part {n} & more") for n in range(1, sections)]
    return html("title", "under", [Section("first", **content), *rest])  # type: ignore[arg-type]


def test_many_sections_are_listed_and_the_list_leads_to_each() -> None:
    long = page(CONTENTS + 1)
    links = re.findall(r'<a href="#(\w+)">([^<]+)</a>', long)
    heads = re.findall(r'<h2 id="(\w+)">([^<]+)</h2>', long)
    assert links == heads
    assert len(links) == CONTENTS
    assert "<nav>" not in page(CONTENTS)


def test_long_tables_and_many_texts_are_folded_with_all_that_they_hold() -> None:
    rows = [[f"row {n}"] for n in range(ROWS + 1)]
    for count in (ROWS, ROWS + 1):
        found = page(1, tables=[Table(["head"], rows[:count], "how many <a>")])
        assert found.count("<tr><td") == count
        assert ("<details>" in found) == (count > ROWS)
    assert f"<summary>how many &lt;a&gt;: {ROWS + 1} rows</summary>" in found
    for count in (BOXES, BOXES + 1):
        found = page(1, samples=[("a", f"text {n}") for n in range(count)])
        assert found.count("<pre>") == count
        assert ("<details>" in found) == (count > BOXES)


def test_a_part_has_a_smaller_heading_and_is_not_in_the_list() -> None:
    sections = [Section("first"), *(Section(f"s{n}") for n in range(CONTENTS + 1))]
    sections.insert(2, Section("a part", part=True))
    page = html("title", "under", sections)
    assert '<h2 class="part" id="s2">a part</h2>' in page
    assert ">a part</a>" not in page
    assert "\n### a part\n" in markdown("title", "under", sections, "page")
