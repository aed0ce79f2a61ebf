"""Any number of processes, weights copied or sharded: one run, one kind of file."""

import csv
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from lmzoo import runs
from tests.cli.runner import SMALL, lmzoo
from tests.processes import together

STEPS, HALF = 12, 6
MODELS = {
    # No biases: a key's has a gradient of exactly zero but for rounding, and Adam would
    # divide rounding by rounding.
    "gpt": "--model gpt --model.bias false",
    "palm": "--model palm --model.tie_embeddings true --model.block parallel",
}
FSDP2 = "--trainer.strategy fsdp2"


def tell_shards() -> None:
    """Have a process say how much of the weights it holds once training begins."""
    from lmzoo.training.sharded import FullySharded

    setup = FullySharded.setup

    def spy(self: FullySharded, trainer: object) -> None:
        setup(self, trainer)  # type: ignore[arg-type]
        held = [(p.to_local().numel(), p.numel()) for p in self.model.parameters()]
        print(f"\nholds {sum(part for part, _ in held)} of", sum(n for _, n in held))

    FullySharded.setup = spy  # type: ignore[method-assign]


def count_blocks() -> None:
    """Have a process say how often its first backward pass ran the one block again."""
    from lmzoo.training.sharded import FullySharded

    backward, again = FullySharded.backward, Counter()

    def note(*_: object) -> None:
        again["run"] += 1

    def spy(self: FullySharded, *rest: object, **more: object) -> object:
        first = next(m for m in self.model.stack()[0].modules() if not [*m.children()])
        handle = first.register_forward_hook(note)
        found = backward(self, *rest, **more)  # type: ignore[arg-type]
        handle.remove()
        print(f"\nrun again {again.pop('run', 0)} times")
        return found

    FullySharded.backward = spy  # type: ignore[method-assign, assignment]


def fit(
    line: str,
    folder: Path,
    processes: int = 1,
    before: Callable[[], None] | None = None,
) -> Path:
    """A run of ``STEPS`` steps, begun or gone on with; its folder."""
    line = (
        f"fit {line} --trainer.max_steps {STEPS} --trainer.val_check_interval {HALF} "
        f"--trainer.accelerator cpu --trainer.devices {processes} "
        f"--trainer.default_root_dir {folder}"
    )
    log = folder.with_suffix(".log")
    codes = together(line, processes, log, before)
    said = Path(f"{log}.0").read_text()
    assert codes == [0] * processes, said[-3000:]
    return folder


def begin(
    name: str,
    text: Path,
    folder: Path,
    processes: int,
    more: str = "",
    before: Callable[[], None] | None = None,
) -> Path:
    line = f"{MODELS[name]} {SMALL} --data.path {text} "
    line += f"--checkpoints.every_n_steps {HALF} {more}"
    return fit(line, folder, processes, before)


def weights(folder: Path, step: int = STEPS) -> dict[str, torch.Tensor]:
    file = folder / "checkpoints" / runs.checkpoint_name(step)
    return runs.read_checkpoint(file)["state_dict"]


def gap(one: Path, other: Path) -> float:
    """The largest difference of any weight at the end."""
    left, right = weights(one), weights(other)
    assert list(left) == list(right)
    return max(float((left[name] - right[name]).abs().max()) for name in left)


def losses(folder: Path) -> list[float]:
    rows = csv.DictReader((folder / "metrics.csv").read_text().splitlines())
    return [float(row["val/nll"]) for row in rows if row["val/nll"]]


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some 9,000 characters with some structure."""
    lines = (f"the {n % 7} quick brown foxes jump over {n} dogs" for n in range(220))
    path = tmp_path_factory.mktemp("text") / "story.txt"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


@pytest.fixture(scope="module", params=list(MODELS))
def pair(
    request: pytest.FixtureRequest,
    text: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[str, Path, Path]:
    """A model's name, its run in one process, and in two that shard the weights."""
    name, folder = request.param, tmp_path_factory.mktemp(request.param)
    one = begin(name, text, folder / "one", 1)
    return name, one, begin(name, text, folder / "two", 2, FSDP2, tell_shards)


def test_two_that_shard_the_weights_learn_what_one_learns(
    pair: tuple[str, Path, Path], text: Path, tmp_path: Path
) -> None:
    name, one, two = pair
    other = begin(name, text, tmp_path / "seed", 1, "--seed_everything 7")
    assert gap(one, two) <= 1e-5 < 1e-3 < gap(one, other)
    assert losses(two) == pytest.approx(losses(one), abs=1e-5)
    assert losses(other) != pytest.approx(losses(one), abs=1e-5)


def test_blocks_that_are_run_again_learn_the_same(
    pair: tuple[str, Path, Path], text: Path, tmp_path: Path
) -> None:
    name, one, _ = pair
    more = f"{FSDP2} --activation_checkpointing true"
    again = begin(name, text, tmp_path / "again", 2, more, count_blocks)
    assert gap(one, again) <= 1e-5
    assert losses(again) == pytest.approx(losses(one), abs=1e-5)
    told = (tmp_path / "again.log.1").read_text()
    assert "run again 1 times" in told  # the control: blocks ran twice in a step


