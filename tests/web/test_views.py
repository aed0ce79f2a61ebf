"""What is shown is escaped, whatever a text or a model says."""

from html.parser import HTMLParser

import numpy as np
import pytest

from lmzoo.scoring import Candidate, Score
from lmzoo.scoring.columns import Column
from lmzoo.web import views

BAD = "<img src=x onerror=alert(1)>\"'</div>\x00\x1b[31m\ud800"


class Seen(HTMLParser):
    """Tags and text, as a browser reads them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.names: set[str] = set()
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.append(tag)
        self.names |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += data


def column() -> Column:
    size = len(BAD)
    ones = np.ones(size)
    score = Score(BAD, ones, ones, ones, 0, BAD, BAD)
    return Column(BAD, BAD, score, notices=[BAD])


LOOK = {"method": BAD, "values": [-1.0], "normalised": [1.0]}
SHOWN = {
    "problem": lambda: views.problem(BAD),
    "hint": lambda: views.hint(BAD),
    "written": lambda: views.written(BAD, BAD, [BAD], done=True),
    "surprise": lambda: views.surprise([column()]),
    "chances": lambda: views.chances({BAD: [Candidate(BAD, 0, 0.5, 0.7)]}, [BAD]),
    "labelled": lambda: views.labelled({BAD: {BAD: 1.0}}),
    "influence": lambda: views.influence(
        {"tokens": [BAD], "target": BAD, "looks": [LOOK]}, [BAD], [BAD]
    ),
    "facts": lambda: views.facts([(BAD, BAD)], []),
    "shelf": lambda: views.shelf([(BAD, BAD)]),
}


@pytest.mark.parametrize("name", list(SHOWN))
def test_nothing_of_a_text_becomes_a_tag(name: str) -> None:
    html = SHOWN[name]()
    seen = Seen(html)

    assert "img" not in seen.tags
    assert not {n for n in seen.names if n.startswith(("on", "src", "href"))}
    assert "<img" in seen.text.replace("\u2423", " ") or name == "surprise"
    assert not {"\x00", "\x1b", "\ud800"} & set(html)
    html.encode("utf-8")


def test_the_control_is_seen() -> None:
    seen = Seen(f"<p>{BAD}</p>")
    assert "img" in seen.tags
    assert "onerror" in seen.names


def test_probabilities_share_one_scale() -> None:
    found = {
        "a": [Candidate("x", 0, 0.5, 0.7), Candidate("y", 1, 0.25, 1.4)],
        "b": [Candidate(" ", 2, 0.25, 1.4)],
    }
    html = views.chances(found, [])

    assert html.count("width:100.00%") == 1
    assert html.count("width:50.00%") == 2
    assert "75.0 %" in html  # all others of b
    assert "\u2423" in html


def test_the_likeliest_label_is_said_first() -> None:
    html = views.labelled({"run": {"negative": 0.2, "positive": 0.8}})
    assert html.index("positive") < html.index("80.0 %") < html.index("negative")


def test_messages_do_not_speak_of_options() -> None:
    assert "target &#x27;x&#x27;" in views.problem("--target 'x'")
