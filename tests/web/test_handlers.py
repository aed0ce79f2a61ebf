"""What the page answers, without a web server."""

import logging
import re
from itertools import pairwise

import pytest
import torch

from lmzoo.classification import classify
from lmzoo.errors import UsageError
from lmzoo.scoring import next_tokens
from lmzoo.scoring.columns import spelled
from lmzoo.web import handlers
from lmzoo.web.handlers import Desk
from lmzoo.web.limits import Limits
from lmzoo.web.shelf import Shelf

KNOBS = (0.8, 0, 1.0, 12, 42, "")  # temperature, top-k, top-p, length, seed, stop
BOTH = ["chars", "bytes"]


@pytest.fixture(scope="module")
def desk(runs: dict[str, str]) -> Desk:
    shelf = Shelf(list(runs.values()), torch.device("cpu"))
    limits = Limits(characters=100, new_tokens=50, positions=20)
    return Desk(shelf, limits)


def last(answer) -> str:
    return list(answer)[-1]


def plain(html: str) -> str:
    """The words of a page."""
    return re.sub(r"<[^>]*>", "", html)


def test_a_text_grows_and_says_how_it_ended(desk: Desk, monkeypatch) -> None:
    monkeypatch.setattr(handlers, "FRAME", 0.0)
    states = [plain(s) for s in desk.generate("chars", "the ", *KNOBS)]
    texts = [state.split("12 tokens")[0] for state in states]

    assert len(states) == 13  # one a token, and the end
    assert all(b.startswith(a) for a, b in pairwise(texts))
    assert states[-1].startswith("the ")
    assert "ended by: length" in states[-1]
    run = desk.shelf["chars"].run
    alone = run.generate("the ", max_new_tokens=12, temperature=0.8)
    assert texts[-1] == f"the {alone}"


def test_a_stop_string_and_a_note(desk: Desk) -> None:
    stopped = last(desk.generate("chars", "the qu", 0.0, 0, 1.0, 50, 1, "\\n"))
    noted = plain(last(desk.generate("chars", "th\u00e9", *KNOBS)))

    assert "\n" not in plain(stopped)
    assert "the vocabulary lacks" in noted


def test_time_ends_a_text_and_keeps_it(desk: Desk, monkeypatch) -> None:
    clock = iter(range(1000))
    monkeypatch.setattr(handlers.time, "monotonic", lambda: float(next(clock)))
    quick = Desk(desk.shelf, Limits(seconds=10.0))
    html = plain(last(quick.generate("chars", "the ", 0.8, 0, 1.0, 50, 42, "")))

    assert "ended by: time limit of 10 s" in html
    count = int(re.findall(r"(\d+) tokens", html)[0])
    assert 0 < count < 10


def test_a_text_is_scored_under_both(desk: Desk) -> None:
    html = desk.score(BOTH, "the lazy dog")

    assert html.count("<section>") == 2
    assert html.count("data-tip") == 24
    assert "every part of this text occurs in the training text" in html
    assert "hint" in desk.score(BOTH, "")


def test_next_tokens_of_both(desk: Desk) -> None:
    html = desk.expect(BOTH, "the laz", 4)

    assert html.count("<i style") == 8
    run = desk.shelf["chars"].run
    (best,) = next_tokens(run.model, run.tokenizer, "the laz", 1)
    shown = plain(html.split("<section>")[1])
    assert shown.startswith(f"chars{spelled(best.token)}{best.probability:.1%}"[:-1])
    assert "hint" in desk.expect(BOTH, "", 4)
    assert "does not know &#x27;\u00e9&#x27;" in desk.expect(BOTH, "caf\u00e9", 4)


def test_attribution(desk: Desk) -> None:
    methods = ["grad_norm", "occlusion"]
    html = desk.attribute("chars", "the laz", "", methods)
    other = desk.attribute("chars", "the laz", "z", ["occlusion"])

    assert html.count("<section>") == 2
    assert html.count("data-tip") == 14
    assert other.count("data-tip") == 7
    assert "Read with care" in html


def test_training(desk: Desk) -> None:
    html = desk.train("chars")

    assert html.count("<svg") == 3
    assert "lowest floor" in html
    assert "Loss" in html


