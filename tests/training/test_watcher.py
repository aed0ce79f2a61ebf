"""Hooks of the step that nobody defines are passed over; those that are run."""

from pathlib import Path
from typing import Any

from lightning.pytorch import Callback

from lmzoo.training.health import HealthReport
from lmzoo.training.telemetry import Samples, Telemetry
from lmzoo.training.watcher import Unprofiled, Watcher
from tests.training.tiny import Successors, Tiny, trainer

HOOKS = [name for name, value in vars(Watcher).items() if value is None]


class Named(Unprofiled):
    """Notes what Lightning asks to be profiled."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def profile(self, action_name: str) -> Any:
        self.names.add(action_name)
        return super().profile(action_name)


class Ends(Watcher):
    """One hook of its own."""

    def __init__(self) -> None:
        self.steps = 0

    def on_train_batch_end(self, *given: Any) -> None:
        self.steps += 1


def test_only_hooks_that_are_defined_are_called(tmp_path: Path) -> None:
    ends, profiler = Ends(), Named()
    callbacks = [Watcher(), ends, Callback()]
    trainer(tmp_path, max_steps=3, callbacks=callbacks, profiler=profiler).fit(
        Tiny(5, 4), Successors(8), Successors(1)
    )
    assert ends.steps == 3
    called = {name for name in profiler.names if name.startswith("[Callback]")}
    for hook in HOOKS:
        assert f"[Callback]Callback.{hook}" in called  # the control
        assert f"[Callback]Watcher.{hook}" not in called
    assert "[Callback]Ends.on_train_batch_end" in called
    assert "[Callback]Watcher.on_validation_end" in called


def own(callback: Callback) -> set[str]:
    return {hook for hook in HOOKS if callable(getattr(callback, hook))}


def test_the_callbacks_of_a_run_have_few_hooks_in_a_step() -> None:
    assert own(Callback()) == set(HOOKS)
    assert own(Samples()) == set()
    assert own(Telemetry()) == {"on_train_batch_start", "on_train_batch_end"}
    assert own(HealthReport()) == {
        "on_before_backward",
        "on_before_optimizer_step",
        "on_train_batch_start",
        "on_train_batch_end",
    }


def test_the_health_report_s_look_at_the_first_batches_ends(tmp_path: Path) -> None:
    health = HealthReport()
    steps = health.gradient_steps + 1
    trainer(tmp_path, max_steps=steps, callbacks=[health]).fit(
        Tiny(5, 4), Successors(steps + 1), Successors(1)
    )
    assert own(health) == own(HealthReport()) - {"on_train_batch_start"}