def test_each_process_holds_half(pair: tuple[str, Path, Path]) -> None:
    _, _, two = pair
    logs = [Path(f"{two.with_suffix('.log')}.{rank}").read_text() for rank in (0, 1)]
    found = [re.search(r"holds (\d+) of (\d+)", log) for log in logs]
    held, whole = zip(*[map(int, match.groups()) for match in found if match],
                      strict=True)  # fmt: skip
    assert whole[0] == whole[1] == sum(held)
    assert max(held) < 0.6 * whole[0]


def test_their_file_is_a_single_process_s_file(pair: tuple[str, Path, Path]) -> None:
    name, one, two = pair
    file = f"checkpoints/{runs.checkpoint_name(STEPS)}"
    mine, theirs = (runs.read_checkpoint(folder / file) for folder in (one, two))
    assert theirs["lmzoo"]["model"] == mine["lmzoo"]["model"] == name
    for left, right in zip(
        mine["optimizer_states"], theirs["optimizer_states"], strict=True
    ):
        assert left["param_groups"] == right["param_groups"]
        assert left["state"].keys() == right["state"].keys()
        for number, entries in left["state"].items():
            for key, value in entries.items():
                shared = right["state"][number][key]
                assert type(shared) is torch.Tensor
                torch.testing.assert_close(shared, value, atol=1e-5, rtol=0)
    model = runs.load(two).model
    tokens = torch.arange(8)[None]
    expected = runs.load(one).model(tokens)
    torch.testing.assert_close(model(tokens), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("begun", "processes", "how"),
    [("two", 1, ""), ("one", 2, FSDP2), ("two", 4, "--trainer.strategy ddp")],
)
def test_any_number_goes_on_from_it(
    pair: tuple[str, Path, Path], tmp_path: Path, begun: str, processes: int, how: str
) -> None:
    _, one, two = pair
    home = one if begun == "one" else two
    file = home / "checkpoints" / runs.checkpoint_name(HALF)
    ended = fit(f"--ckpt_path {file} {how}", tmp_path / "on", processes)
    assert gap(one, ended) <= 1e-5


@pytest.mark.parametrize("pair", ["gpt"], indirect=True, scope="module")
@pytest.mark.parametrize("how", ["--trainer.strategy ddp", FSDP2])
def test_four_learn_what_one_learns(
    pair: tuple[str, Path, Path], text: Path, tmp_path: Path, how: str
) -> None:
    name, one, _ = pair
    four = begin(name, text, tmp_path / "four", 4, how)
    assert gap(one, four) <= 1e-5
    assert losses(four) == pytest.approx(losses(one), abs=1e-5)


def test_adafactor_needs_no_whole_matrix(text: Path, tmp_path: Path) -> None:
    """Its root mean squares are of all processes' rows, a fused matrix's by part."""
    how = "--optimizer adafactor"
    one = begin("palm", text, tmp_path / "one", 1, how)
    two = begin("palm", text, tmp_path / "two", 2, f"{how} {FSDP2}", tell_shards)
    adamw = begin("palm", text, tmp_path / "adamw", 1)
    assert gap(one, two) <= 1e-5 < 1e-3 < gap(one, adamw)
    assert losses(two) == pytest.approx(losses(one), abs=1e-5)
    assert losses(adamw) != pytest.approx(losses(one), abs=1e-5)
    file = two / "checkpoints" / runs.checkpoint_name(HALF)
    assert gap(one, fit(f"--ckpt_path {file}", tmp_path / "on", 1)) <= 1e-5
    file = one / "checkpoints" / runs.checkpoint_name(HALF)
    assert gap(one, fit(f"--ckpt_path {file} {FSDP2}", tmp_path / "2", 2)) <= 1e-5


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--model gpt --trainer.strategy fsdp", "fsdp2 shards the weights"),
        ("--model gpt --trainer.strategy deepspeed_stage_2", "give ddp"),
        ("--model gpt --trainer.strategy ddp_spawn", "give ddp"),
        (f"--model lstm {FSDP2}", "LSTM is no stack of blocks"),
        (f"--model gpt --optimizer muon {FSDP2}", "looks at whole matrices"),
        (f"--model gpt --optimizer torch.optim.Adafactor {FSDP2}", "looks at whole"),
        (f"--model gpt --ema.decay 0.9 {FSDP2}", "averages whole weights"),
        ("--model gpt --budget.seconds 600 --trainer.devices 2", "another number of"),
    ],
)
def test_what_cannot_work_is_refused_in_one_line(
    text: Path, tmp_path: Path, options: str, said: str
) -> None:
    result = lmzoo(
        f"fit {options} --data.path {text} --trainer.accelerator cpu "
        f"--trainer.default_root_dir {tmp_path / 'run'}"
    )
    assert result.code == 2
    errors = [line for line in result.err.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert said in errors[0]
    assert not (tmp_path / "run").exists()
