"""The report: self-contained, escaped, complete, and the same in every form."""

import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from rich.console import Console

from lmzoo.compare import conditions, questions, report, tables
from lmzoo.compare.caveats import caveats
from lmzoo.compare.reading import Comparison, spent
from lmzoo.errors import UsageError
from lmzoo.training.early_stopping import EarlyStopping
from tests.compare.synthetic import TRUTH, fail, results, timing

EVIL = "<script>alert('x')</script> & | `_*"


def made(folder: Path, data) -> tuple[str, str]:
    (folder / "results.json").write_text(json.dumps(data), encoding="utf-8")
    report.write(folder)
    return tuple(
        (folder / name).read_text(encoding="utf-8")
        for name in ("report.html", "report.md")
    )  # type: ignore[return-value]


class Page(HTMLParser):
    """Tags that are open, and the cells of tables."""

    VOID = ("meta", "rect", "line", "circle", "polyline", "polygon", "path", "br")

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.cells: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs) -> None:
        self.tags.add(tag)
        if tag not in self.VOID:
            self.open.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("td", "th"):
            self.cells[-1] += data


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[str, str]:
    data = results()
    data["timing"] = timing(tuple(TRUTH))
    fail(data, "gpt-char-1339", "failed", f"error: {EVIL}")
    fail(data, "conv-char-1337", "excluded", "causality: sees its own target")
    data["cells"][0]["sample"] = EVIL + "\x1b[31m"
    return made(tmp_path_factory.mktemp("whole"), data)


def test_the_page_is_well_formed_and_alone(whole) -> None:
    page = Page(whole[0])

    assert page.open == []
    assert not page.tags & {"script", "link", "img", "iframe", "object", "base"}
    assert "@import" not in whole[0]
    assert "url(" not in whole[0]
    links = set(re.findall(r"https?://[^\s\"'<]+", whole[0]))
    assert links <= {"http://www.w3.org/2000/svg"}  # the name of a format, no address


def test_what_comes_from_the_data_is_escaped(whole) -> None:
    page, text = whole

    assert "&lt;script&gt;alert(" in page
    assert "\x1b" not in page
    assert "\x1b" not in text
    table = [line for line in text.splitlines() if line.startswith("| gpt-char-1339")]
    assert "\\<script\\>" in table[0]
    assert table[0].replace("\\|", "").count("|") == 4


def test_every_label_floor_and_missing_run_is_there(whole) -> None:
    for form in whole:
        for label in TRUTH:
            assert re.search(rf"\b{label}\b", form)
        for floor in ("uniform", "unigram", "trigram", "5-gram", "bz2", "xz"):
            assert f": {floor}" in form
        for name in ("gpt-char-1339", "conv-char-1337"):
            assert name in form
        assert "causality: sees its own target" in form


def test_both_forms_hold_the_same_cells(whole) -> None:
    page, text = Page(whole[0]), whole[1].replace("\\", "").replace("**", "")

    missing = [
        c for c in page.cells if " ".join(c.split()).replace("\\", "") not in text
    ]

    assert missing == []
    assert len(page.cells) > 200


def test_sections_stand_in_order(whole) -> None:
    heads = re.findall(r"<h2[^>]*>(.*?)</h2>", whole[0])

    assert heads == [
        "Quality",
        "Cost",
        "Who is better than whom",
        "Learning curves",
        "Context and length",
        "Which figure to rank by",
        "When to stop",
        "Samples side by side",
        "Runs without a result",
        "How it was measured",
    ]
    assert "Loss against seconds" in whole[0].split("Learning curves</h2>")[1][:900]


def test_the_figures_are_the_data() -> None:
    found = Comparison(results())
    table = tables.quality(found)
    lines = {row[1]: row for row in table.rows}

    mean = sum(c["best"]["bits_per_char"] for c in found.rows[0].cells) / 3

    assert found.best is found.rows[0]
    assert lines["lstm"][2].startswith(f"{mean:.3f} ± ")
    assert lines["lstm"][3] == "64, fresh windows (a)"
    assert table.kinds[[row[1] for row in table.rows].index("lstm")] == "best"
    assert lines["floor: 5-gram"][2] == "2.408"
    assert lines["ngram (counting)"][0]  # a counted model is ranked, and marked


def test_two_figures_where_the_protocols_differ() -> None:
    found = Comparison(results())
    table = tables.quality(found)
    rows = {row[1]: row[-1] for row in table.rows}

    other = sum(c["other"]["bits_per_char"] for c in found.rows[0].cells) / 3

    assert table.heads[-1] == "bits/char, carried state"
    assert rows["lstm"] == f"{other:.3f}"
    assert rows["ff"] == "–"


