"""Frozen means bitwise unchanged, in evaluation mode, and without optimizer state."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from torch import nn

import lmzoo
from lmzoo.cli.trainer import TrainCLI
from lmzoo.errors import UsageError
from lmzoo.registry import models
from lmzoo.runs import read_checkpoint
from lmzoo.training.freezing import Freezing
from tests.cli.runner import lmzoo as command

SIZES: dict[str, dict[str, Any]] = {
    "gpt": {"d_model": 16, "num_layers": 3, "num_heads": 2, "dropout": 0.1},
    "lstm": {"d_model": 16, "d_hidden": 16, "num_layers": 2, "dropout": 0.1},
    "conv": {"d_model": 16, "num_layers": 2},
    "ff": {"d_model": 8, "d_hidden": 16},
    "palm": {"d_model": 16, "num_layers": 2, "num_heads": 2},
    "mingru": {"d_model": 16, "d_hidden": 16},
    "mamba2": {"d_model": 16, "num_heads": 2, "d_head": 8, "d_state": 8},
}


def made(name: str = "gpt", **arguments: Any) -> Any:
    torch.manual_seed(0)
    arguments = {"vocab_size": 11, "context_length": 8, **SIZES[name], **arguments}
    return models.load(name)(**arguments)


def frozen(model: nn.Module) -> set[str]:
    return {name for name, p in model.named_parameters() if not p.requires_grad}


# ---- what is chosen ------------------------------------------------------------------


def test_blocks_are_counted_from_the_first_or_from_the_last() -> None:
    for count, expected in ((2, {"0", "1"}), (-2, {"0"}), (3, {"0", "1", "2"})):
        model = made()
        Freezing(blocks=count).apply(model)
        found = {n.split(".")[1] for n in frozen(model) if n.startswith("layers")}
        assert found == expected
        assert all(name.startswith("layers") for name in frozen(model))


@pytest.mark.parametrize("name", list(SIZES))
def test_all_but_the_head_and_embeddings_hold_for_any_model(name: str) -> None:
    model = made(name, tie_embeddings=False)
    Freezing(all_but_head=True).apply(model)
    assert {n.split(".")[0] for n in set(dict(model.named_parameters())) - frozen(model)
            } == {"head"}  # fmt: skip
    model = made(name, tie_embeddings=False)
    Freezing(embeddings=True).apply(model)
    assert frozen(model)
    assert all("embedding" in n for n in frozen(model))


def test_a_tied_head_is_trained_and_that_is_said() -> None:
    model = made(tie_embeddings=True)
    said = Freezing(all_but_head=True).apply(model)
    assert "token_embedding.weight" not in frozen(model)
    assert "embedding's own matrix" in said[0]


def test_patterns_and_the_line_that_tells_of_them() -> None:
    model = made()
    said = Freezing(patterns=["layers.0.*", "*norm*"]).apply(model)
    assert all("norm" in n or n.startswith("layers.0.") for n in frozen(model))
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert f"{trained:,} of" in said[0]
    assert Freezing().apply(made()) == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"patterns": "nosuch.*"}, "--freeze.patterns nosuch.*: no parameter"),
        ({"rates": {"nosuch": 0.1}}, "--freeze.rates nosuch: no parameter"),
        ({"blocks": 4}, "the model has 3 blocks"),
        ({"blocks": -4}, "the model has 3 blocks"),
        ({"patterns": "*"}, "nothing is left to train"),
        ({"unfreeze_every": 5}, "nothing is frozen that could"),
        ({"unfreeze_every": 5, "patterns": "layers.*"}, "nothing is frozen that could"),
    ],
)
def test_mistakes_are_one_line(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said.replace("*", r"\*").replace(".", r"\.")):
        Freezing(**options).apply(made())


@pytest.mark.parametrize("options", [{"unfreeze_every": -1}, {"rates": {"a": 0.0}}])
def test_numbers_out_of_range_are_refused_at_once(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="--freeze"):
        Freezing(**options)


# ---- the optimizer -------------------------------------------------------------------


def test_frozen_parameters_are_in_no_group_and_rates_are_shares() -> None:
    model = made()
    Freezing(blocks=1, rates={"layers.1.*": 0.1}).apply(model)
    optimizer = model.configure_optimizers()
    rates = {
        id(p): g["lr"] / model.recipe["optimizer.lr"]
        for g in optimizer.param_groups
        for p in g["params"]
    }
    for name, parameter in model.named_parameters():
        if name.startswith("layers.0."):
            assert id(parameter) not in rates
        else:
            share = 0.1 if name.startswith("layers.1.") else 1
            assert rates[id(parameter)] == pytest.approx(share)
    decayed = {g["name"]: g.get("weight_decay") for g in optimizer.param_groups}
    assert decayed["others"] == decayed["others x 0.1"] == 0
    assert decayed["matrices x 0.1"] != 0


def test_parts_wake_from_the_top_and_patterns_never() -> None:
    model = made(tie_embeddings=False)
    freezing = Freezing(
        all_but_head=True, patterns="layers.1.*norm*", unfreeze_every=10
    )
    freezing.apply(model)
    units = [sorted({n.split(".")[0] + n.split(".")[1][:1] for n in names})
             for names in named(model, freezing)]  # fmt: skip
    assert next(unit for unit in units if "layers2" in unit) == units[0]
    assert units[-1] == ["position_embeddingw", "token_embeddingw"]
    assert len(units) == 4
    assert not any("norm" in n and "layers.1" in n
                   for names in named(model, freezing) for n in names)  # fmt: skip


def named(model: nn.Module, freezing: Freezing) -> list[list[str]]:
    name_of = {id(p): n for n, p in model.named_parameters()}
    return [[name_of[id(p)] for p in unit] for unit in freezing._units]


# ---- training ------------------------------------------------------------------------

LINE = (
    "--model.context_length 16 --data.batch_size 4 --samples.length 4 "
    "--trainer.max_steps 12 --trainer.val_check_interval 4 "
    "--optimizer.weight_decay 0.5 --optimizer.lr 1e-2 "
)


class Spy(Callback):
    """Which modules with parameters are in training mode, at every step."""

    modes: list[dict[str, bool]]

    def on_before_optimizer_step(self, trainer: Trainer, model: Any, opt: Any) -> None:
        self.modes.append({n: m.training for n, m in model.named_modules()})


@pytest.fixture
def spy(monkeypatch: pytest.MonkeyPatch) -> Spy:
    spy, before = Spy(), TrainCLI._instantiate_trainer
    spy.modes = []

    def instantiate(self: Any, config: Any, callbacks: list[Any]) -> Trainer:
        return before(self, config, [*callbacks, spy])

    monkeypatch.setattr(TrainCLI, "_instantiate_trainer", instantiate)
    return spy


def fit(name: str, story: Path, run: Path, more: str = "") -> str:
    sizes = " ".join(f"--model.{k} {v}" for k, v in SIZES[name].items())
    result = command(
        f"fit --model {name} {sizes} {LINE} --data.path {story} "
        f"--trainer.default_root_dir {run} {more}"
    )
    assert result.code == 0, result.err
    return result.err


def weights(run: Path, step: int = 12) -> dict[str, torch.Tensor]:
    file = run / "checkpoints" / f"step-{step:09d}.ckpt"
    return read_checkpoint(file)["state_dict"]


@pytest.mark.parametrize(
    ("name", "option", "kept"),
    [
        ("gpt", "--freeze.blocks 2 --freeze.embeddings true", "layers.0."),
        ("gpt", "--freeze.all_but_head true --model.tie_embeddings false", "layers."),
        ("lstm", "--freeze.blocks 1", "recurrent."),
        ("conv", "--freeze.patterns layers.0.*", "layers.0."),
    ],
)
def test_frozen_weights_are_bitwise_unchanged_and_the_others_change(
    name: str, option: str, kept: str, story: Path, tmp_path: Path, spy: Spy
) -> None:
    every = "--checkpoints.every_n_steps 1"
    fit(name, story, tmp_path / "a", f"{option} {every}")
    first, last = weights(tmp_path / "a", 1), weights(tmp_path / "a")
    same = {n for n in first if torch.equal(first[n], last[n])}
    held = {n for n in first if n.startswith(kept)}
    assert held
    assert held <= same
    assert not any(n.startswith("head") for n in same)
    for modes in spy.modes:  # also after the validations and the samples
        still = {n for n in modes if f"{n}.".startswith(kept)}
        assert still
        assert not any(modes[n] for n in still if n.count(".") >= kept.count("."))
        assert modes["head"]

    fit(name, story, tmp_path / "b", every)  # the control
    first, last = weights(tmp_path / "b", 1), weights(tmp_path / "b")
    assert not any(torch.equal(first[n], last[n]) for n in held)


def test_there_is_no_optimizer_state_and_the_policy_is_remembered(
    story: Path, tmp_path: Path
) -> None:
    fit("gpt", story, tmp_path / "a", "--freeze.blocks 2")
    fit("gpt", story, tmp_path / "b")  # the control
    kept = {}
    for name in "ab":
        file = tmp_path / name / "checkpoints" / "step-000000012.ckpt"
        checkpoint = read_checkpoint(file)
        state = checkpoint["optimizer_states"][0]["state"]
        kept[name] = sum(s["exp_avg"].numel() for s in state.values())
        policy = checkpoint["callbacks"]["Freezing"]["policy"]
        assert policy["blocks"] == (2 if name == "a" else 0)
        stored = checkpoint["lmzoo"]["training"]
        assert stored.get("freeze.blocks") == (2 if name == "a" else None)
    model = lmzoo.load(tmp_path / "a").model
    blocks = sum(
        p.numel() for n, p in model.named_parameters() if n.startswith(("layers.0",
                                                                        "layers.1"))
    )  # fmt: skip
    assert kept["b"] - kept["a"] == blocks
    manifest = json.loads((tmp_path / "b" / "manifest.json").read_text())
    assert not any(key.startswith("freeze") for key in manifest["identity"])


GRADUAL = "--freeze.all_but_head true --freeze.unfreeze_every 3 "


def test_gradual_unfreezing_wakes_part_after_part(story: Path, tmp_path: Path) -> None:
    more = "--model.tie_embeddings false --checkpoints.every_n_steps 1"
    said = fit("gpt", story, tmp_path / "a", GRADUAL + more)
    assert said.count("unfrozen ") == 3  # after 3, 6 and 9 steps
    changed = {}
    for step in (3, 6, 9, 12):
        before, after = weights(tmp_path / "a", step - 2), weights(tmp_path / "a", step)
        changed[step] = {n.split(".")[0] + n.split(".")[1][:1]
                         for n in before if not torch.equal(before[n], after[n])
                         and n.startswith("layers")}  # fmt: skip
    assert changed == {
        3: set(),
        6: {"layers2"},
        9: {"layers1", "layers2"},
        12: {"layers0", "layers1", "layers2"},
    }


def test_gradual_unfreezing_resumes_exactly(story: Path, tmp_path: Path) -> None:
    fit("gpt", story, tmp_path / "whole", GRADUAL + "--checkpoints.every_n_steps 1")
    for stop in (6, 7):  # at a wake, and between two
        part = tmp_path / f"part{stop}"
        (part / "checkpoints").mkdir(parents=True)
        name = f"step-{stop:09d}.ckpt"
        file = tmp_path / "whole" / "checkpoints" / name
        (part / "checkpoints" / name).write_bytes(file.read_bytes())
        result = command(
            f"fit --ckpt_path {part / 'checkpoints' / name} "
            f"--trainer.default_root_dir {part}"
        )
        assert result.code == 0, result.err
        ended, whole = weights(part), weights(tmp_path / "whole")
        assert all(torch.equal(ended[n], whole[n]) for n in whole)


def test_another_policy_is_no_resume(story: Path, tmp_path: Path) -> None:
    fit("gpt", story, tmp_path / "a", "--freeze.blocks 2")
    before = weights(tmp_path / "a")
    fit("gpt", story, tmp_path / "b")
    for name, option in (("a", "--freeze.blocks 1"), ("b", "--freeze.blocks 1")):
        result = command(
            f"fit --ckpt_path {tmp_path / name} --trainer.max_steps 20 {option}"
        )
        assert result.code == 2
        assert "freeze.blocks" in result.err
    going = command(f"fit --ckpt_path {tmp_path / 'a'} --trainer.max_steps 14")
    assert going.code == 0, going.err  # the control: the policy is the checkpoint's
    first, last = before, weights(tmp_path / "a", 14)
    held = [n for n in first if n.startswith(("layers.0.", "layers.1."))]
    assert all(torch.equal(first[n], last[n]) for n in held)
    assert not torch.equal(
        first["layers.2.attention.qkv.weight"], last["layers.2.attention.qkv.weight"]
    )