def test_labels(desk: Desk) -> None:
    html = desk.classify(["tone"], "a joy")
    (said,) = classify(desk.shelf["tone"].run, ["a joy"])

    assert f'"verdict">{said.label} <span>{said.score:.1%}'[:-1] in html
    assert html.count("<i style") == 2
    assert "hint" in desk.classify(["tone"], " ")


def test_classifiers_and_language_models_are_told_apart(desk: Desk) -> None:
    assert desk.shelf.writers == ["chars", "bytes"]
    assert desk.shelf.labellers == ["tone"]
    assert "labels bad and good" in desk.shelf.described("tone")
    assert "F1" in desk.train("tone")


LONG = "a" * 101
REFUSED = {
    "another run": lambda d: last(d.generate("/etc", "the", *KNOBS)),
    "a run that is no name": lambda d: last(d.generate(["chars"], "the", *KNOBS)),
    "a long prompt": lambda d: last(d.generate("chars", LONG, *KNOBS)),
    "a long stop": lambda d: last(d.generate("chars", "a", 1, 0, 1, 9, 1, LONG)),
    "a long text": lambda d: last(d.generate("chars", "a", 1, 0, 1, 51, 1, "")),
    "a negative length": lambda d: last(d.generate("chars", "a", 1, 0, 1, -1, 1, "")),
    "half a token": lambda d: last(d.generate("chars", "a", 1, 0, 1, 1.5, 1, "")),
    "no number": lambda d: last(d.generate("chars", "a", "hot", 0, 1, 9, 1, "")),
    "no finite number": lambda d: last(
        d.generate("chars", "a", float("nan"), 0, 1, 9, 1, "")
    ),
    "an infinite seed": lambda d: last(
        d.generate("chars", "a", 1, 0, 1, 9, float("inf"), "")
    ),
    "a truth value": lambda d: last(d.generate("chars", "a", 1, True, 1, 9, 1, "")),
    "no runs": lambda d: d.score([], "the"),
    "runs as text": lambda d: d.score("chars", "the"),
    "a run among others": lambda d: d.score(["chars", "../x"], "the"),
    "no text": lambda d: d.score(["chars"], None),
    "a long phrase": lambda d: d.score(["chars"], LONG),
    "a long beginning": lambda d: d.expect(["chars"], LONG, 4),
    "many positions": lambda d: d.attribute("chars", "a" * 21, "", ["occlusion"]),
    "no method": lambda d: d.attribute("chars", "a", "", []),
    "another method": lambda d: d.attribute("chars", "a", "", ["magic"]),
    "nested methods": lambda d: d.attribute("chars", "a", "", [["occlusion"]]),
    "two tokens": lambda d: d.attribute("chars", "the", "fo", ["occlusion"]),
    "a classifier that writes": lambda d: last(d.generate("tone", "a", *KNOBS)),
    "a classifier that scores": lambda d: d.score(["tone"], "a"),
    "a classifier to attribute": lambda d: d.attribute("tone", "a", "", ["occlusion"]),
    "a model that labels": lambda d: d.classify(["chars"], "a"),
    "another log": lambda d: d.train("../chars"),
    "another classifier": lambda d: d.classify(["other"], "a"),
    "a nested classifier": lambda d: d.classify([["tone"]], "a"),
    "a long sentence": lambda d: d.classify(["tone"], LONG),
}


@pytest.mark.parametrize("what", list(REFUSED))
def test_what_is_refused(what: str, desk: Desk) -> None:
    with pytest.raises(UsageError):
        REFUSED[what](desk)


def test_mistakes_are_told_in_one_line(desk: Desk) -> None:
    answer = desk.answering(desk.attribute)
    html = answer("chars", "", "", ["occlusion"])
    streamed = desk.streaming(desk.generate)
    long = list(streamed("chars", LONG, *KNOBS))

    assert "problem" in html
    path = str(desk.shelf["chars"].path)
    assert path not in desk.told(UsageError(f"{path} lacks it"))
    assert len(long) == 1
    assert "101 characters; this page takes 100" in long[0]


def test_a_fault_of_ours_is_not_shown(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: object) -> str:
        raise RuntimeError("a secret")

    with caplog.at_level(logging.ERROR):
        html = desk.answering(fails)("anything")

    assert "a secret" not in html
    assert "the fault is not yours" in html
    assert "a secret" in caplog.text


def test_a_run_is_given_once(runs: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="given twice"):
        Shelf([runs["chars"], runs["chars"]], torch.device("cpu"))