def test_an_exhibit_is_shown_and_never_ranked() -> None:
    data = results(("gpt", "conv"))
    for cell in data["cells"]:
        if cell["model"] == "conv":
            cell.update(mark="exhibit")
            cell["best"]["bits_per_char"] = 0.05
    found = Comparison(data)

    assert found.best is not None
    assert found.best.label == "gpt"
    assert tables.quality(found).rows[-1][:2] == ["", "conv (exhibit)"]
    assert not found.pairs


def test_an_exhibit_that_was_not_trained_stands_in_the_table(tmp_path: Path) -> None:
    data = results(("gpt", "conv"))
    for cell in data["cells"]:
        if cell["model"] == "conv":
            fail(data, cell["name"], "excluded", "heaviside: no gradient")
            cell["mark"] = "exhibit"
    found = Comparison(data)
    page, _ = made(tmp_path, data)

    assert tables.quality(found).rows[-1][:3] == ["", "conv (exhibit)", "–"]
    assert "exhibit: broken on purpose" in page
    assert page.count("heaviside: no gradient") == 3


def test_a_count_stands_once_and_is_ranked_with_the_others() -> None:
    data = results(("ngram", "lstm", "gpt"), seeds=(1, 2, 3))
    thrice = Comparison(data)
    data = {**data, "seeds": [1, 2, 3]}
    data["cells"] = [
        c for c in data["cells"] if c["model"] != "ngram" or c["seed"] == 1
    ]
    once = Comparison(data)

    assert [(r.label, r.rank) for r in once.rows] == [
        (r.label, r.rank) for r in thrice.rows
    ]
    assert once.pairs == thrice.pairs
    row = next(r for r in tables.quality(once).rows if r[1] == "ngram (counting)")
    assert (row[2], row[4]) == ("2.411", "deterministic")
    only = Comparison({**data, "cells": [c for c in data["cells"] if c["seed"] == 1]})
    assert next(r.rank for r in only.rows if r.label == "ngram")


def test_missing_flops_have_a_reason() -> None:
    data = results(("ngram", "lstm", "gpt"))
    assert tables.without_flops(Comparison(data)) == [
        "– under training FLOPs, ngram: counted in one pass, no step is trained."
    ]
    for cell in data["cells"]:
        cell["training_flops"] = None
    assert "lstm and gpt: the model does not say" in " ".join(
        tables.without_flops(Comparison(data))
    )


@pytest.mark.parametrize(
    ("kind", "value", "words"),
    [
        ("seconds", 30.0, "30 seconds"),
        ("seconds", 0.5, "0.5 seconds"),
        ("steps", 1, "1 step"),
        ("steps", 1_000_000, "1,000,000 steps"),
        ("flops", 1e12, "1e+12 training FLOPs"),
    ],
)
def test_a_budget_in_words(kind: str, value: float, words: str) -> None:
    assert spent({"kind": kind, "value": value}) == words


def test_a_failed_minimum_is_not_the_best() -> None:
    data = results(("gpt", "lstm"))
    for cell in data["cells"]:
        if cell["model"] == "lstm":
            cell["best"]["bits_per_char"] = None
    found = Comparison(data)

    assert [row.label for row in found.rows] == ["gpt"]
    assert len(tables.times(found.rows[0], 0.1)) == 1


def test_other_texts_are_not_compared() -> None:
    data = results(("gpt", "lstm"))
    for cell in data["cells"]:
        if cell["model"] == "lstm":
            cell["corpus"] = "kjv"
    found = Comparison(data)

    assert found.pairs == []
    assert found.unit == "bits_per_byte"
    assert [row.rank for row in found.rows] == ["1", "1"]


def lossy(data, *tokenizers: str, share: float = 0.081):
    for cell in data["cells"]:
        if cell["tokenizer"] in tokenizers:
            cell["oov_share"] = share
            cell["best"]["bits_per_byte"] = 0.5  # as if it were the best by far
    return data


