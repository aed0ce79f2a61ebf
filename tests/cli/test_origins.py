"""What a run started from, in its headline, its card and the suggestions after it."""

from pathlib import Path

import pytest

from lmzoo.cli import card
from lmzoo.cli.origins import Origin, name_of, title
from lmzoo.cli.terminal import parameters
from lmzoo.runs import Run
from tests.cli.runner import fit, lmzoo

FRESH = {
    "model": "pretrained",
    "task": "language model",
    "parameters": 306272,
    "trainable": 306272,
    "counting": False,
    "lora_rank": None,
    "origins": [],
    "data": {"name": "shake"},
}
TUNED = {
    **FRESH,
    "trainable": 46240,
    "lora_rank": 8,
    "origins": [Origin("weights", "stories260k", None)._asdict()],
}


def test_the_headline_says_whose_weights_and_how_many_were_trained() -> None:
    assert title(TUNED) == "stories260k + LoRA 8"
    assert parameters(TUNED) == "46,240 of 306,272 parameters trained"
    assert title(FRESH) == "pretrained"
    assert parameters(FRESH) == "306,272 parameters"
    body = [Origin("body", "minilm", None)._asdict()]
    assert title({**FRESH, "model": "classifier", "origins": body}) == (
        "classifier on minilm"
    )


def test_a_card_says_what_is_not_known_of_the_start() -> None:
    assert card._title(TUNED) == "stories260k fine-tuned on shake"
    parts = " ".join(card._parts(TUNED))
    assert "46,240 (15.1%) were trained" in parts
    assert "rank 8" in parts
    assert "not known here" in card._bias(TUNED)
    assert "was not aligned" not in card._bias(TUNED)
    assert "nothing else" not in card._use(TUNED)

    assert card._title(FRESH) == "pretrained trained on shake"
    assert card._parts(FRESH) == []
    assert "was not aligned" in card._bias(FRESH)
    assert "nothing else" in card._use(FRESH)
    known = {**FRESH, "origins": [Origin("teacher", "big", "sst2")._asdict()]}
    assert "learned from the answers of big as well" in card._parts(known)[0]


def test_an_encoder_is_not_said_to_continue_text() -> None:
    assert "It continues text" in card._use(FRESH)
    assert "It continues text" not in card._use({**FRESH, "task": "encoder"})


TINY = "roneneldan/Tiny@0a1b0a1b0a1b"


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("models/stories260k", "stories260k"),
        ("models/SmolLM2-135M.gguf", "SmolLM2-135M"),
        (f"hub/models--roneneldan--Tiny/snapshots/{'0a1b' * 10}", TINY),
    ],
)
def test_names_of_places(path: str, name: str, tmp_path: Path) -> None:
    assert name_of(Run(tmp_path / path, {})) == name


def test_a_run_is_called_by_its_folder(story: Path, tmp_path: Path) -> None:
    run = tmp_path / "mine"
    shown = fit(
        f"--data.path {story} --trainer.max_steps 1 --freeze.embeddings true "
        f"--trainer.default_root_dir {run}"
    )
    (file,) = (run / "checkpoints").iterdir()

    assert name_of(Run(file, {})) == "mine"
    assert " parameters trained  " in shown.out
    assert f"--ckpt_path {run} --data.path OTHER.txt" in shown.out
    assert "pydoc" not in shown.out
    assert "were trained; the others stayed" in (run / "MODEL_CARD.md").read_text()
    (run / "spans.bin").unlink()
    scored = lmzoo(f"score {run} --text the")
    assert "keeps no record of its training text" in " ".join(scored.out.split())
