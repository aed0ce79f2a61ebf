"""The attribution probe, on runs of several members of the zoo."""

import math
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import lmzoo
from lmzoo.analysis.history import open_history
from lmzoo.analysis.probes.attribution import attribution
from lmzoo.analysis.probes.importance import Look, shared
from lmzoo.analysis.probes.importance_words import _over_time
from lmzoo.errors import UsageError
from lmzoo.report.finding import as_csv
from lmzoo.scoring.common import token_names
from tests.analysis.probes.zoo import MEMBERS, PLUGIN, trained

PROMPT = "the quick brown"
SEEN = {"ff": 4, "conv": 7, PLUGIN: 2}


# RMSNorm turns on the spot at zero vectors, where integrated gradients begin: palm's
# do not add up in 1,024 steps, which the method says.
@pytest.mark.parametrize("name", [name for name in MEMBERS if name != "palm"])
def test_every_method_on_every_member(name: str) -> None:
    found = attribution(trained(name), prompt=PROMPT, target=" ", methods="all")
    looks = found.data["looks"]
    assert [look["method"] for look in looks] == [
        "grad_norm",
        "input_x_gradient",
        "grad_cam",
        "integrated_gradients",
        "occlusion",
    ]
    for look in looks:
        values = np.array(look["values"])
        assert len(values) == len(PROMPT)
        assert np.isfinite(values).all()
        assert max(look["normalised"]) == pytest.approx(1)
        if look["method"] != "grad_cam":
            unseen = len(PROMPT) - SEEN.get(name, len(PROMPT))
            assert not values[:unseen].any()
            assert values[unseen:].all()
    assert set(found.figures) == {"bars", "heat"}
    assert all(svg.startswith("<svg") for svg in found.figures.values())
    assert len(found.rows) == 5 * len(PROMPT)
    assert as_csv(found.rows).splitlines()[0].endswith("token,value,normalised")
    assert "no proof" in found.text[-1] or "not that the model relies" in found.text[-1]
    if name in SEEN:
        assert f"any influence: {SEEN[name]} of {len(PROMPT)}" in found.text[0]
    else:
        assert "any influence" not in found.text[0]


def test_the_words_say_what_the_numbers_say() -> None:
    found = attribution(trained("gpt"), prompt=PROMPT, methods="grad_norm,occlusion")
    norms = np.array(found.data["looks"][0]["values"])
    assert f"position {norms.argmax()} " in found.text[0]
    shares = norms / norms.sum()
    entropy = -(shares * np.log2(shares)).sum()
    assert f"{100 * shares.max():.0f} %" in found.text[0]
    assert (
        f"{entropy:.2f} bits of at most {math.log2(len(PROMPT)):.2f}" in found.text[0]
    )
    assert "Spearman correlation of" in found.text[1]
    table = found.tables[0]
    assert table.heads == ["position", "token", "grad norm", "occlusion"]
    assert [row[1] for row in table.rows] == list(PROMPT.replace(" ", "␣"))


def test_checkpoints_become_rows_of_a_heat_map() -> None:
    history = open_history(trained("gpt"))
    found = attribution(history, prompt=PROMPT, target="x", checkpoints="all")
    assert history.steps == [10, 20]
    assert [look["step"] for look in found.data["looks"]] == history.steps
    drawn = found.figures["heat-grad_norm"]
    assert "step 10" in drawn
    assert "step 20" in drawn
    assert any("From step 10 to 20" in text for text in found.text)
    first, last = (look["values"] for look in found.data["looks"])
    assert first != last


def test_against_another_run_and_against_itself() -> None:
    options = {"prompt": PROMPT, "target": "x", "checkpoints": "20"}
    run = trained("gpt")
    itself = attribution(run, against=run, **options)
    assert any("Spearman correlation of 1.00" in text for text in itself.text)
    other = attribution(run, against=trained("lstm"), **options)
    assert not any("Spearman correlation of 1.00" in text for text in other.text)
    assert {row["run"] for row in other.rows} == {"gpt on story", "lstm on story"}
    alone = attribution(run, **options)
    bars, twice = (f.figures["bars"].count("<rect") for f in (alone, other))
    assert twice >= bars + len(PROMPT)  # a second series
    assert "lstm on story" in other.figures["bars"]
    assert "lstm on story" not in alone.figures["bars"]


def test_runs_of_one_name_and_step_are_told_apart(tmp_path: Path) -> None:
    twin = tmp_path / "twin"
    shutil.copytree(trained("gpt"), twin)
    options = {"prompt": PROMPT, "target": "x"}
    found = attribution(trained("gpt"), against=str(twin), **options)
    names = {look["run"] for look in found.data["looks"]}
    assert names == {"gpt on story (gpt0)", "gpt on story (twin)"}
    for shown in (*found.figures.values(), str(found.tables[0].heads)):
        assert all(name in shown for name in names)
    alone = attribution(trained("gpt"), **options)
    both = found.figures["bars"].count("<rect")
    assert both >= alone.figures["bars"].count("<rect") + len(PROMPT)
    other = attribution(trained("gpt"), against=trained("lstm"), **options)
    assert "(gpt0)" not in str(other.data)  # the control: names that differ