def test_what_loses_text_is_not_ranked_against_what_does_not(tmp_path: Path) -> None:
    data = results(("gpt", "lstm"), tokenizers=("char", "bpe", "word"))
    honest = Comparison(data)
    page, text = made(tmp_path, lossy(data, "word"))
    found = Comparison(data)
    table = tables.quality(found)

    assert honest.pair("gpt char", "gpt word") is not None
    assert found.pair("gpt char", "gpt word") is None
    assert found.pair("gpt word", "lstm word") is not None
    assert found.best.tokenizer != "word"
    words = [row for row in table.rows if row[1].endswith("word")]
    assert words == table.rows[-2:]
    assert {row[0] for row in words} == {""}
    assert [row[table.heads.index("unknown")] for row in words] == ["8.1 %", "8.1 %"]
    race = tables.races(found)
    assert race is not None
    assert not [row for row in race.rows if row[0].endswith("word")]
    floor = [row[-1] for row in tables.cost(found).rows if row[0].endswith("word")]
    assert floor == ["–", "–"]
    assert {point.tokenizer for point in questions.checkpoints(found)} == {
        "char",
        "bpe",
    }
    cut = questions.tokenizers(found)
    assert cut is not None
    assert {cut.rows[i][1] for i in cut.kinds} == {"bpe"}
    for form in (page, text):
        assert "Not ranked are gpt word (8.1 %)" in form
        assert not re.search(r"5-gram floor (is|are) [^.]* word", form)
        assert "their spelling" in form.lower()


def test_what_all_lose_alike_is_ranked() -> None:
    found = Comparison(lossy(results(("gpt", "lstm")), "char", share=1e-4))

    assert found.lossy == []
    assert [row.rank for row in found.rows] != ["", ""]
    assert found.pair("gpt", "lstm") is not None
    shares = [row[-2] for row in tables.quality(found).rows]
    assert shares.count("< 0.1 %") == 2


def test_seconds_to_a_target_are_the_first_check_below_it() -> None:
    found = Comparison(results(("lstm",)))
    row = found.rows[0]
    target = 2.5

    wanted = [
        next(p["seconds"] for p in c["curve"] if p["bits_per_char"] <= target)
        for c in row.cells
    ]

    assert row.seconds_to(target) == wanted
    row.cells[0]["curve"][0]["bits_per_char"] = 2.4  # before the first second
    assert row.seconds_to(target)[0] == 0.0
    assert row.seconds_to(0.5) == []


def test_the_terminal_shows_the_same_numbers() -> None:
    data = results()

    def shown(width: int) -> str:
        console = Console(width=width, file=io.StringIO())
        with console.capture() as captured:
            console.print(report.summary_table(data, console))
        return captured.get()

    for width in (80, 220):
        for row in tables.quality(Comparison(data)).rows:
            assert row[1] in shown(width)
            assert row[2] in shown(width)
        assert "…" not in shown(width)
    assert "accuracy" in shown(220)
    assert "accuracy" not in shown(80)


def test_a_grid_has_one_table_for_each_pair_of_axes(tmp_path: Path) -> None:
    axes = {
        "model.num_layers": [2, 4],
        "model.d_model": [64, 128],
        "model.dropout": [0],
    }
    page, _ = made(tmp_path, results(("gpt",), axes=axes))
    grids = report.conditions.grids(Comparison(results(("gpt",), axes=axes)))

    assert [grid.heads[0] for grid in grids] == ["num_layers", "num_layers", "d_model"]
    assert "Ablations" in page
    assert "mean over d_model" in grids[1].caption
    assert "at num_layers 4, d_model 128, dropout 0" in grids[1].caption
    data = results(("gpt", "lstm"), tokenizers=("char", "bpe"))
    for cell in data["cells"]:
        cell["axes"] = {"data.tokenizer": cell["tokenizer"]}
    data["axes"] = {"data.tokenizer": ["char", "bpe"]}
    cuts = report.conditions.grids(Comparison(data))
    assert [[row[0] for row in grid.rows] for grid in cuts] == [["char", "bpe"]] * 2
    assert not [row for grid in cuts for row in grid.rows if "–" in row]
    assert cuts[0].kinds == {1: "best"}
    for cell in data["cells"]:  # other texts: nothing is lowest
        cell["corpus"] = cell["tokenizer"]
    texts = report.conditions.grids(Comparison(data))
    assert [grid.kinds for grid in texts] == [{}, {}]
    assert "lowest" not in texts[0].caption
    one = report.conditions.grids(
        Comparison(results(("gpt",), axes={"model.a": [2, 4]}))
    )
    assert one[0].heads == ["a", "bits per character"]
    assert one[0].kinds == {1: "best"}  # the synthetic model gains with size


