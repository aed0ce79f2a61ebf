"""The training doctor: each fault that a framework can see has its message here.

The take-home pipeline's faults (requirements, part 2) and where each is caught:

- F1 zero or exploding slope, F12 only the head learns: here.
- F2, F3 a score without gradient, a sum in place of a mean: here; the exhibit's own
  explanation is tested with ``heaviside``.
- F4 a key that nothing reads: refused by the command line (tests/cli/test_errors.py).
- F5 a small part of the text, no validation: here. F6 accuracy alone: here (what a
  validation logs).
- F7 unseen characters: the tokenizers' policy (tests/text). F8 validation in one giant
  pass, F10 slow loading: the loaders' design (tests/text).
- F9 prompts shorter than the window: the step law of ``lmzoo check``.
- F11 a detached score trains nothing: here.
- F13 the answer is inside the input: here as a probe, in ``lmzoo check`` as a proof.
- F14, F15 sweeps whose axes change nothing or whose winner is the last: comparisons,
  another room.
- F16 the best is the true minimum: here (the note names it) and with the checkpoints;
  early stopping's reference is something else (test_early_stopping.py).
- F17 a context of 10 for a Transformer: no fault that a program can see.
"""

import json
import math

import pytest
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor, nn

from lmzoo.errors import UsageError
from lmzoo.models.heaviside import Heaviside
from lmzoo.training.health import HealthReport
from lmzoo.training.verdicts import verdicts
from tests.training.tiny import Successors, Tiny, trainer


def fit(tmp_path, model: Tiny, steps: int = 8, **options):
    """Train ``model`` for a few steps; its report."""
    report = HealthReport()
    model.optimizer_factory = options.pop("optimizer", model.optimizer_factory)
    model.scheduler_factory = options.pop("scheduler", None)
    data = options.pop("data", None) or Data()
    runner = trainer(tmp_path, callbacks=[report], max_steps=steps, **options)
    runner.fit(model, datamodule=data)
    json.dumps(report.findings)
    return report


class Data(LightningDataModule):
    """A data module that knows how much text there is."""

    def __init__(self, tokens: int = 0, position: int = 0) -> None:
        super().__init__()
        self.train_tokens, self.position = range(tokens), position

    def train_dataloader(self) -> Successors:
        return Successors(300)

    def val_dataloader(self) -> Successors:
        return Successors(2)


def codes(report: HealthReport) -> set[str]:
    return {row["code"] for row in report.findings}


def message(report: HealthReport, code: str) -> str:
    (row,) = [row for row in report.findings if row["code"] == code]
    assert "\n" not in row["message"]
    assert row["severity"] in ("error", "warning", "note")
    return row["message"]


def test_a_healthy_run_has_no_findings(tmp_path, capsys) -> None:
    report = fit(tmp_path, Tiny(vocab_size=5))

    assert report.findings == []
    assert capsys.readouterr().err == ""


class Step(Tiny):
    """The faulty activation: sigmoid(1e10 x), whose slope is 0 almost everywhere."""

    def __init__(self, vocab_size: int, context_length: int = 4) -> None:
        super().__init__(vocab_size, context_length)
        self.hidden = nn.Linear(6, 6)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(torch.sigmoid(1e10 * self.hidden(self.embedding(tokens))))


def test_f1_f12_step_activation_trains_only_the_head(tmp_path, capsys) -> None:
    torch.manual_seed(0)
    report = fit(tmp_path, Step(vocab_size=5))

    line = message(report, "dead-parameters")
    assert line.startswith(
        "no gradient reached embedding.weight, hidden.weight, hidden.bias in the first "
        "5 steps; only head.weight, head.bias learn. "
    )
    assert line in capsys.readouterr().err  # said when it is seen, not at the end
    assert message(report, "decay-only").startswith("embedding.weight, hidden.weight")
    assert message(report, "unchanged") == "hidden.bias never changed in 8 steps"


def test_f1_a_slope_that_is_not_zero_explodes(tmp_path) -> None:
    model = Step(vocab_size=5)
    nn.init.zeros_(model.hidden.weight)  # every unit sits exactly on the step
    nn.init.zeros_(model.hidden.bias)

    report = fit(tmp_path, model)

    assert "clipping hides it" in message(report, "exploding-gradient")


class ZeroOne(Tiny):
    """The objective as given: how many predictions are right."""

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        return (logits.argmax(-1) == targets).sum()


class Explained(ZeroOne):
    """The same, by a model that can say so itself."""

    def explain_refusal(self) -> str | None:
        return "heaviside cannot learn: F1, F2 and F3"


def test_f2_f3_a_loss_without_gradient_is_refused_in_one_line(tmp_path) -> None:
    model = ZeroOne(vocab_size=5)
    before = [p.clone() for p in model.parameters()]

    with pytest.raises(
        UsageError, match=r"^nothing can be learned: the loss of ZeroOne"
    ):
        fit(tmp_path, model)

    assert all(map(torch.equal, before, model.parameters()))