def test_against_a_model_that_lacks_methods() -> None:
    options = {"prompt": PROMPT, "target": "x", "methods": "all"}
    found = attribution(trained("gpt"), against=trained("ngram"), **options)
    assert any("occlusion ranks the positions" in text for text in found.text)
    assert "ngram on story" in found.figures["bars"]
    other = attribution(trained("gpt"), against=trained("lstm"), **options)
    assert any("grad_norm ranks the positions" in text for text in other.text)
    look = Look("a", 1, "grad_norm", np.ones(2), -1.0)
    lacks = Look("b", 1, "occlusion", np.ones(2), -1.0)
    assert shared([look], [lacks]) == (look, None)


def test_a_token_that_cannot_be_typed_is_a_target() -> None:
    run = trained("gpt", "--data.tokenizer byte --data.val_fraction 0.1")
    found = attribution(run, prompt="the", target="<0xC3>")
    assert found.data["target"] == "<0xC3>"
    with pytest.raises(UsageError, match=r"2 tokens \(<0xC3>, <0xA9>\)"):
        attribution(run, prompt="the", target="é")
    with pytest.raises(UsageError, match="4 tokens"):
        attribution(run, prompt="the", target="<0xZ")


@pytest.mark.parametrize("options", ["--data.tokenizer byte", ""])
def test_a_default_that_cannot_be_typed(
    options: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = open_history(trained("gpt", options))
    wanted = 0xC3 if options else 5
    real = type(run.run.model).forward

    def prefers(self, tokens):
        return real(self, tokens).index_fill(-1, torch.tensor([wanted]), 99.0)

    monkeypatch.setattr(type(run.run.model), "forward", prefers)
    found = attribution(run, prompt="the", methods="occlusion")
    name = token_names(run.tokenizer)(wanted)
    assert found.data["target"] == name
    assert (len(name) > 1) == bool(options)  # the control can be typed


def test_equal_concentration_is_no_change() -> None:
    def said(first: list[float], last: list[float]) -> str:
        looks = [
            Look("a", step, "grad_norm", np.array(values), -1.0)
            for step, values in ((1, first), (2, last))
        ]
        return _over_time(looks)[0]

    assert "neither concentrated" in said([1, 2, 4], [2, 4, 8])
    assert "spread out:" in said([1, 2, 4], [3, 3, 4])
    assert "more concentrated" in said([3, 3, 4], [1, 2, 4])


def test_the_target_is_the_models_own_choice_by_default() -> None:
    found = attribution(trained("lstm"), prompt=PROMPT)
    run = lmzoo.load(trained("lstm"), which="last")
    choice = run.generate(PROMPT, max_new_tokens=1, temperature=0)
    assert found.data["target"] == choice
    assert any("own first choice" in note for note in found.notes)


def test_a_counting_model_has_occlusion() -> None:
    run = trained("ngram")
    with pytest.raises(UsageError, match="counts and has no gradients; occlusion"):
        attribution(run, prompt=PROMPT, target="x")
    found = attribution(run, prompt=PROMPT, target="x", methods="all")
    assert [look["method"] for look in found.data["looks"]] == ["occlusion"]
    assert sum("left out" in note for note in found.notes) == 4


def test_what_the_vocabulary_lacks_follows_the_runs_rule() -> None:
    read = attribution(trained("ff"), prompt="the ∫ cat", target="a")
    assert len(read.data["tokens"]) == 9
    assert any("read as <unk>: 1 of 9" in note for note in read.notes)
    skipped = attribution(
        trained("ff", "--data.unknown skip"), prompt="the ∫ cat", target="a"
    )
    assert len(skipped.data["tokens"]) == 8
    assert any("left out: 1 of 9" in note for note in skipped.notes)
    refuses = trained("ff", "--data.unknown error")
    with pytest.raises(UsageError, match="refuses unknown"):
        attribution(refuses, prompt="the ∫ cat", target="a")
    with pytest.raises(UsageError, match="'∫' is not in the vocabulary"):
        attribution(trained("ff"), prompt="the cat", target="∫")


def test_occlusion_names_its_baseline() -> None:
    options = {"prompt": PROMPT, "target": "x", "methods": "occlusion"}
    usual = attribution(trained("gpt"), **options)
    assert any("puts ' ' in place of each token, and 'e'" in n for n in usual.notes)
    other = attribution(trained("gpt"), baseline="z", **options)
    assert any("puts 'z'" in note for note in other.notes)
    assert usual.data["looks"][0]["values"] != other.data["looks"][0]["values"]
    assert all(other.data["looks"][0]["values"])


def test_a_long_prompt_is_cut_as_in_generation() -> None:
    found = attribution(
        trained("gpt"), prompt="the lazy dog sleeps on. " * 3, target="x"
    )
    assert 12 <= len(found.data["tokens"]) <= 24
    assert any(re.search(r"72 tokens; the model is given", n) for n in found.notes)
    whole = attribution(trained("lstm"), prompt="the dog " * 9, target="x")
    assert len(whole.data["tokens"]) == 72


def test_grad_cam_at_a_block(tmp_path: Path) -> None:
    options = {"prompt": PROMPT, "target": "x", "methods": "grad_cam"}
    found = attribution(trained("gpt"), layer="layers.0", **options)
    usual = attribution(trained("gpt"), **options)
    assert found.data["looks"][0]["values"] != usual.data["looks"][0]["values"]
    with pytest.raises(UsageError, match="exactly zero"):
        attribution(trained("gpt"), layer="layers.1", **options)
    written = found.write(tmp_path)
    assert [path.name for path in written] == [
        "attribution.json",
        "attribution.csv",
        "attribution-bars.svg",
        "attribution-heat.svg",
    ]
