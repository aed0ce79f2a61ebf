"""The page: what stands where. What it shows is made by ``handlers``."""

from collections.abc import Callable
from importlib.resources import files
from typing import Any

from lmzoo.analysis.attributions import METHODS
from lmzoo.report.charts import PALETTE
from lmzoo.scoring.page import MARKS
from lmzoo.web import views
from lmzoo.web.handlers import Desk

PHRASE = "To be, or not to be: that is the question."
BEGINNING = "Once upon a time, there was a"
REVIEW = "A quiet, funny film that stays with you."
SIDE_BY_SIDE = 4  # runs that are chosen when the page opens
# one request at a time; what came with it goes to the handlers as it is
TURN = {"concurrency_id": "model", "concurrency_limit": 1, "preprocess": False}
AS_TYPED = {"trigger_mode": "always_last", "show_progress": "hidden"}
FONT = ("system-ui", "Helvetica Neue", "Arial", "sans-serif")
MONO = ("ui-monospace", "DejaVu Sans Mono", "Menlo", "Consolas", "monospace")


def mounted(desk: Desk) -> Any:
    """An ASGI application with the page at its root.

    Every switch that Gradio would look for in the environment is set here: no sharing,
    no telemetry, no history, no server of its own.
    """
    # optional: the app extra
    import gradio
    from fastapi import FastAPI  # comes with Gradio

    return gradio.mount_gradio_app(
        FastAPI(docs_url=None, redoc_url=None, openapi_url=None),
        layout(gradio, desk),
        path="/",
        footer_links=[],
        run_history=False,
        root_path="",
        allowed_paths=[],
        show_error=False,
        max_file_size=desk.limits.body,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        theme=_theme(gradio),
        css=MARKS + files("lmzoo.web").joinpath("page.css").read_text("utf-8"),
    )


def layout(gr: Any, desk: Desk) -> Any:
    """The page as Gradio blocks; ``gr`` is the library."""
    shelf = desk.shelf
    with gr.Blocks(title="lmzoo", analytics_enabled=False, fill_width=True) as page:
        _html(gr, views.shelf([(n, shelf.described(n)) for n in shelf.names]))
        with gr.Tabs():
            for title, tab in _tabs(desk).items():
                with gr.Tab(title):
                    tab(gr, desk)
    page.queue(max_size=desk.limits.waiting, api_open=False)
    return page


def _tabs(desk: Desk) -> dict[str, Callable[[Any, Desk], None]]:
    """Those that the given runs have a use for."""
    writing = {
        "Generate": _generate,
        "Score": _score,
        "Next token": _expect,
        "Attribution": _attribute,
    }
    return {
        **(writing if desk.shelf.writers else {}),
        **({"Sentiment": _classify} if desk.shelf.labellers else {}),
        "Training": _train,
    }


def _generate(gr: Any, desk: Desk) -> None:
    most = desk.limits.new_tokens
    with gr.Row(elem_classes="split"):
        with gr.Column(scale=2, min_width=320, elem_classes="knobs"):
            name = _one(gr, desk.shelf.writers)
            prompt = _text(gr, desk, "Prompt", BEGINNING, lines=3)
            with gr.Row():
                start = gr.Button("Generate", variant="primary", elem_id="generate")
                halt = gr.Button("Stop", elem_id="stop")
            temperature = gr.Slider(0, 2, 0.8, step=0.05, label="Temperature")
            top_k = gr.Slider(0, 100, 0, step=1, label="Top-k (0: all)")
            top_p = gr.Slider(0.05, 1, 1, step=0.01, label="Top-p")
            length = gr.Slider(1, most, min(300, most), step=1, label="Length, tokens")
            with gr.Row():
                seed = gr.Number(42, label="Seed", precision=0, minimum=0)
                stop = gr.Textbox("", label="Stop string", max_length=100)
        with gr.Column(scale=3, min_width=420):
            shown = _html(gr, views.hint("The text appears here as it is made."))
    running = gr.on(
        [start.click, prompt.submit],
        desk.streaming(desk.generate),
        [name, prompt, temperature, top_k, top_p, length, seed, stop],
        shown,
        api_name="generate",
        show_progress="hidden",
        **TURN,
    )
    halt.click(None, cancels=running, api_visibility="private")


def _score(gr: Any, desk: Desk) -> None:
    names = _several(gr, desk)
    with gr.Row(elem_classes="send"):
        text = _text(gr, desk, "Text", PHRASE, lines=2)
        start = gr.Button("Score", variant="primary", elem_id="score")
    answer = desk.answering(desk.score)
    shown = _html(gr, answer(_first(desk), PHRASE))
    gr.on(
        [start.click, text.submit, names.change],
        answer,
        [names, text],
        shown,
        api_name="score",
        show_progress="minimal",
        **TURN,
    )