def test_f2_f3_a_model_may_explain_its_own_refusal(tmp_path) -> None:
    with pytest.raises(UsageError, match=r"^heaviside cannot learn: F1, F2 and F3$"):
        fit(tmp_path, Explained(vocab_size=5))


class Summed(Tiny):
    """A sum where the mean is meant."""

    def training_step(self, batch, batch_idx: int) -> Tensor:
        return super().training_step(batch, batch_idx) * batch.targets.numel()


def test_f3_a_sum_in_place_of_a_mean_starts_far_from_ln_v(tmp_path) -> None:
    line = message(fit(tmp_path, Summed(vocab_size=5)), "initial-loss")

    assert "expected about 1.609 (ln V for 5 symbols)" in line
    assert "the first loss is 12.8" in line


class Confident(Summed):
    """Whose start is expected to be worse than ln V."""

    def expected_initial_nll(self) -> float:
        return 2.5


def test_an_expected_loss_that_is_not_ln_v_is_not_called_so(tmp_path) -> None:
    line = message(fit(tmp_path, Confident(vocab_size=5)), "initial-loss")

    assert "expected about 2.500: the start is" in line


def test_an_initial_loss_below_ln_v_asks_whether_the_weights_are_fresh(
    tmp_path,
) -> None:
    torch.manual_seed(0)
    model = Tiny(vocab_size=5)
    fit(tmp_path, model, steps=30, optimizer=adam(0.1))
    assert "are they fresh" in message(fit(tmp_path, model), "initial-loss")

    warm = HealthReport()
    warm.fresh = False
    trainer(tmp_path, callbacks=[warm], max_steps=6).fit(model, datamodule=Data())
    assert "initial-loss" not in codes(warm)


def adam(rate: float):
    return lambda groups: torch.optim.AdamW(groups, lr=rate)


def test_f5_a_small_part_of_the_text_and_no_validation(tmp_path) -> None:
    data = Data(tokens=800, position=16)  # 16 windows of 4 tokens: 8 %

    report = fit(tmp_path, Tiny(vocab_size=5), data=data, limit_val_batches=0)

    assert message(report, "part-of-text").startswith("training read 64 tokens, 8% of")
    assert "no validation ran" in message(report, "no-validation")


def test_f6_a_validation_logs_more_than_accuracy(tmp_path) -> None:
    runner = trainer(tmp_path, max_steps=2)
    runner.fit(Tiny(vocab_size=5), datamodule=Data())

    assert {"val/nll", "val/perplexity", "val/accuracy"} <= set(runner.callback_metrics)


class Detached(ZeroOne):
    """The repair that made it run: the score in a new leaf tensor."""

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        score = super().loss(logits, targets).float()
        return score.detach().requires_grad_()


def test_f11_a_detached_score_trains_nothing(tmp_path) -> None:
    model = Detached(vocab_size=5)
    before = [p.clone() for p in model.parameters()]

    report = fit(tmp_path, model)

    assert all(map(torch.equal, before, model.parameters()))
    line = message(report, "no-gradient")
    assert (
        "no parameter got a gradient in the first 5 steps: nothing is trained" in line
    )
    assert message(report, "unchanged") == "no parameter changed in 8 steps"


def test_short_runs_are_judged_by_the_steps_there_were(tmp_path) -> None:
    report = fit(tmp_path, Detached(vocab_size=5), steps=2)

    assert "in the first 2 steps" in message(report, "no-gradient")


class Shifted(Tiny):
    """Predicts every position of the window from the whole window."""

    def forward(self, tokens: Tensor) -> Tensor:
        vectors = self.embedding(tokens)
        return self.head(vectors + vectors.mean(dim=1, keepdim=True))


def test_f13_a_model_that_sees_its_targets_is_named(tmp_path, capsys) -> None:
    model = Shifted(vocab_size=5)
    model.train()

    report = fit(tmp_path, model)

    line = message(report, "leak")
    assert "the logits at position 2 depend on the token at position 3" in line
    assert "Shifted sees what it should predict" in line
    assert line in capsys.readouterr().err
    assert all(module.training for module in model.modules() if module is not model)


def test_f16_the_note_names_the_true_minimum() -> None:
    best = {"step": 40, "metrics": {"nll": 1.31}}
    last = {"step": 80, "metrics": {"nll": 1.4}}

    ((code, severity, line),) = verdicts({"best": best, "last": last}, None)

    assert (code, severity) == ("best-not-last", "note")
    assert line.startswith("the best validation loss, 1.3100 nats, was at step 40;")


def test_a_rate_of_zero(tmp_path) -> None:
    report = fit(tmp_path, Tiny(vocab_size=5), optimizer=adam(0.0))

    assert "nothing can move" in message(report, "zero-rate")
    assert message(report, "unchanged") == "no parameter changed in 8 steps"


