"""Top choices and entropies against the model's own forward pass."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from lmzoo.analysis.history import History
from lmzoo.analysis.probes.distributions import Path as Continuation
from lmzoo.analysis.probes.distributions import along, greedy, hardened
from lmzoo.analysis.probes.softmax import softmax
from lmzoo.analysis.prompts import read_prompt
from lmzoo.errors import UsageError
from tests.analysis.probes.conftest import MEMBERS, Zoo
from tests.cli.runner import fit

PROMPT = "the quick bro"


@pytest.mark.parametrize("name", MEMBERS)
def test_the_numbers_are_the_models(zoo: Zoo, name: str) -> None:
    found = softmax(str(zoo(name)), prompt=PROMPT, checkpoints="all", top=5)

    assert [one["step"] for one in found.data["checkpoints"]] == [10, 20, 30]
    history = History(zoo(name))
    for one in found.data["checkpoints"]:
        model, ids = history.at(one["step"]), history.tokenizer.encode(PROMPT)
        tokens = torch.from_numpy(ids.astype(np.int64))[None]
        made = ""
        for place, entropy in enumerate(one["entropies"]):
            window = tokens[:, -16:] if tokens.shape[1] <= 16 else tokens[:, -8:]
            with torch.inference_mode():
                window = tokens if model.unbounded else window
                p = model(window)[0, -1].double().softmax(-1).numpy()
            assert entropy == pytest.approx(-(p * np.log2(p)).sum(), abs=1e-5)
            rows = [
                row
                for row in found.rows
                if (row["step"], row["position"]) == (one["step"], place + 1)
            ]
            assert [row["rank"] for row in rows] == [1, 2, 3, 4, 5]
            assert np.allclose(
                [row["probability"] for row in rows], np.sort(p)[::-1][:5], atol=1e-6
            )
            choice = int(p[:-1].argmax())  # the last id is <unk>
            made += history.tokenizer.decode([choice])
            tokens = torch.cat([tokens, torch.tensor([[choice]])], dim=1)
        assert one["continuation"] == made
        assert one["mean_entropy"] == pytest.approx(np.mean(one["entropies"]))
    last = found.data["checkpoints"][-1]
    assert "".join(found.data["final_choices"]) == last["continuation"]
    assert len(found.tables[0].rows) == 9
    assert set(found.figures) == {"entropy", "choices"}
    json.dumps(found.numbers(), allow_nan=False)


def test_along_reads_what_greedy_wrote(zoo: Zoo) -> None:
    history = History(zoo("gpt"))
    given = read_prompt(history, PROMPT)
    made = greedy(history.at(30), given.tokens, 12)  # past the context's edge
    again = along(history.at(30), given.tokens, made.tokens)
    assert np.allclose(made.probabilities, again.probabilities, atol=1e-6)
    other = along(history.at(10), given.tokens, made.tokens)
    assert not np.allclose(made.probabilities, other.probabilities, atol=1e-3)


def test_entropy_by_hand() -> None:
    rows = np.array([[0.5, 0.25, 0.25], [1.0, 0.0, 0.0]])
    path = Continuation([1, 0], rows)
    assert path.entropies.tolist() == [1.5, 0.0]
    assert path.chosen.tolist() == [0.25, 1.0]
    assert path.top(0, 2) == [(0, 0.5), (1, 0.25)]


def test_when_choices_harden() -> None:
    steps = [10, 20, 30, 40]
    paths = [[1, 2], [1, 3], [1, 2], [1, 2]]
    assert hardened(steps, paths) == [10, 30]
    assert hardened(steps, [*paths[:3], [5, 2]]) == [None, None]
    assert hardened(steps, [[1, 9], [5, 2], [1, 7], [1, 2]]) == [30, None]
    assert hardened([7], [[1]]) == [None]


def test_whole_texts_in_and_out_of_domain(zoo: Zoo, tmp_path: Path) -> None:
    other = tmp_path / "other.txt"
    other.write_text("zzz jugs! jugs? QQQ and vex my box of dozen quartz\n" * 40)
    found = softmax(str(zoo("lstm")), prompt="the", entropy_text=200, corpus=str(other))
    assert [text["domain"] for text in found.data["texts"]] == ["in", "out"]
    for one in found.data["checkpoints"]:
        own, foreign = one["texts"]["story"], one["texts"]["other"]
        assert 0 < own["entropy"] <= math.log2(29)
        assert own["cross_entropy"] < foreign["cross_entropy"]
    assert "too sure of itself" in found.text[-1]
    assert "outside the vocabulary" in found.notes[-1]
    assert "text" in found.figures
    none = softmax(str(zoo("lstm")), prompt="the")
    assert none.data["texts"] == []


def test_one_checkpoint_says_what_it_cannot(zoo: Zoo) -> None:
    found = softmax(str(zoo("ngram")), prompt="the qu", characters=1)
    assert found.figures == {}
    assert "cannot be told" in found.text[1]
    assert found.data["hardened_at"] == [None]
    assert found.data["final_choices"] == ["i"]
    file = sorted((zoo("gpt") / "checkpoints").glob("*.ckpt"))[0]
    assert len(softmax(str(file), prompt="t").data["checkpoints"]) == 1


def test_what_is_refused(zoo: Zoo) -> None:
    run = str(zoo("gpt"))
    for options, message in (
        ({"prompt": ""}, "the prompt is empty"),
        ({"prompt": "a", "characters": 0}, "characters 0"),
        ({"prompt": "a", "top": 0}, "top 0"),
        ({"prompt": "a", "entropy_text": -1}, "entropy_text -1"),
        ({"prompt": "a", "checkpoints": "11"}, "no checkpoint of step 11"),
        ({"prompt": "a", "corpus": "nosuch"}, "nosuch"),
    ):
        with pytest.raises(UsageError, match=message):
            softmax(run, **options)


def test_the_prompt_follows_the_runs_policy(
    zoo: Zoo, story: Path, tmp_path: Path
) -> None:
    given = read_prompt(History(zoo("gpt")), "t£h")
    assert given.tokens.shape == (1, 3)
    assert "read as <unk>: 1 of 3" in given.notes[0]
    for policy in ("skip", "error"):
        fit(
            f"--data.path {story} --data.unknown {policy} --trainer.max_steps 2 "
            f"--trainer.default_root_dir {tmp_path / policy}"
        )
    skipping = History(tmp_path / "skip")
    given = read_prompt(skipping, "t£h")
    assert given.text == "th"
    assert "left out: 1 of 3" in given.notes[0]
    with pytest.raises(UsageError, match="has none of it"):
        read_prompt(skipping, "££")
    with pytest.raises(UsageError, match="refuses"):
        read_prompt(History(tmp_path / "error"), "t£h")
    assert read_prompt(History(tmp_path / "error"), "th").notes == []


def test_the_runs_own_text_is_not_out_of_domain(zoo: Zoo, tmp_path: Path) -> None:
    own, copy = zoo("gpt").parent / "story.txt", tmp_path / "copy.txt"
    copy.write_text(own.read_text())
    for text in (own, copy):
        with pytest.raises(UsageError, match="is the text that the run was trained on"):
            softmax(str(zoo("gpt")), prompt=PROMPT, corpus=str(text))
    copy.write_text(own.read_text() + "zzz")
    found = softmax(str(zoo("gpt")), prompt=PROMPT, corpus=str(copy))
    assert [one["domain"] for one in found.data["texts"]] == ["in", "out"]
    assert 0 <= found.data["texts"][1]["unknown"] < 0.1
