"""Classifiers from the command line: fit, resume, measure, predict, distil, refuse."""

import json
from pathlib import Path

import pytest
import torch

import lmzoo
from lmzoo import runs
from lmzoo.classification import classify
from lmzoo.errors import UsageError
from lmzoo.models.classifier import PooledClassifier
from lmzoo.training import frozen_features
from tests.cli.runner import lmzoo as command

BODY = "--model.body lstm --model.body.d_model 8 --model.body.d_hidden 8"
SMALL = f"--model classifier {BODY} --model.context_length 12 --data.batch_size 8"


def rows(count=80):
    good, bad = "a fine and lovely film", "a dull and tedious mess"
    return [(f"{bad if n % 2 else good} {n}", str(n % 2)) for n in range(count)]


@pytest.fixture
def films(tmp_path: Path) -> Path:
    """Forty good films and forty bad ones, which one word tells apart."""
    path = tmp_path / "films.tsv"
    path.write_text("".join(f"{text}\t{label}\n" for text, label in rows()))
    return path


def fit(line: str, code: int = 0):
    result = command(f"fit {line}")
    assert result.code == code, result.err
    return result


@pytest.fixture
def trained(films: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    fit(
        f"{SMALL} --data.path {films} --data.labels [good,bad] --optimizer.lr 0.02 "
        f"--trainer.max_steps 60 --trainer.default_root_dir {folder}"
    )
    return folder


def test_a_run_folder_has_all_that_is_needed(trained: Path, films: Path) -> None:
    summary = json.loads((trained / "summary.json").read_text())

    assert summary["best"]["metrics"]["accuracy"] == 1.0
    assert {"f1", "auroc", "calibration_error", "nll"} <= set(
        summary["best"]["metrics"]
    )
    assert summary["labels"] == ["good", "bad"]
    assert summary["confusion"]["counts"] == [[4, 0], [0, 4]]
    assert summary["floors"]["majority"]["accuracy"] == 0.5
    assert "accuracy" in (trained / "MODEL_CARD.md").read_text()
    films.unlink()  # a run is enough: neither corpus nor options
    run = lmzoo.load(trained)
    assert run.member.labels == ["good", "bad"]


def test_a_run_keeps_its_labels(trained: Path, films: Path) -> None:
    line = f"validate --ckpt_path {trained} --data.path {films}"

    for labels in ("[bad,good]", '{"1":"bad","0":"good"}', '{"0":"good","1":"new"}'):
        swapped = command(f"{line} --data.labels {labels}")
        assert swapped.code == 2, swapped.out
        assert "good, bad, in this order" in swapped.err
    same = command(f"{line} --data.labels [good,bad]")
    assert same.code == 0, same.err
    assert "100.0%" in same.out


def test_scores_sum_to_one_and_batches_change_nothing(trained: Path) -> None:
    run = lmzoo.load(trained)
    texts = [text for text, _ in rows(70)] + ["", "word " * 40]

    many = classify(run, texts)

    assert all(abs(sum(said.scores.values()) - 1) < 1e-12 for said in many)
    assert all(said.score == max(said.scores.values()) for said in many)
    assert [said.label for said in many[:2]] == ["good", "bad"]
    one = classify(run, [texts[69]])[0]
    assert one.score == pytest.approx(many[69].score, abs=1e-6)


def test_predict_a_text_and_a_file(trained: Path, films: Path, tmp_path: Path) -> None:
    said = command(f"predict {trained} --text lovely")
    assert said.code == 0, said.err
    assert said.out.startswith("good  ")

    batch = command(f"predict {trained} --file {films}")
    lines = [json.loads(line) for line in batch.out.splitlines()]
    assert len(lines) == 80
    assert "80 of 80 right" in batch.err
    assert lines[1]["label"] == lines[1]["given"] == "bad"

    plain = tmp_path / "plain.txt"
    plain.write_text("lovely film\n\ntedious mess\n")
    batch = command(f"predict {trained} --file {plain}")
    labels = [json.loads(line)["label"] for line in batch.out.splitlines()]
    assert labels == ["good", "bad"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("predict nowhere --text x", "no such run folder"),
        ("predict RUN", "no text to label"),
        ("predict RUN --file nowhere.csv", "nowhere.csv"),
        ("generate RUN", "no language model"),
        ("score RUN --text hello", "no language model"),
        ("export RUN --to hf --out OUT", "no language model"),
        ("fit --model gpt --data labelled --data.path FILMS", "reads --data text"),
        ("fit --model classifier --data text", "reads --data labelled"),
        ("fit --model classifier --model.body nope --data.path FILMS", "no such model"),
        ("fit --model classifier --model.body ngram --data.path FILMS", "no body"),
        ("fit --model classifier --model.body heaviside --data.path FILMS", "no body"),
        ("fit --model classifier --model.body CSVS --data.path FILMS", "neither a run"),
        ("fit --model pretrained --model.source CSVS", "it holds films.csv"),
        ("predict CSVS --text x", "it holds films.csv"),
        ("fit --model classifier --model.body lstm --model.body.x 1", "no such arg"),
        ("fit --model gpt --distill_from RUN", "distilled into a classifier"),
        ("fit --model gpt --model.body lstm", "no model for it"),
        ("fit --init_from RUN --model.body gpt", "brings its model, body and all"),
        ("fit --init_from RUN --model.body.d_model 9", "--model.body.d_model: --init"),
        ("fit --model classifier --distill.weight 1", "there is none; give --distill"),
        ("fit --init_from RUN --distill.temperature 3", "give --distill_from RUN"),
        ("fit --model classifier", "name a csv, tsv or jsonl file"),
        ("bench --models classifier", "no language model"),
    ],
)
def test_mistakes_are_one_line(trained, films, tmp_path, line, said) -> None:
    csvs = tmp_path / "csvs"
    csvs.mkdir()
    (csvs / "films.csv").write_bytes(films.read_bytes())
    places = {"RUN": trained, "FILMS": films, "OUT": tmp_path / "o", "CSVS": csvs}
    for word, path in places.items():
        line = line.replace(word, str(path))

    result = command(line)

    assert result.code == 2, result.out
    assert said in result.err
    assert result.err.strip().count("\n") == 0
    assert result.err.startswith("error: ")


