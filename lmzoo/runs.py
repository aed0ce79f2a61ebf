"""The run folder and the checkpoint format: save, load, verify.

A checkpoint is data: a registry name, JSON-plain constructor arguments, a tokenizer and
tensors, followed by the SHA-256 of all that. It is written to a temporary file in its
own folder, synced and renamed, so that no crash leaves a torn file under a real name;
it is read with ``weights_only=True`` and rebuilt through lmzoo's own registry.
"""

import hashlib
import io
import json
import os
import re
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from lmzoo import __version__, gguf, portable
from lmzoo.errors import UsageError, first_line
from lmzoo.files import write_atomically
from lmzoo.generation import generate_texts
from lmzoo.models.base import LanguageModel
from lmzoo.models.member import Member
from lmzoo.rebuild import rebuild
from lmzoo.report.words import some, with_article
from lmzoo.scoring import Score, score
from lmzoo.text.spans import Spans
from lmzoo.text.tokenizers import Tokenizer, from_state
from lmzoo.unpacking import require_form, unpack

FORMAT = 1
SPANS = "spans.bin"  # of the training text, in the run folder
SHOWN = 3  # files of a folder that is no model, in a message
MANIFEST = {"identity": dict, "data": dict, "budget": dict, "max_steps": int}
MARK = b"lmzoo:sha256:"  # then 64 hexadecimal digits, at the very end of the file
TRAILER = len(MARK) + 64


def load(path: str | os.PathLike[str], which: str = "best") -> "Run":
    """Open what was trained; the corpus is not needed.

    Args:
        path: a run folder, one ``.ckpt`` file, a folder that ``lmzoo export`` wrote, or
            one of a causal language model of the transformers library.
        which: of a folder, the ``"best"`` or the ``"last"`` checkpoint.

    Raises:
        UsageError: nothing there, not a checkpoint, damaged, or from an unknown model.
    """
    if portable.is_portable(Path(path)):
        return Run(Path(path), portable.read(Path(path)))
    file, body = _find(path, which)
    return Run(file, _opened(file, body or verified_bytes(file)))


@dataclass
class Run:
    """What a checkpoint holds: ``.model`` and ``.tokenizer`` are built on first use."""

    path: Path
    checkpoint: dict[str, Any]

    @property
    def stored(self) -> dict[str, Any]:
        """Lmzoo's own part: model name, arguments, data arguments, versions."""
        return self.checkpoint["lmzoo"]

    @property
    def place(self) -> Path:
        """What a person calls it: of a checkpoint in its run folder, that folder."""
        home = self.path.parent.parent
        kept = self.path.parent.name == "checkpoints"
        return home if kept and (home / "manifest.json").is_file() else self.path

    @property
    def step(self) -> int:
        """Optimizer steps taken when it was saved."""
        return int(self.checkpoint.get("global_step", 0))

    @property
    def sha256(self) -> str:
        """Of the checkpoint file, or of all that is read of a model folder."""
        if portable.is_portable(self.path):
            return portable.fingerprint(self.path)
        return stated_digest(self.path)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer that the model was trained with.

        Raises:
            UsageError: no tokenizer's state, or one of another vocabulary.
        """
        tokenizer = from_state(self.stored["tokenizer"])
        rows = self.stored["arguments"].get("vocab_size", tokenizer.vocab_size)
        if rows != tokenizer.vocab_size:
            raise UsageError(
                f"{self.path}: its tokenizer has {tokenizer.vocab_size:,} ids and its "
                f"model {rows!r}; they do not belong together"
            )
        return tokenizer

    @property
    def model(self) -> LanguageModel:
        """The language model with its weights, in evaluation mode, on the CPU.

        Raises:
            UsageError: it is one of another task, which continues no text.
        """
        if not isinstance(self.member, LanguageModel):
            task = self.member.task
            use = f"lmzoo predict {self.place}"
            use = use if task == "classifier" else f"--model.body {self.place}"
            raise UsageError(
                f"{with_article(task)} is no language model: it predicts no next "
                f"token; its use is {use}"
            )
        return self.member

    @cached_property
    def member(self) -> Member:
        """The model with its weights, of whatever task; evaluation mode, on the CPU."""
        return rebuild(
            self.stored["model"],
            self.stored["arguments"],
            self.checkpoint["state_dict"],
            self.path,
        )

    def generate(self, prompt: str = "", **options: Any) -> str | list[str]:
        """Continuations of ``prompt``, without it.

        Args:
            prompt: the text to continue; "" begins a new one.
            options: ``num_samples``, ``max_new_tokens``, ``temperature``, ``top_k``,
                ``top_p``, ``repetition_penalty``, ``stop``, ``seed``, ``cache``: see
                ``lmzoo.generation.continue_text``.

        Returns:
            The text; a list of texts if ``num_samples`` is given.

        Raises:
            UsageError: an option out of its range.
        """
        texts = generate_texts(self.model, self.tokenizer, prompt, **options)
        return texts if "num_samples" in options else texts[0]

    def score(self, text: str, **options: Any) -> Score:
        """What each token of ``text`` costs, in nats (float64), and the totals.

        Args:
            text: one character or more.
            options: ``stride`` and ``top_k``: see ``lmzoo.scoring.score``.

        Raises:
            UsageError: a text with nothing to score.
        """
        return score(self.model, self.tokenizer, text, **options)


# ---- checkpoint files ----------------------------------------------------------------


def write_checkpoint(checkpoint: dict[str, Any], path: Path) -> str:
    """Write durably and atomically; returns the SHA-256 that ends the file."""
    buffer = io.BytesIO()
    torch.save(checkpoint, buffer)
    body = buffer.getbuffer()
    end = trailer(body)
    write_atomically(path, body, end)
    return end[len(MARK) :].decode()


def trailer(body: bytes | memoryview) -> bytes:
    """What stands behind ``body`` in a checkpoint file: a mark and its SHA-256."""
    return MARK + hashlib.sha256(body).hexdigest().encode()


def read_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read and verify a checkpoint file.

    Raises:
        UsageError: missing, damaged, not lmzoo's, or written by a newer lmzoo.
    """
    return _opened(Path(path), verified_bytes(Path(path)))