def _expect(gr: Any, desk: Desk) -> None:
    with gr.Row():
        with gr.Column(scale=4):
            names = _several(gr, desk)
        with gr.Column(scale=1, min_width=200):
            k = gr.Slider(3, 20, 10, step=1, label="Tokens shown")
    text = _text(gr, desk, "Type, and watch", BEGINNING, lines=2)
    answer = desk.answering(desk.expect)
    shown = _html(gr, answer(_first(desk), BEGINNING, 10))
    gr.on(
        [text.input, names.change, k.change],
        answer,
        [names, text, k],
        shown,
        api_name="next_tokens",
        **AS_TYPED,
        **TURN,
    )


def _attribute(gr: Any, desk: Desk) -> None:
    with gr.Row(elem_classes="split"):
        with gr.Column(scale=2, min_width=320, elem_classes="knobs"):
            name = _one(gr, desk.shelf.writers)
            prompt = _text(gr, desk, "Prompt", BEGINNING, lines=3)
            target = gr.Textbox(
                "",
                label="Next token in question (empty: the likeliest)",
                max_length=100,
            )
            methods = gr.CheckboxGroup(
                [(name.replace("_", " "), name) for name in METHODS],
                value=["input_x_gradient", "occlusion"],
                label="Methods",
            )
            start = gr.Button("Attribute", variant="primary", elem_id="attribute")
        with gr.Column(scale=3, min_width=420):
            shown = _html(gr, views.hint("Which tokens of the prompt matter?"))
    gr.on(
        [start.click, prompt.submit],
        desk.answering(desk.attribute),
        [name, prompt, target, methods],
        shown,
        api_name="attribute",
        show_progress="minimal",
        **TURN,
    )


def _train(gr: Any, desk: Desk) -> None:
    name = _one(gr, desk.shelf.names)
    answer = desk.answering(desk.train)
    shown = _html(gr, answer(desk.shelf.names[0]))
    name.change(
        answer, name, shown, api_name="training", show_progress="hidden", **TURN
    )


def _classify(gr: Any, desk: Desk) -> None:
    every = desk.shelf.labellers
    names = gr.CheckboxGroup(every, value=every, label="Classifiers")
    text = _text(gr, desk, "Text", REVIEW, lines=3)
    answer = desk.answering(desk.classify)
    shown = _html(gr, answer(every, REVIEW))
    gr.on(
        [text.input, names.change],
        answer,
        [names, text],
        shown,
        api_name="classify",
        **AS_TYPED,
        **TURN,
    )


# ---- parts ---------------------------------------------------------------------------


def _html(gr: Any, value: str) -> Any:
    return gr.HTML(value, js_on_load=None, elem_classes="shown")


def _text(gr: Any, desk: Desk, label: str, value: str, lines: int) -> Any:
    most = desk.limits.characters  # for the browser; the handlers look again
    return gr.Textbox(
        value, label=label, lines=lines, max_lines=8, max_length=most, autofocus=False
    )


def _one(gr: Any, names: list[str]) -> Any:
    return gr.Dropdown(names, value=names[0], label="Model", filterable=False)


def _several(gr: Any, desk: Desk) -> Any:
    return gr.CheckboxGroup(desk.shelf.writers, value=_first(desk), label="Models")


def _first(desk: Desk) -> list[str]:
    return desk.shelf.writers[:SIDE_BY_SIDE]


def _theme(gr: Any) -> Any:
    """Fonts of the machine itself, the colours of the reports, always light."""
    theme = gr.themes.Default(font=FONT, font_mono=MONO, radius_size="sm").set(
        body_background_fill="#ffffff",
        button_primary_background_fill=PALETTE[0],
        button_primary_background_fill_hover="#005a91",
        button_primary_border_color=PALETTE[0],
        button_primary_text_color="#ffffff",
        button_secondary_background_fill="#ffffff",
        button_secondary_border_color="#cbd2d9",
        color_accent=PALETTE[0],
        slider_color=PALETTE[0],
        block_shadow="none",
        block_label_background_fill="transparent",
        checkbox_background_color_selected=PALETTE[0],
        checkbox_border_color_selected=PALETTE[0],
        checkbox_label_background_fill_selected="#e8f1f8",
        input_background_fill="#ffffff",
    )
    for name in [name for name in vars(theme) if name.endswith("_dark")]:
        setattr(theme, name, getattr(theme, name.removesuffix("_dark"), None))
    return theme