def test_only_what_can_be_a_body_is_offered(films: Path) -> None:
    said = fit(f"--model classifier --model.body nosuch --data.path {films}", 2).err
    offered = set(said.partition("models: ")[2].strip().split(", "))

    assert {"lstm", "gpt", "encoder"} <= offered
    unfit = {"classifier", "ngram", "heaviside", "transformer-unmasked"}
    assert not offered & {*unfit, "conv-noncausal"}


def test_a_language_model_gives_no_labels(tmp_path: Path, story: Path) -> None:
    run = tmp_path / "writer"
    fit(
        f"--model ff --data.path {story} --trainer.max_steps 1 --samples.length 4 "
        f"--trainer.default_root_dir {run}"
    )
    said = command(f"predict {run} --text x").err

    assert said.startswith("error: a language model gives no labels")
    assert said.count(str(run)) == 1
    assert "checkpoints" not in said


def test_measured_on_other_data_with_its_own_labels(trained, tmp_path) -> None:
    other = tmp_path / "other.csv"
    lines = [f"{text},{'bad' if label == '1' else 'good'}" for text, label in rows(20)]
    other.write_text("text,label\n" + "\n".join(lines) + "\n")

    result = command(f"validate --ckpt_path {trained} --data.path {other}")

    assert result.code == 0, result.err
    assert "100.0%" in result.out


