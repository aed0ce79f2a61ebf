"""The faulty baseline: refused, provably idle, half trained, and repaired."""

import math
from pathlib import Path

import pytest
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor

from lmzoo.errors import UsageError
from lmzoo.models.heaviside import Heaviside, StraightThrough, heaviside
from lmzoo.testing import check_model
from lmzoo.training.health import HealthReport
from tests.cli.runner import lmzoo
from tests.training.tiny import Batch, Successors, trainer

BELOW = ("embedding.weight", "hidden.weight", "hidden.bias")
ALL = [*BELOW, "head.weight"]


def small(setting: str = "cross-entropy", seed: int = 0, **changes) -> Heaviside:
    """A model of 11 symbols and a window of 3."""
    torch.manual_seed(seed)
    sizes = {"context_length": 8, "window": 3, "d_model": 6, "d_hidden": 16}
    return Heaviside(11, setting=setting, **{**sizes, **changes})


def rows(
    count: int = 4, length: int = 8, vocab_size: int = 11
) -> tuple[Tensor, Tensor]:
    """Tokens and targets, both (count, length)."""
    generator = torch.Generator().manual_seed(1)
    shape = (count, length + 1)
    text = torch.randint(0, vocab_size, shape, generator=generator)
    return text[:, :-1], text[:, 1:]


class Cycle(LightningDataModule):
    """Batches of a cycle of five symbols."""

    def train_dataloader(self) -> Successors:
        return Successors(300)

    def val_dataloader(self) -> Successors:
        return Successors(2)


# ---- the model ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [({}, 112_320), ({"d_model": 96, "d_hidden": 400}, 416_640)],
)
def test_the_pipelines_sizes(sizes: dict, expected: int) -> None:
    model = Heaviside(65, **sizes)

    assert sum(p.numel() for p in model.parameters()) == expected
    assert [name for name, _ in model.named_parameters()] == ALL
    assert model.window == 10


def test_the_pipelines_recipe() -> None:
    assert Heaviside.recipe == {
        "optimizer.lr": 5e-4,
        "optimizer.betas": [0.9, 0.95],
        "optimizer.weight_decay": 0.1,
        "data.batch_size": 64,
        "trainer.max_steps": 1_000,
    }


def test_logits_are_the_formula_at_every_position() -> None:
    model, (tokens, _) = small(), rows()
    logits = model(tokens)

    vectors = model.embedding(tokens)
    for place in range(tokens.shape[1]):
        window = [
            vectors[:, at] if at >= 0 else torch.zeros_like(vectors[:, 0])
            for at in range(place - 2, place + 1)  # the oldest first
        ]
        units = model.hidden(torch.cat(window, dim=-1)) > 0
        torch.testing.assert_close(
            logits[:, place], units.float() @ model.head.weight.T
        )


def test_a_prediction_sees_its_window_and_nothing_else() -> None:
    model, (tokens, _) = small(d_hidden=400).double(), rows()
    before = model(tokens)
    changed = tokens.clone()
    changed[:, 4] = (changed[:, 4] + 1) % 11
    moved = (model(changed) != before).any(dim=-1).any(dim=0)

    assert moved.tolist() == [False] * 4 + [True] * 3 + [False]


def test_a_prompt_shorter_than_the_window_is_fine() -> None:
    model = Heaviside(65)
    logits, _ = model.step(torch.tensor([[7]]))
    assert logits.shape == (1, 65)


def test_the_check_names_what_it_breaks() -> None:
    report = check_model("heaviside", d_model=12, d_hidden=60)
    assert report.broken == ["gradient"], str(report)
    assert report.ok


def test_repaired_it_breaks_nothing() -> None:
    options = {"tie_embeddings": True, "head_bias": True, "setting": "surrogate"}
    report = check_model(Heaviside, d_model=60, d_hidden=60, **options)
    assert report.broken == [], str(report)


def test_tied_and_biased_heads() -> None:
    tied = Heaviside(65, d_model=20, d_hidden=20, tie_embeddings=True)
    assert tied.head.weight is tied.embedding.weight
    assert Heaviside(65).head.bias is None
    assert Heaviside(65, head_bias=True).head.bias.shape == (65,)
    with pytest.raises(ValueError, match=r"expected d_hidden 48 .*given 200"):
        Heaviside(65, tie_embeddings=True)


