"""Where malicious and malformed files are made from a sound run of lmzoo's own."""

import itertools
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from lmzoo import runs
from lmzoo.selftest.commands import Commands, Job, Result
from lmzoo.selftest.loopback import Listener

TEXT = "the quick brown fox jumps over the lazy dog\n" * 80
FRESH = """
import os, subprocess, sys
paths = os.pathsep.join(filter(None, sys.path))
argv = [sys.executable, "-m", "lmzoo", *sys.argv[1:]]
raise SystemExit(subprocess.call(argv, env={**os.environ, "PYTHONPATH": paths}))
"""
EVIL = {"class_path": "evil.Trap", "init_args": {}}
SMALL = (
    "--model.d_model 16 --model.num_layers 1 --model.num_heads 2 "
    "--model.context_length 16 --data.batch_size 4 --samples.length 0"
)


@dataclass(frozen=True)
class Case:
    """One file and the command that is made to read it.

    Attributes:
        name: what is wrong with the file.
        make: makes it, and gives the words of the command.
        said: a word of the reason for which it has to be refused; "" if it is harmless
            once it is read as data, so that the command has to succeed.
        environment: variables that the command gets.
        needs: an optional library, without which the case is left out.
        fresh: the command is a process of its own, in which nothing was imported or
            switched off beforehand.
    """

    name: str
    make: Callable[["Lab"], str]
    said: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    needs: str = ""
    fresh: bool = False


class Trap:
    """An object that, unpickled as code, makes a file: the proof that something ran."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, str]]:
        """Open the marker for writing."""
        return open, (str(self.marker), "w")


class Lab:
    """A folder with a text and a small trained run, and places for what is forged.

    Args:
        folder: made if it is not there.
        commands: that run here, and train the run.

    Raises:
        RuntimeError: the run could not be trained.
    """

    def __init__(self, folder: Path, commands: Commands) -> None:
        self.commands = commands
        self.folder, self.marker = folder.resolve(), folder.resolve() / "executed"
        self.text, self.run = self.folder / "text.txt", self.folder / "run"
        self._numbers = itertools.count()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.text.write_text(TEXT, encoding="utf-8")
        done = commands.lmzoo(
            f"fit --model gpt {SMALL} --data.path {self.text} --trainer.max_steps 2 "
            f"--trainer.default_root_dir {self.run}"
        )
        if done.code:
            raise RuntimeError(f"the run to start from was not trained: {done.err}")
        source = f"open({str(self.marker)!r}, 'w').close()\nclass Trap: ...\n"
        for place in (self.folder, commands.folder):  # on the path of every command
            (place / "evil.py").write_text(source, encoding="utf-8")
        (self.folder / "fresh.py").write_text(FRESH, encoding="utf-8")
        self.listener = Listener(self.pickled())
        address = self.url("")
        self.environment = {  # whoever asks for anything anywhere asks the listener
            "HF_ENDPOINT": address,
            "HF_HUB_OFFLINE": "0",
            "AWS_ENDPOINT_URL": address,
            "NO_PROXY": "*",
            "no_proxy": "*",
        }

    def place(self) -> Path:
        """A new empty folder."""
        path = self.folder / f"case-{next(self._numbers)}"
        path.mkdir()
        return path

    def run_case(self, case: Case) -> tuple[str, Result]:
        """Make the file and have the command read it; the command and how it ended."""
        line = case.make(self)
        self.was_executed()  # a trap may have been sprung while it was laid
        self.was_asked()
        job = Job.of(line, self.folder, {**self.environment, **case.environment})
        if case.fresh:
            job = replace(job, argv=[str(self.folder / "fresh.py"), *job.argv[1:]])
        return line, self.commands.together([job])[0]

    def url(self, name: str, scheme: str = "http") -> str:
        """An address at which the listener gives a pickle."""
        return f"{scheme}://{self.listener.address}/{name}".rstrip("/")

    def content(self) -> dict[str, Any]:
        """What the sound checkpoint holds, to be changed."""
        return runs.read_checkpoint(runs.find_checkpoint(self.run, "last"))

    def trap(self) -> Trap:
        """Something that must never be unpickled as code."""
        return Trap(self.marker)

    def pickled(self) -> bytes:
        """The same as bytes, made by hand: ``io.open(marker, "w")`` in protocol 0."""
        return f"cio\nopen\n(V{self.marker}\nVw\ntR.".encode()

    def forge(self, change: Callable[[dict[str, Any]], Any]) -> Path:
        """A checkpoint file that is changed, and then hashed as lmzoo hashes it."""
        content = self.content()
        change(content)
        path = self.place() / "checkpoints" / runs.checkpoint_name(3)
        runs.write_checkpoint(content, path)
        return path

    def sealed(self, body: bytes) -> Path:
        """Any bytes as a checkpoint file, with the trailer that lmzoo would write."""
        path = self.place() / runs.checkpoint_name(3)
        path.write_bytes(body + runs.trailer(body))
        return path

    def copy(self) -> Path:
        """A run folder like the sound one, by links to its files."""
        path = self.place() / "run"
        for source in self.run.rglob("*"):
            if source.is_file() and not source.name.startswith("."):
                target = path / source.relative_to(self.run)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(source.read_bytes())
        return path

    def was_executed(self) -> bool:
        """Whether the marker is there; it is taken away."""
        there = self.marker.exists()
        self.marker.unlink(missing_ok=True)
        return there

    def was_asked(self) -> bool:
        """Whether anybody asked the listener; that is then forgotten."""
        asked, self.listener.asked = self.listener.asked, 0
        return bool(asked)


def generate(path: Path | str) -> str:
    """The command that reads a model."""
    return f"generate {path} --max_new_tokens 4"


def resume(path: Path | str) -> str:
    """The command that reads a checkpoint and all that training left in it."""
    return f"fit --ckpt_path {path} --trainer.max_steps 5"


def measure(path: Path | str) -> str:
    """The command that reads a checkpoint and what it says of its data."""
    return f"validate --ckpt_path {path}"


def saved(lab: Lab, value: Any, **options: Any) -> bytes:
    """The bytes that ``torch.save`` makes of a value."""
    file = lab.place() / "saved"
    torch.save(value, file, **options)
    return file.read_bytes()


def fifo(path: Path) -> None:
    """A pipe under a name: whoever reads it waits for ever."""
    path.parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(path)