def read_tensors(path: Path) -> Any:
    """What ``write_checkpoint`` wrote, verified, whatever it is.

    Raises:
        UsageError: missing, damaged, or not safe to load.
    """
    return unpack(verified_bytes(path), path)


def _opened(path: Path, body: memoryview) -> dict[str, Any]:
    """The checkpoint that the verified bytes of a file are."""
    checkpoint = unpack(body, path)
    stored = checkpoint.get("lmzoo") if isinstance(checkpoint, dict) else None
    if isinstance(stored, dict) and stored.get("format", FORMAT) != FORMAT:
        raise UsageError(
            f"{path} has format {stored['format']!r}, this lmzoo ({__version__}) "
            f"reads format {FORMAT}; upgrade lmzoo"
        )
    require_form(checkpoint, path)
    return checkpoint


def verified_bytes(path: Path) -> memoryview:
    """The file without its trailer, once its SHA-256 is proved.

    Raises:
        UsageError: missing, without a trailer, or with other bytes than were saved.
    """
    try:
        if not path.is_file():  # a pipe or a device would be read for ever
            raise UsageError(f"{path}: no such file")
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - TRAILER))
            end = file.read(TRAILER)
            if not end.startswith(MARK):
                raise UsageError(
                    f"{path} does not end as an lmzoo checkpoint does: it is "
                    f"truncated, or it is no checkpoint of lmzoo; use another "
                    f"checkpoint of the run"
                )
            file.seek(0)
            body = memoryview(file.read())[:-TRAILER]
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from error
    except (MemoryError, OverflowError) as error:
        raise UsageError(f"{path} is larger than the memory of this machine") from error
    if trailer(body) != end:
        raise UsageError(
            f"{path} is damaged: its SHA-256 differs from the one it was saved with; "
            f"use another checkpoint of the run"
        )
    return body


def is_checkpoint_name(name: object) -> bool:
    """Whether ``name`` is one that ``checkpoint_name`` makes, and so stays in place."""
    return isinstance(name, str) and bool(re.fullmatch(r"step-\d{9,}\.ckpt", name))


def stated_digest(path: Path) -> str:
    """The SHA-256 that a checkpoint file says it has; of a damaged one, anything.

    What is no file, as a pipe of such a name, is not read: it says nothing.
    """
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 64))
        return file.read(64).decode("ascii", "replace")