def test_a_sweep_is_shown_whole(tmp_path: Path) -> None:
    trials = [{"lr": 1e-3, "bits_per_char": 2.5}, {"lr": 3e-3, "bits_per_char": 2.4}]
    tuned = {"trials": 2, "sweeps": {"gpt": trials}, "chosen": {"gpt": {"lr": 3e-3}}}
    page, text = made(tmp_path, results(("gpt",), tuned=tuned))

    assert "Search of learning rates" in page
    assert "gpt: lr 0.003 chosen" in text
    assert "| **0.003** | **2.4** |" in text


@pytest.mark.parametrize(
    ("budget", "said"),
    [
        ({"kind": "seconds", "value": 30}, "30 seconds each, of which 7.5 went to the"),
        ({"kind": "steps", "value": 60}, "60 steps each, of which 14 went to the"),
        ({"kind": "tokens", "value": 2_000_000}, "2,000,000 tokens each, of which"),
        ({"kind": "flops", "value": 4e12}, "4e+12 training FLOPs each, of which 1e+12"),
    ],
)
def test_what_the_search_took_of_the_budget_is_said(budget: dict, said: str) -> None:
    tuned = {"trials": 7, "share": 0.25, "sweeps": {}, "chosen": {}}

    assert said in report.subtitle(
        Comparison(results(("gpt",), budget=budget, tuned=tuned))
    )
    assert "search" not in report.subtitle(Comparison(results(("gpt",), budget=budget)))


def test_other_libraries_are_a_caveat(tmp_path: Path) -> None:
    data = results(("gpt", "lstm"))
    for one in data["cells"]:
        one["versions"] = {"torch": "2.13.0", "lightning": "2.6.6"}
    alike = made(tmp_path, data)[1]
    data["cells"][-1]["versions"] = {"torch": "2.14.0", "lightning": "2.6.6"}
    other = made(tmp_path, data)[1]

    assert "not all made with the same libraries" not in alike
    assert "torch 2.14.0, lightning 2.6.6 for lstm-char-1339" in other


def test_how_seconds_were_read_is_said(whole) -> None:
    assert all("Seconds at a check are interpolated" in form for form in whole)


def test_an_unfinished_comparison_has_a_report(tmp_path: Path) -> None:
    data = results(("gpt", "lstm"), seeds=(1,))
    for name in ("gpt-char-1", "lstm-char-1"):
        fail(data, name, "waiting", "")
    page, _ = made(tmp_path, data)

    assert "No run has finished" in page
    assert "Runs without a result" in page
    made(tmp_path, results(()))  # not even a plan


def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="run lmzoo compare first"):
        report.write(tmp_path)
    (tmp_path / "results.json").write_text("{")
    with pytest.raises(UsageError, match="not JSON"):
        report.write(tmp_path)
    (tmp_path / "results.json").write_text('{"format": 9, "cells": []}')
    with pytest.raises(UsageError, match="format 9"):
        report.write(tmp_path)
    for text in ("[]", '{"format": 1, "cells": 3}'):
        (tmp_path / "results.json").write_text(text)
        with pytest.raises(UsageError, match="holds no comparison"):
            report.write(tmp_path)
    for cells in ("[{}]", "[3]"):
        (tmp_path / "results.json").write_text(f'{{"format": 1, "cells": {cells}}}')
        with pytest.raises(UsageError, match="a cell lacks name, label"):
            report.write(tmp_path)


# ---- three questions -----------------------------------------------------------------


def test_tokenizers_are_compared_in_bits_per_byte() -> None:
    data = results(("gpt", "lstm"), tokenizers=("char", "bpe", "word"))
    table = questions.tokenizers(Comparison(data))

    assert table is not None
    best = [table.rows[i][:2] for i in table.kinds]
    assert best == [["gpt", "bpe"], ["lstm", "bpe"]]  # as planted
    assert questions.tokenizers(Comparison(results(("gpt",)))) is None


def test_accuracy_misranks_across_tokenizers_and_that_is_found() -> None:
    data = results(("gpt",), tokenizers=("char", "word"), seeds=(1,))
    points = questions.checkpoints(Comparison(data))
    wrong = total = 0
    for i, a in enumerate(points):
        for b in points[i + 1 :]:
            if a.tokenizer != b.tokenizer:
                total += 1
                wrong += (a.accuracy - b.accuracy) * (a.bits - b.bits) > 0

    counts, examples = questions.misranked(Comparison(data))

    assert counts.rows[0][2].startswith(f"{wrong} of {total} (")
    assert wrong > 0
    assert counts.rows[0][1].startswith("0 of ")  # the planted accuracy follows nll
    assert len(examples.rows) == questions.EXAMPLES