def test_flops_are_six_for_each_weight_of_a_product() -> None:
    assert Heaviside(65).flops_per_token(64) == 6 * (480 * 200 + 200 * 65)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"window": 0}, "window must be a positive integer, given 0"),
        ({"d_model": 0}, "d_model must be a positive integer, given 0"),
        ({"d_hidden": -1}, "d_hidden must be a positive integer, given -1"),
        (
            {"setting": "fixed"},
            "zero-one, detached, cross-entropy, surrogate, given 'f",
        ),
    ],
)
def test_arguments_out_of_range(arguments: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Heaviside(65, **arguments)


# ---- 2.1: zero-one is refused ------------------------------------------------------


def test_zero_one_is_the_share_of_wrong_answers_without_a_graph() -> None:
    model = small("zero-one")
    targets = torch.tensor([[1, 2, -100, 3]])
    logits = torch.nn.functional.one_hot(torch.tensor([[1, 5, 0, 3]]), 11).float()
    logits.requires_grad_()

    loss = model.loss(logits, targets)

    assert float(loss) == pytest.approx(1 / 3)  # one of three counted
    assert not loss.requires_grad
    assert float(model.loss(logits, torch.full((1, 4), -100))) == 0


def test_the_refusal_names_the_three_reasons_and_what_runs() -> None:
    line = small("zero-one").explain_refusal()

    assert line is not None
    assert "\n" not in line
    assert "step activation is zero almost everywhere" in line  # F1
    assert "argmax and equality have no gradient" in line  # F2
    assert "a score to maximise, and a loss is minimised" in line  # F3
    assert "--model.setting detached|cross-entropy|surrogate" in line
    for setting in ("detached", "cross-entropy", "surrogate"):
        assert small(setting).explain_refusal() is None


def test_a_fit_is_refused_before_the_first_step(tmp_path) -> None:
    model = small("zero-one")
    before = [p.clone() for p in model.parameters()]
    runner = trainer(tmp_path, callbacks=[HealthReport()])

    with pytest.raises(UsageError, match=r"^heaviside cannot learn"):
        runner.fit(model, datamodule=Cycle())

    assert runner.global_step == 0
    assert all(map(torch.equal, before, model.parameters()))


def test_the_command_refuses_it_in_one_line(tmp_path: Path, story: Path) -> None:
    folder = tmp_path / "run"
    before = set(tmp_path.iterdir())
    result = lmzoo(
        f"fit --model heaviside --data.path {story} --samples.length 0 "
        f"--trainer.default_root_dir {folder}"
    )

    assert result.code == 2
    errors = [one for one in result.err.splitlines() if one.startswith("error: ")]
    assert errors == [f"error: {small('zero-one').explain_refusal()}"]
    assert "Traceback" not in result.out + result.err
    assert set(tmp_path.iterdir()) - before <= {folder}
    assert not list(folder.rglob("*.ckpt"))
    assert not (folder / "summary.json").exists()


# ---- 2.2: detached runs and changes nothing ----------------------------------------


def test_a_detached_loss_is_a_fresh_leaf() -> None:
    model, (tokens, targets) = small("detached"), rows()
    loss = model.loss(model(tokens), targets)

    assert loss.requires_grad
    assert loss.is_leaf
    assert torch.equal(loss.detach(), small("zero-one").loss(model(tokens), targets))
    loss.backward()
    assert all(p.grad is None for p in model.parameters())


def test_detached_training_changes_no_bit_of_any_weight(tmp_path) -> None:
    model, report = small("detached"), HealthReport()
    model.optimizer_factory = lambda groups: torch.optim.AdamW(
        groups, lr=5e-4, betas=(0.9, 0.95), weight_decay=0.1
    )
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    runner = trainer(tmp_path, callbacks=[report], max_steps=7, gradient_clip_val=1.0)

    runner.fit(model, datamodule=Cycle())

    assert runner.global_step == 7
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name]), name  # decay did not act either
        assert parameter.grad is None
    codes = {row["code"] for row in report.findings}
    assert {"no-gradient", "unchanged"} <= codes


