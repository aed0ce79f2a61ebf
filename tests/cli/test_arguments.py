"""What was typed becomes plain: names, files, environment, order of strength."""

from pathlib import Path

import pytest

from lmzoo.cli.arguments import nested, read
from lmzoo.errors import UsageError

GPT = "lmzoo.models.gpt.GPT"
LSTM = "lmzoo.models.recurrent.LSTM"


@pytest.mark.parametrize(
    "line",
    [
        "--model gpt",
        "--model=gpt",
        "--model.class_path gpt",
        f"--model {GPT}",
        "--model.d_model 8 --model gpt",
        '--model {"class_path":"gpt"}',
        '--config {"model":"gpt"}',
        '--config {"model":{"class_path":"gpt"}}',
        "--model lstm --model gpt",
        '--model gpt --config {"model":"lstm"}',
    ],
)
def test_every_way_to_name_a_model(line: str) -> None:
    assert read("fit", line.split()).model == GPT  # what is typed wins


def test_files_are_read_and_names_in_them_resolved(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("model:\n  class_path: gpt\n  init_args: {d_model: 8}\n")
    request = read("fit", ["--config", str(file), "--model.num_layers", "2"])
    assert request.model == GPT
    assert request.section("model") == {"d_model": 8}
    assert request.options == ["--model.num_layers=2"]


def test_switching_the_class_drops_the_others_arguments(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("model: {class_path: gpt, init_args: {num_heads: 8}}\n")
    request = read("fit", ["--config", str(file), "--model", "lstm"])
    assert request.model == LSTM
    assert request.section("model") == {}


def test_a_bare_section_means_the_chosen_models_arguments(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("model: {d_model: 8}\n")
    request = read("fit", ["--config", str(file), "--model", "lstm"])
    assert request.section("model") == {"d_model": 8}


def test_the_environment_stands_below_what_is_typed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LMZOO_FIT__MODEL", "gpt")
    monkeypatch.setenv("LMZOO_FIT__TRAINER__MAX_STEPS", "5")
    monkeypatch.setenv("LMZOO_TEST__MODEL", "gru")
    request = read("fit", ["--trainer.max_steps", "7"])
    assert request.model == GPT
    assert request.options == ["--trainer.max_steps=5", "--trainer.max_steps=7"]
    assert read("fit", ["--model", "lstm"]).model == LSTM


def test_a_file_called_like_a_model_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gpt").write_text("class_path: lstm")
    assert read("fit", ["--model", "gpt"]).model == GPT


def test_numbers_in_files_are_numbers(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("optimizer: {init_args: {lr: 1e-3}}\n")
    request = read("fit", ["--config", str(file)])
    assert request.configs[0]["optimizer"]["init_args"]["lr"] == 1e-3


def test_optimizers_and_schedules_have_short_names(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("optimizer: {class_path: adamw, init_args: {lr: 1e-3}}\n")
    line = ["--config", str(file), "--lr_scheduler", "wsd"]
    request = read("fit", line)
    assert request.optimizer == "torch.optim.AdamW"
    assert request.lr_scheduler == "lmzoo.training.schedules.WarmupStableDecay"
    chosen = read("fit", [*line, "--optimizer", "muon"])
    assert chosen.optimizer == "lmzoo.training.muon.Muon"
    assert chosen.configs[0] == {}  # what was meant for another is dropped
    assert read("fit", ["--optimizer", "any.Class"]).optimizer == "any.Class"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--model gtp", "did you mean 'gpt'"),
        ('--config {"model":"gtp"}', "did you mean 'gpt'"),
        ("--model", "needs a value"),
        ("--data nothing", "unknown data module"),
        ("--model.vocab_size 7", "the tokenizer's"),
        ("stray", "unexpected argument"),
        ("--config nowhere.yaml", "nowhere.yaml"),
        ("--config [1,2]", "No such file"),
        ('--config {"model":3}', "expected a name"),
    ],
)
def test_mistakes_are_one_line(line: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        read("fit", line.split())
    assert "\n" not in str(caught.value)


def test_dotted_keys_become_sections() -> None:
    flat = {"optimizer.lr": 1.0, "trainer.max_steps": 3, "seed_everything": 1}
    assert nested(flat, {"optimizer": "torch.optim.AdamW"}) == {
        "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 1.0}},
        "trainer": {"max_steps": 3},
        "seed_everything": 1,
    }