def find_checkpoint(path: str | os.PathLike[str], which: str = "best") -> Path:
    """The checkpoint file that ``path`` (a file or a run folder) stands for.

    Raises:
        UsageError: a URL, a missing path, or a folder without a sound checkpoint.
    """
    return _find(path, which)[0]


def _find(path: str | os.PathLike[str], which: str) -> tuple[Path, memoryview | None]:
    """The file, and its bytes where they were read to prove that it is sound."""
    text = os.fspath(path)
    if "://" in text:
        raise UsageError(f"{text}: only local files are loaded; download it first")
    path = Path(text)
    if path.is_file():
        return path, None
    if not path.is_dir():
        raise UsageError(f"{path}: no such run folder or checkpoint file")
    wanted = read_manifest(path).get(which)
    named = [path / "checkpoints" / str(wanted)]
    candidates = named if is_checkpoint_name(wanted) else []
    skipped: list[str] = []
    for file in dict.fromkeys([*candidates, *newest_first(path)]):
        try:
            body = verified_bytes(file)
        except UsageError as error:
            skipped.append(f"skipped: {error}")
            continue
        for line in skipped:
            print(line, file=sys.stderr)
        return file, body
    if inside := sorted(file.parent.name for file in path.glob("*/manifest.json")):
        raise UsageError(f"{path} is no run but holds some: give {path / inside[0]}")
    if (path / "checkpoints").is_dir() or (path / "manifest.json").is_file():
        reason = "".join(f"; {line}" for line in skipped[:1])
        raise UsageError(
            f"{path}: no sound checkpoint in its checkpoints folder{reason}"
        )
    raise UsageError(_no_model(path))


def _no_model(folder: Path) -> str:
    """What a folder lacks to be a run or a model's, and what is in it instead."""
    inside = sorted(file.name for file in folder.iterdir())
    found = [name for name in inside if name.endswith(gguf.SUFFIX)]
    if found:
        return f"{folder} is no run, but holds a GGUF file: give {folder / found[0]}"
    return (
        f"{folder} is neither a run (no checkpoints folder) nor a model's folder (no "
        f"{portable.CONFIG} with weights, no GGUF file); it "
        + (f"holds {some(inside, SHOWN)}" if inside else "is empty")
    )


def newest_first(folder: Path, inside: str = "checkpoints") -> list[Path]:
    """Checkpoint files of a run, the highest step first."""
    found = (folder / inside).glob("step-*.ckpt")  # a copy by another name is no other
    return sorted(filter(_is_checkpoint, found), key=step_of, reverse=True)


def _is_checkpoint(file: Path) -> bool:
    return is_checkpoint_name(file.name)


def step_of(file: Path) -> int:
    """The optimizer steps that a checkpoint's file name tells."""
    return int(file.stem.removeprefix("step-"))


def checkpoint_name(step: int) -> str:
    """File name of the checkpoint after ``step`` optimizer steps."""
    return f"step-{step:09d}.ckpt"


# ---- small files ---------------------------------------------------------------------


def read_manifest(folder: Path) -> dict[str, Any]:
    """The run's manifest; empty if there is none.

    Raises:
        UsageError: the file is there, and is not what lmzoo writes.
    """
    file = folder / "manifest.json"
    if not file.is_file():
        return {}
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{file} cannot be read: {first_line(error)}") from error
    if not isinstance(manifest, dict):
        raise UsageError(
            f"{file} is no manifest of a run; it was changed, or is damaged: "
            f"remove it, and give the checkpoint file itself"
        )
    for key, kind in MANIFEST.items():
        if not isinstance(manifest.get(key, kind()), kind):
            raise UsageError(
                f"{file}: its {key} is no {kind.__name__}; it was changed, or is "
                f"damaged: remove it, and give the checkpoint file itself"
            )
    return manifest


def read_spans(path: str | os.PathLike[str]) -> Spans | None:
    """The spans of the training text that a run keeps; None if it keeps none.

    Args:
        path: a run folder, or a checkpoint file, which stands beside or a folder below.

    Raises:
        UsageError: the file is there and is damaged.
    """
    path = Path(path)
    folders = [path] if path.is_dir() else [path.parent, path.parent.parent]
    files = [folder / SPANS for folder in folders if (folder / SPANS).is_file()]
    return Spans.read(files[0]) if files else None