def test_detached_accuracy_is_that_of_guessing() -> None:
    tokens, targets = rows(64, 64, vocab_size=65)
    errors = []
    for seed in range(3):
        torch.manual_seed(seed)
        model = Heaviside(65, setting="detached")
        with torch.no_grad():
            errors.append(float(model.loss(model(tokens), targets)))
    assert 1 - sum(errors) / 3 == pytest.approx(1 / 65, abs=0.006)  # 0.015


# ---- 2.3: cross-entropy trains the head, the surrogate everything -------------------


def test_cross_entropy_ends_at_the_step() -> None:
    torch.manual_seed(0)
    model = Heaviside(65, setting="cross-entropy")
    tokens, targets = rows(64, 16, vocab_size=65)
    model.loss(model(tokens), targets).backward()

    gradients = {name: p.grad for name, p in model.named_parameters()}
    for name in BELOW:
        assert gradients[name] is not None
        assert gradients[name].count_nonzero() == 0, name
    assert gradients["head.weight"].count_nonzero() > 0


def test_a_unit_that_sits_on_the_step_explodes() -> None:
    x = torch.tensor([-1.0, -1e-3, 0.0, 1e-3, 1.0], requires_grad=True)
    heaviside(x).sum().backward()

    assert heaviside(x).tolist() == [0, 0, 0.5, 1, 1]
    assert x.grad is not None
    assert x.grad.tolist() == pytest.approx([0, 0, 2.5e9, 0, 0])


def test_the_surrogate_is_the_step_forward_and_the_sigmoid_backward() -> None:
    x = torch.linspace(-4, 4, 33, requires_grad=True)
    weights = torch.arange(33.0)
    (StraightThrough.apply(x) * weights).sum().backward()
    other = x.detach().clone().requires_grad_()
    (torch.sigmoid(other) * weights).sum().backward()

    assert torch.equal(StraightThrough.apply(x), heaviside(x))
    torch.testing.assert_close(x.grad, other.grad)


def test_both_settings_have_the_same_logits() -> None:
    tokens, _ = rows()
    assert torch.equal(small("cross-entropy")(tokens), small("surrogate")(tokens))


def test_the_surrogate_reaches_every_parameter() -> None:
    model, (tokens, targets) = small("surrogate"), rows()
    model.loss(model(tokens), targets).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.count_nonzero() > 0, name


def test_the_surrogate_beats_cross_entropy() -> None:
    """On a text in which two symbols decide the next, for few hidden units."""
    generator = torch.Generator().manual_seed(3)
    table = torch.randint(0, 11, (11, 11), generator=generator)
    text = torch.randint(0, 11, (64, 2), generator=generator)
    for _ in range(16):
        text = torch.cat([text, table[text[:, -2], text[:, -1]][:, None]], dim=1)
    tokens, targets = text[:, :-1], text[:, 1:].clone()
    targets[:, 0] = -100  # the second symbol is free

    final = {}
    for setting in ("cross-entropy", "surrogate"):
        model = small(setting, d_model=12, d_hidden=48)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        for _ in range(150):
            loss = model.loss(model(tokens), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        final[setting] = float(loss.detach())

    assert final["cross-entropy"] < math.log(11)  # random features are worth something
    assert final["surrogate"] < 0.7 * final["cross-entropy"], final


def test_the_settings_that_run_do_so_in_a_trainer(tmp_path) -> None:
    moved = {}
    for setting in ("cross-entropy", "surrogate"):
        model = small(setting)
        model.optimizer_factory = lambda groups: torch.optim.AdamW(
            groups, lr=1e-2, weight_decay=0.0
        )
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        trainer(tmp_path, max_steps=5).fit(model, datamodule=Cycle())
        moved[setting] = [
            name
            for name, p in model.named_parameters()
            if not torch.equal(p, before[name])
        ]
    assert moved == {"cross-entropy": ["head.weight"], "surrogate": ALL}


def test_it_learns_in_batches_of_the_loader() -> None:
    model, (tokens, targets) = small("surrogate"), rows()
    loss = model.training_step(Batch(tokens, targets, 0, True), 0)
    assert loss.requires_grad