def _cell(*losses: float, every: int = 250) -> dict:
    curve = [
        {"step": i * every, "seconds": float(i), "nll": loss}
        for i, loss in enumerate(losses)
    ]
    return {"curve": curve}


def test_rules_are_replayed_as_the_callback_would_stop() -> None:
    losses = [4.0, 3.0, 2.5, 2.49, 2.48, 2.47, 2.46, 2.45, 2.44, 2.3]
    cell = _cell(*losses)

    relative = questions.replay(cell, {"min_relative_improvement": 0.05})
    absolute = questions.replay(cell, {"min_delta": 0.05})
    fixed = questions.replay(cell, None)
    patient = questions.replay(cell, {})

    stopper = EarlyStopping(patience=5, min_relative_improvement=0.05)
    wanted = next(i for i, x in enumerate(losses) if stopper.check(x, i))
    assert relative is not None
    assert relative.step == wanted * 250
    assert absolute is not None
    assert (absolute.step, absolute.nll) == (1750, 2.45)  # five checks after 2.5
    assert fixed is not None
    assert (fixed.step, fixed.nll, fixed.wasted) == (1000, 2.48, 0)
    assert patient is not None
    assert not patient.ended


def test_time_without_gain_is_counted() -> None:
    stop = questions.replay(_cell(4, 3, 2, 2.1, 2.2, 2.3, 2.4, 2.5, 1.0), {})

    assert stop is not None
    assert (stop.nll, stop.wasted, stop.seconds) == (2, 5, 7)
    assert questions.replay(_cell(4, 3), None) is None  # shorter than the fixed length


# ---- where runs do not belong together -----------------------------------------------


def test_runs_of_two_commits_and_two_versions_are_told() -> None:
    data = results()
    for cell in data["cells"]:
        cell.update(commit="aaaa111", versions={"lmzoo": "0.1.0", "torch": "2.13.0"})
    assert "not made by one" not in " ".join(caveats(Comparison(data)))  # the control

    data["cells"][0].update(commit="bbbb222")
    data["cells"][1].update(versions={"lmzoo": "0.1.0", "torch": "2.12.0"})

    said = " ".join(caveats(Comparison(data)))
    assert "commits bbbb222 and aaaa111" in said
    assert "one torch: 2.13.0 and 2.12.0" in said


def test_a_model_measured_on_another_text_is_in_no_pair() -> None:
    data = results(("lstm", "gpt", "conv"))
    for cell in data["cells"]:
        text = "f" if cell["model"] == "conv" else "e"
        cell["text"] = {"val_text_sha256": text * 64}

    found = Comparison(data)

    assert found.corpora == ["tinyshakespeare #eeeeee", "tinyshakespeare #ffffff"]
    assert [{pair.one, pair.other} for pair in found.pairs] == [{"lstm", "gpt"}]


def test_a_run_off_its_budget_is_told_and_left_out() -> None:
    data = results(("lstm", "ff"))
    for cell in data["cells"]:
        cell["deviation"] = 0.012
    within = Comparison(data)
    assert "by up to +1.2 %" in " ".join(caveats(within))
    assert "speed changed" not in " ".join(caveats(within))
    assert within.pairs[0].seeds == 3

    data["cells"][0]["steps"] -= 7
    name = data["cells"][0]["name"]
    said = " ".join(caveats(Comparison(data)))
    assert "speed changed between the seeds of lstm, which took" in said
    assert f"{name} {data['cells'][0]['steps']:,}" in said

    data["cells"][0]["deviation"] = -0.14
    found = Comparison(data)

    assert found.pairs[0].seeds == 2
    assert f"by up to \N{MINUS SIGN}14.0 % ({name}); outside 5 %" in " ".join(
        caveats(found)
    )
    column = tables.cost(found).heads.index("off budget")
    assert tables.cost(found).rows[0][column] == "+1.2 %"
    assert name in [row[0] for row in conditions.unfinished(found).rows]


def test_a_model_always_off_its_budget_is_shown_and_not_ranked(tmp_path: Path) -> None:
    data = results(("lstm", "ff", "gpt"))
    for cell in data["cells"]:
        cell["deviation"] = 0.2 if cell["model"] == "lstm" else 0.0
    found = Comparison(data)

    assert [row.label for row in found.rows] == ["ff", "gpt"]
    _, text = made(tmp_path, data)
    assert "lstm (off budget)" in text
    assert "off budget: trained three times" in text