def test_an_interrupted_run_is_the_same_run(
    films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = f"{SMALL} --data.path {films} --trainer.val_check_interval 5"
    fit(f"{line} --trainer.max_steps 20 --trainer.default_root_dir {tmp_path}/whole")
    one = runs.load(tmp_path / "whole", which="last").checkpoint["state_dict"]

    line += f" --trainer.max_steps 20 --trainer.default_root_dir {tmp_path}/again"
    with monkeypatch.context() as broken:
        real = PooledClassifier.training_step

        def fails(self, batch, batch_idx):
            if self.global_step == 13:
                raise UsageError("the power went")
            return real(self, batch, batch_idx)

        broken.setattr(PooledClassifier, "training_step", fails)
        fit(line, code=2)
    assert "resuming   after step 10" in fit(line).err
    two = runs.load(tmp_path / "again", which="last").checkpoint["state_dict"]

    assert all(torch.equal(one[name], two[name]) for name in one)


def test_the_body_of_a_run_is_taken_over(tmp_path: Path, films: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("\n".join(text for text, _ in rows(80)) * 4)
    fit(
        f"--model encoder --model.d_model 8 --model.num_layers 1 --model.num_heads 2 "
        f"--model.context_length 12 --data.tokenizer word --data.path {text} "
        f"--trainer.max_steps 3 --trainer.default_root_dir {tmp_path}/encoder"
    )
    fit(
        f"--model classifier --model.body {tmp_path}/encoder --data.path {films} "
        f"--trainer.max_steps 2 --freeze.all_but_head true "
        f"--trainer.default_root_dir {tmp_path}/tuned"
    )

    before = lmzoo.load(tmp_path / "encoder").checkpoint["state_dict"]
    tuned = lmzoo.load(tmp_path / "tuned")
    after = tuned.checkpoint["state_dict"]
    kept = [name for name in before if f"body.{name}" in after]
    assert len(kept) > 10
    assert all(torch.equal(before[name], after[f"body.{name}"]) for name in kept)
    assert tuned.stored["arguments"]["body"] == "encoder"
    assert tuned.tokenizer.state() == lmzoo.load(tmp_path / "encoder").tokenizer.state()
    card = (tmp_path / "tuned" / "MODEL_CARD.md").read_text()
    assert "its body started from are those of encoder, which was trained" in card
    first = (tmp_path / "encoder" / "MODEL_CARD.md").read_text()
    assert "started from" not in first  # the control
    assert command(f"generate {tmp_path}/encoder").code == 2


def test_kept_features_train_the_same_head(
    films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = f"{SMALL} --data.path {films} --trainer.max_steps 12 --model.dropout 0"
    head = f"{line} --optimizer.lr 0.02 --freeze.all_but_head true"
    said = fit(f"{head} --trainer.default_root_dir {tmp_path}/kept").err
    assert "features   of 80 texts are kept" in said
    whole = fit(f"{line} --trainer.default_root_dir {tmp_path}/whole")
    assert "features " not in whole.err  # nothing is kept where the body is trained
    with monkeypatch.context() as without:
        without.setattr("lmzoo.training.frozen_features.is_fixed", lambda model: False)
        said = fit(f"{head} --trainer.default_root_dir {tmp_path}/computed").err
        assert "features " not in said
    with monkeypatch.context() as mixed:  # the control: another text's vectors
        right = frozen_features._vectors

        def wrong(model, part, data):
            return right(model, part, data).flip(0)

        mixed.setattr(frozen_features, "_vectors", wrong)
        fit(f"{head} --trainer.default_root_dir {tmp_path}/wrong")

    kept, computed, wrong = (
        runs.load(tmp_path / name, "last").checkpoint["state_dict"]
        for name in ("kept", "computed", "wrong")
    )
    torch.testing.assert_close(kept, computed, rtol=0, atol=1e-5)
    assert max((wrong[n] - computed[n]).abs().max() for n in wrong) > 1e-3
    summary = json.loads((tmp_path / "kept" / "summary.json").read_text())
    measured = command(f"validate --ckpt_path {tmp_path}/kept")  # nothing is kept here
    accuracy = summary["best"]["metrics"]["accuracy"]
    assert f"{accuracy:.1%}" in measured.out


def test_distilled_from_another_classifier(trained, films, tmp_path) -> None:
    result = fit(
        f"{SMALL} --data.path {films} --data.labels [good,bad] --trainer.max_steps 3 "
        f"--distill_from {trained} --distill.weight 1 "
        f"--trainer.default_root_dir {tmp_path}/student"
    )

    assert "distilled from" in result.err
    assert "right on 100.0%" in result.err
    card = (tmp_path / "student" / "MODEL_CARD.md").read_text()
    assert f"from the answers of {trained.name} as well" in card
    wrong = command(
        f"fit {SMALL} --data.path {films} --distill_from {trained} "
        f"--trainer.default_root_dir {tmp_path}/no"
    )
    assert wrong.code == 2
    assert "its labels are good, bad" in wrong.err
    assert not (tmp_path / "no").exists()


def test_texts_of_one_token_are_no_fault_of_the_model(tmp_path: Path) -> None:
    words = ["good", "bad"] * 40
    for name, texts in (("one", words), ("two", [f"{word} film" for word in words])):
        file = tmp_path / f"{name}.csv"
        lines = [f"{text},{word}" for text, word in zip(texts, words, strict=True)]
        file.write_text("text,label\n" + "\n".join(lines) + "\n")
    found = {}
    for name in ("one", "two"):
        run = tmp_path / name
        result = fit(
            f"{SMALL} --model.body rnn --data.path {tmp_path / name}.csv "
            f"--trainer.max_steps 6 --trainer.default_root_dir {run}"
        )
        assert "no gradient reached" not in result.err
        summary = json.loads((run / "summary.json").read_text())
        found[name] = {row["code"]: row for row in summary["health"]}

    assert found["one"]["one-token"]["severity"] == "note"
    assert "weight_hh" in found["one"]["one-token"]["message"]
    assert "unchanged" not in found["one"]
    assert "one-token" not in found["two"]  # the control: two tokens, no note


@pytest.fixture
def student(trained: Path, films: Path, tmp_path: Path) -> Path:
    """Six steps of distillation, every one of them kept."""
    folder = tmp_path / "student"
    fit(
        f"{SMALL} --data.path {films} --data.labels [good,bad] --trainer.max_steps 6 "
        f"--distill_from {trained} --distill.weight 0.8 --distill.temperature 3 "
        f"--checkpoints.every_n_steps 1 --trainer.default_root_dir {folder}"
    )
    return folder


def stopped(run: Path, step: int, to: Path) -> Path:
    """A checkpoint of ``run`` alone, in a folder of its own."""
    name = f"step-{step:09d}.ckpt"
    (to / "checkpoints").mkdir(parents=True)
    kept = to / "checkpoints" / name
    kept.write_bytes((run / "checkpoints" / name).read_bytes())
    return kept


def test_a_distilled_run_resumes_with_its_teacher(student, trained, tmp_path) -> None:
    whole = runs.load(student, which="last")
    stored = whole.stored["training"]
    teacher = runs.load(trained)
    assert stored["distill.teacher_sha256"] == teacher.sha256
    assert (stored["distill.weight"], stored["distill.temperature"]) == (0.8, 3)
    kept = stopped(student, 3, tmp_path / "part")

    said = fit(f"--ckpt_path {kept} --trainer.default_root_dir {tmp_path}/part").err

    assert f"distilled from {teacher.path}" in said
    again = runs.load(tmp_path / "part", which="last").checkpoint["state_dict"]
    one = whole.checkpoint["state_dict"]
    assert all(torch.equal(one[name], again[name]) for name in one)


def test_without_its_teacher_the_weights_are_others(
    student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = stopped(student, 3, tmp_path / "part")
    monkeypatch.setattr("lmzoo.cli.trainer.teach", lambda *given: "no teacher")

    fit(f"--ckpt_path {kept} --trainer.default_root_dir {tmp_path}/part")

    one = runs.load(student, which="last").checkpoint["state_dict"]
    two = runs.load(tmp_path / "part", which="last").checkpoint["state_dict"]
    assert not all(torch.equal(one[name], two[name]) for name in one)


def test_another_teacher_or_none_is_no_resume(student, trained, films, tmp_path):
    kept = stopped(student, 3, tmp_path / "part")
    line = f"fit --ckpt_path {kept} --trainer.default_root_dir {tmp_path}/part"
    assert "0.8, and 0.5 is asked" in command(f"{line} --distill.weight 0.5").err
    other = f"--distill_from {kept}"
    assert "is not what" in command(f"{line} {other}").err
    last = runs.load(trained, which="last").path
    undistilled = command(f"fit --ckpt_path {last} --trainer.max_steps 70 {other}")
    assert "was trained without a teacher" in undistilled.err

    moved = tmp_path / "moved"
    trained.rename(moved)
    gone = command(line)
    assert gone.code == 2
    assert "which cannot be read now" in gone.err
    assert gone.err.strip().count("\n") == 0
    assert command(f"{line} --distill_from {moved}").code == 0  # the same one, moved


def test_the_same_command_refuses_a_teacher_that_changed(
    student: Path, trained: Path, films: Path
) -> None:
    teacher = runs.load(trained).path
    fit(
        f"--init_from {trained} --data.path {films} --trainer.max_steps "
        f"{int(teacher.stem.removeprefix('step-'))} --optimizer.lr 0.01 "
        f"--trainer.default_root_dir {trained.parent}/other"
    )
    teacher.write_bytes(runs.load(trained.parent / "other", "last").path.read_bytes())

    again = command(
        f"fit {SMALL} --data.path {films} --data.labels [good,bad] "
        f"--trainer.max_steps 9 --distill_from {teacher} --distill.weight 0.8 "
        f"--distill.temperature 3 --checkpoints.every_n_steps 1 "
        f"--trainer.default_root_dir {student}"
    )

    assert again.code == 2
    assert "distill.teacher_sha256" in again.err
