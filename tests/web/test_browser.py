"""The page in a real browser: Debian's Chromium, driven by Playwright."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.web.conftest import LIMITS, Served

CHROMIUM = Path("/usr/bin/chromium")
BAD = "<img src=x onerror=\"document.title='owned'\"> ${1+1} {{value}} <b>the</b>"
LONG_WAIT = 30_000  # milliseconds, for a busy machine

pytestmark = pytest.mark.skipif(
    not CHROMIUM.exists(), reason=f"needs {CHROMIUM}: apt-get install chromium"
)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    driver = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    with driver.sync_playwright() as started:
        browser = started.chromium.launch(
            executable_path=str(CHROMIUM),
            args=["--no-sandbox"] if os.geteuid() == 0 else [],
        )
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: Any, served: Served) -> Iterator[Any]:
    """The page as it opens; afterwards, that nothing went wrong in it."""
    page = chromium.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(LONG_WAIT)
    asked: list[str] = []
    wrong: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda m: wrong.append(m.text) if m.type == "error" else None)
    page.goto(served.address)
    for part in ("role=tab", "#generate", "textarea"):
        page.wait_for_selector(part)
    yield page
    elsewhere = [url for url in asked if not url.startswith(f"{served.address}/")]
    page.close()
    assert elsewhere == []
    assert wrong == []


def open_tab(page: Any, name: str) -> None:
    page.get_by_role("tab", name=name).click()


def fill(page: Any, label: str, text: str) -> None:
    page.get_by_label(label, exact=True).locator("visible=true").fill(text)


def test_the_head_names_the_runs(page: Any) -> None:
    head = page.inner_text(".shown header")

    assert "chars" in head
    assert "byte vocabulary of" in head
    tabs = page.get_by_role("tab").all_inner_texts()
    assert tabs[:4] == ["Generate", "Score", "Next token", "Attribution"]
    assert tabs[4:] == ["Sentiment", "Training"]


def test_a_text_streams(page: Any) -> None:
    fill(page, "Prompt", "the quick ")
    fill(page, "number input for Length, tokens", str(LIMITS["max_new_tokens"]))
    page.click("#generate")
    page.wait_for_selector(".written .caret")
    early = page.inner_text(".written")
    page.wait_for_selector("text=ended by: time limit of 2 s")

    assert early.startswith("the quick ")
    assert len(page.inner_text(".written")) > len(early)
    assert page.locator(".caret").count() == 0


def test_a_text_is_stopped_by_hand(page: Any) -> None:
    fill(page, "number input for Length, tokens", str(LIMITS["max_new_tokens"]))
    page.click("#generate")
    page.wait_for_selector(".written .caret")
    page.click("#stop")
    page.wait_for_function(
        "document.getAnimations().some("
        "one => one.animationName == 'caret' && one.playState == 'finished')"
    )
    stopped = page.inner_text(".written")
    assert page.locator(".caret").count() == 1  # it did not end by itself
    fill(page, "number input for Length, tokens", "5")
    page.click("#generate")

    page.wait_for_selector("text=ended by: length")
    assert len(page.inner_text(".written")) < len(stopped)


def test_what_is_typed_is_text(page: Any) -> None:
    open_tab(page, "Score")
    fill(page, "Text", BAD)
    page.click("#score")
    scored = page.locator(".tokens", has_text="onerror").first
    scored.wait_for()
    shown = scored.inner_text()
    open_tab(page, "Generate")
    fill(page, "Prompt", BAD)
    fill(page, "number input for Length, tokens", "3")
    page.click("#generate")
    page.wait_for_selector("text=ended by")

    assert shown.replace("\u00b7", "").strip() == BAD
    assert page.inner_text(".written .given") == BAD
    assert page.locator(".shown img").count() == 0
    assert page.title() == "lmzoo"


def test_scores_stand_side_by_side(page: Any) -> None:
    open_tab(page, "Score")
    fill(page, "Text", "the lazy dog")
    page.click("#score")
    page.wait_for_selector("text=in the training text")
    cards = [page.locator(".cards > section").nth(i).bounding_box() for i in (0, 1)]
    token = page.locator(".tokens span").nth(2)
    token.hover()
    tip = token.evaluate("e => getComputedStyle(e, '::after').content")

    assert cards[0]["y"] == cards[1]["y"]
    assert cards[0]["x"] < cards[1]["x"]
    assert "probability" in tip


def test_bars_follow_the_typing(page: Any) -> None:
    open_tab(page, "Next token")
    fill(page, "Type, and watch", "th")
    box = page.get_by_label("Type, and watch").locator("visible=true")
    before = page.locator(".bars:visible").first.inner_text()
    box.press_sequentially("e laz")
    page.wait_for_function(
        "old => [...document.querySelectorAll('.bars')].find(e => e.offsetParent)"
        ".innerText != old",
        arg=before,
    )

    assert page.locator(".bars:visible").count() == 2


def test_a_label_with_its_score(page: Any) -> None:
    open_tab(page, "Sentiment")
    for text, label in (("a bore to sit through", "bad"), ("a joy", "good")):
        box = page.get_by_label("Text", exact=True).locator("visible=true")
        box.fill("")
        box.press_sequentially(text)
        page.wait_for_selector(f".verdict:has-text('{label}')")


def test_attribution_and_training(page: Any) -> None:
    open_tab(page, "Attribution")
    page.click("#attribute")
    page.wait_for_selector("text=Read with care")
    open_tab(page, "Training")

    assert page.locator(".weighed").count() == 2
    page.wait_for_selector("figure svg:visible")
    assert page.locator("figure svg:visible").count() == 3


def test_a_mistake_is_shown_where_the_answer_would_be(page: Any) -> None:
    page.evaluate(  # the browser's own limit is nobody's protection
        "document.querySelectorAll('textarea').forEach(e => e.removeAttribute("
        "'maxlength'))"
    )
    fill(page, "Prompt", "a" * (LIMITS["max_characters"] + 1))
    page.click("#generate")
    page.wait_for_selector(".problem")

    assert "this page takes 200" in page.inner_text(".problem")


def test_the_browser_is_told_to_fetch_nothing_from_elsewhere(
    chromium: Any, served: Served
) -> None:
    """The control of the check that each page makes when it closes."""
    page = chromium.new_page()
    page.goto(served.address)
    for line in (
        "fetch('http://192.0.2.1/').catch(() => 0)",
        "new Image().src = 'http://192.0.2.1/x.png'",
    ):
        with page.expect_console_message(
            lambda message: "Content Security Policy" in message.text,
            timeout=LONG_WAIT,
        ):
            page.evaluate(line)
    page.close()
