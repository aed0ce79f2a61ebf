"""Small runs that are ended and go on, and what they are compared with."""

import random
import shutil
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from lmzoo import runs
from lmzoo.selftest import forks
from lmzoo.selftest.forks import Ended, Fuse
from lmzoo.selftest.sameness import differences

STEPS = 24
SIZES = {
    "gpt": "--model.d_model 16 --model.num_layers 1 --model.num_heads 2",
    "lstm": "--model.d_model 16 --model.d_hidden 16 --model.num_layers 2",
    "ff": "--model.d_model 8 --model.d_hidden 16 --model.num_layers 2",
}
SAME = (
    "--model.dropout 0.2 --model.context_length 16 --data.batch_size 4 "
    f"--samples.length 4 --trainer.max_steps {STEPS} --trainer.val_check_interval 6 "
    "--trainer.log_every_n_steps 4 --checkpoints.every_n_steps 5 "
    "--trainer.accelerator cpu --trainer.enable_progress_bar false"
)
WORDS = "the quick brown fox jumps over a lazy dog and packs five dozen liquor jugs"
AT_ONCE = 2  # processes

Item = TypeVar("Item")
Result = TypeVar("Result")
Room = TypeVar("Room")


@dataclass(frozen=True)
class Recipe:
    """A run to be ended and to go on.

    Attributes:
        model: gpt, lstm or ff.
        accumulate: micro-batches to an optimizer step.
        more: further options.
        name: of its folders; made of the others where it is "".
    """

    model: str
    accumulate: int = 1
    more: str = ""
    name: str = ""

    def __str__(self) -> str:
        return self.name or f"{self.model}-{self.accumulate}"

    def line(self, text: Path, folder: Path) -> str:
        """What stands after ``lmzoo``."""
        return (
            f"fit --model {self.model} {SIZES[self.model]} {SAME} --data.path {text} "
            f"--trainer.accumulate_grad_batches {self.accumulate} {self.more} "
            f"--trainer.default_root_dir {folder}"
        )


def write_text(folder: Path) -> Path:
    """A text with some chance in it: 20,000 characters."""
    rng, words = random.Random(0), WORDS.split()
    text = folder / "text.txt"
    drawn = " ".join(rng.choice(words) for _ in range(5000))[:20_000]
    folder.mkdir(parents=True, exist_ok=True)
    text.write_text(drawn, encoding="utf-8")
    return text


class Stage:
    """Runs of one recipe in one folder, beside the run that nothing ended.

    Args:
        recipe: of the runs.
        folder: for them; made anew.
        prepare: called in every process of them, before anything else.
    """

    def __init__(
        self,
        recipe: Recipe,
        folder: Path,
        prepare: Callable[[], None] | None = None,
    ) -> None:
        self.recipe, self.folder, self.prepare = recipe, folder, prepare
        shutil.rmtree(folder, ignore_errors=True)
        self.text = write_text(folder)
        self.whole = folder / "whole"
        self.trained = 0.0  # seconds that a whole run trains and reports

    def play(self) -> str:
        """The run that nothing ends; what went wrong, or ""."""
        ended = self.run("whole")
        self.trained = ended.trained
        return f"{self.recipe}: the run itself fails: {ended.said}" * bool(ended.code)

    def run(
        self,
        name: str,
        *fuses: Fuse,
        delay: float | None = None,
        prepare: Callable[[], None] | None = None,
    ) -> Ended:
        """The same command in the folder ``name``, until it ends or is ended."""
        line = self.recipe.line(self.text, self.folder / name)
        log = self.folder / f"{name}.log"
        return forks.command(line, log, fuses, delay, prepare or self.prepare)

    def left(self, name: str) -> float:
        """Seconds that it has still to train and report, about."""
        kept = runs.newest_first(self.folder / name)
        done = runs.step_of(kept[0]) if kept else 0
        return self.trained * max(0.2, 1 - done / STEPS)

    def finish(self, name: str) -> list[str]:
        """Run it to its end: where it then differs from the whole run."""
        ended = self.run(name)
        if ended.code:
            return [f"{self.recipe} {name}: exit {ended.code}: {ended.said}"]
        unlike = differences(self.whole, self.folder / name)
        if not unlike:
            shutil.rmtree(self.folder / name, ignore_errors=True)
        return [f"{self.recipe} {name}: {line}" for line in unlike]


def shared(
    work: Callable[[Room, Item], Result], items: Sequence[Item], rooms: Sequence[Room]
) -> list[Result]:
    """``work`` on every item, a room working on one at a time; in the items' order."""

    def share(number: int) -> list[Result]:
        return [work(rooms[number], item) for item in items[number :: len(rooms)]]

    found = spread(share, range(len(rooms)), len(rooms))
    return [found[n % len(rooms)][n // len(rooms)] for n in range(len(items))]


def spread(
    work: Callable[[Item], Result], items: Iterable[Item], at_once: int = AT_ONCE
) -> list[Result]:
    """``work`` on every item, a few at a time."""
    with ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(work, items))
