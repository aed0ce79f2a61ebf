"""``lmzoo generate --variability`` and ``--probe``; the notice of ``lmzoo score``."""

import json
from pathlib import Path

import pytest

import lmzoo as package
from tests.cli.runner import lmzoo

SENTENCE = "the quick brown fox jumps over a lazy dog"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A counting model, which knows its text by heart."""
    folder = tmp_path_factory.mktemp("probes")
    text = folder / "story.txt"
    text.write_text(f"{SENTENCE}\n" * 300)
    result = lmzoo(
        f"fit --model ngram --data.path {text} "
        f"--trainer.default_root_dir {folder / 'run'}"
    )
    assert result.code == 0, result.err
    return folder / "run"


def test_samples_that_copy_are_told(run: Path) -> None:
    line = f"generate {run} --num_samples 3 --max_new_tokens 60 --temperature 0"
    shown = lmzoo(f"{line} --variability").out
    assert "longest span copied" in shown
    assert "1.000" in shown  # the samples are equal, so they overlap wholly
    plain = json.loads(lmzoo(f"{line} --variability --json").out)["variability"]
    assert plain["edit_distance"] == 0
    assert plain["longest_copied"] >= 40
    assert "variability" not in json.loads(lmzoo(f"{line} --json").out)


def test_what_is_memorised_is_counted_against_held_out_text(run: Path) -> None:
    plain = json.loads(lmzoo(f"generate {run} --probe memorised --json").out)
    assert plain["train"]["exact"] > 0.9 * plain["train"]["prompts"]
    shown = lmzoo(f"generate {run} --probe memorised").out
    assert "held-out text" in shown


def test_the_probe_says_that_it_needs_the_text(run: Path, tmp_path: Path) -> None:
    (file,) = (run / "checkpoints").glob("*.ckpt")
    moved = tmp_path / file.name
    moved.write_bytes(file.read_bytes())
    story = run.parent / "story.txt"
    story.rename(tmp_path / "elsewhere.txt")
    try:
        refused = lmzoo(f"generate {moved} --probe memorised")
        assert refused.code == 2
        assert "--probe_text" in refused.err
        there = f"--probe_text {tmp_path / 'elsewhere.txt'}"
        found = lmzoo(f"generate {moved} --probe memorised {there}")
        assert found.code == 0, found.err
    finally:
        (tmp_path / "elsewhere.txt").rename(story)
    without = lmzoo(f"generate {moved} --variability --max_new_tokens 20").out
    assert "needs" in without


def test_a_text_that_was_trained_on_is_noticed(run: Path) -> None:
    def scored(text: str) -> list[str]:
        (run.parent / "phrase.txt").write_text(text)
        shown = lmzoo(f"score {run} --file {run.parent / 'phrase.txt'} --json").out
        return json.loads(shown)["models"][0]["notices"]

    assert any("occurs in the training text" in line for line in scored(SENTENCE))
    assert not any("occurs" in line for line in scored("a dog jumps over the lazy fox"))


def test_from_python(run: Path) -> None:
    loaded = package.load(run)
    text = loaded.generate("the qu", max_new_tokens=20, temperature=0)
    assert isinstance(text, str)
    assert len(text) == 20
    several = loaded.generate("the qu", num_samples=2, max_new_tokens=5)
    assert [len(text) for text in several] == [5, 5]
    scored = loaded.score(SENTENCE)
    assert scored.totals()["bits_per_char"] < 0.5