def test_a_schedule_that_never_moves(tmp_path) -> None:
    flat = fit(
        tmp_path, Tiny(vocab_size=5), 120, optimizer=adam(1e-3), scheduler=schedule(1.0)
    )
    moving = fit(
        tmp_path,
        Tiny(vocab_size=5),
        120,
        optimizer=adam(1e-3),
        scheduler=schedule(0.99),
    )

    assert "stayed at 0.001 for 120 steps" in message(flat, "flat-schedule")
    assert codes(moving) == set()


def schedule(factor: float):
    return lambda optimizer, total: torch.optim.lr_scheduler.ExponentialLR(
        optimizer, factor
    )


class Unused(Tiny):
    """One layer that nothing calls."""

    def __init__(self, vocab_size: int, context_length: int = 4) -> None:
        super().__init__(vocab_size, context_length)
        self.spare = nn.Linear(3, 3)


def test_an_unused_layer_is_named(tmp_path) -> None:
    report = fit(tmp_path, Unused(vocab_size=5))

    assert "spare.weight, spare.bias" in message(report, "dead-parameters")
    assert message(report, "unchanged").startswith("spare.weight, spare.bias never")


def test_a_frozen_layer_is_no_finding(tmp_path) -> None:
    model = Unused(vocab_size=5)
    model.spare.requires_grad_(False)

    assert fit(tmp_path, model).findings == []


def test_gradients_of_all_micro_batches_count(tmp_path) -> None:
    report = fit(
        tmp_path, Tiny(vocab_size=5), accumulate_grad_batches=3, val_check_interval=6
    )

    assert report.findings == []


FLOORS = {
    "uniform": {"bits_per_char": 6.0},
    "trigram": {"bits_per_char": 2.4},
    "5-gram": {"bits_per_char": 2.0},
    "xz": {"bits_per_char": 1.7},
}


def metrics(nll: float, bits: float, step: int = 10) -> dict:
    return {"step": step, "metrics": {"nll": nll, "bits_per_char": bits}}


def test_counting_does_better() -> None:
    summary = {"best": metrics(1.5, 2.2), "floors": FLOORS}

    ((code, _, line),) = verdicts(summary, None)

    assert code == "above-floor"
    assert line.startswith(
        "2.200 bits per character is no better than counting (5-gram"
    )
    assert not list(verdicts({**summary, "counting": True}, None))
    assert not list(verdicts({**summary, "best": metrics(1.3, 1.9)}, None))


def test_guessing_does_as_well() -> None:
    summary = {
        "best": metrics(math.log(65), 6.02),
        "data": {"tokenizer": {"vocab_size": 65}},
    }

    ((code, severity, line),) = verdicts(summary, None)

    assert (code, severity) == ("chance", "error")
    assert "within 1 % of guessing (ln 65 = 4.174): nothing was learned" in line

    summary["start"] = {"name": "a", "metrics": {"nll": 9.0}}  # others' weights
    summary["best"]["metrics"]["nll"] = 5.0
    ((code, severity, line),) = verdicts(summary, None)

    assert (code, severity) == ("chance", "warning")
    assert line.endswith(
        "worse than guessing (ln 65 = 4.174): its start was worse, 9.000"
    )


def test_training_far_below_validation() -> None:
    summary = {"best": metrics(1.5, 2.0), "last": metrics(1.5, 2.0)}

    ((code, _, line),) = verdicts(summary, 0.5)

    assert code == "memorising"
    assert "0.500 nats, is far below validation, 1.500" in line
    assert not list(verdicts(summary, 1.3))


def test_a_run_without_figures_has_no_verdicts() -> None:
    assert not list(verdicts({"best": None, "last": None, "floors": {}}, None))


def test_conclude_keeps_one_row_per_code(tmp_path) -> None:
    report = fit(tmp_path, Tiny(vocab_size=5))
    summary = {"best": metrics(1.5, 2.2), "last": metrics(1.5, 2.2), "floors": FLOORS}

    report.conclude(summary)
    report.conclude(summary)

    assert [row["code"] for row in report.findings] == ["above-floor"]


def test_the_training_loss_of_the_last_interval_reaches_the_verdict(tmp_path) -> None:
    report = fit(tmp_path, Tiny(vocab_size=5))

    report.conclude({"best": metrics(99.0, 9.0), "last": metrics(99.0, 9.0)})

    assert "memorising" in codes(report)


def test_gradient_steps_out_of_range() -> None:
    with pytest.raises(ValueError, match="given 0"):
        HealthReport(gradient_steps=0)


@pytest.mark.parametrize(
    ("setting", "code", "words"),
    [
        ("detached", "no-gradient", "nothing is trained"),
        ("cross-entropy", "dead-parameters", "no gradient reached embedding.weight"),
    ],
)
def test_the_exhibit_itself_is_diagnosed(
    setting: str, code: str, words: str, tmp_path
) -> None:
    model = Heaviside(vocab_size=5, context_length=4, setting=setting)

    assert words in message(fit(tmp_path, model), code)


def test_the_exhibit_itself_is_refused(tmp_path) -> None:
    model = Heaviside(vocab_size=5, context_length=4, setting="zero-one")

    with pytest.raises(UsageError, match="heaviside cannot learn"):
        fit(tmp_path, model)
