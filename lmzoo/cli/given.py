"""What several commands are given in the same way: a text, and a device."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from lmzoo.errors import UsageError
from lmzoo.files import write_atomically
from lmzoo.text.readers import Notes, read_stream, read_text

if TYPE_CHECKING:
    import torch


def text_or_file(
    text: str,
    file: str,
    options: tuple[str, str] = ("--text", "--file"),
    longest: int | None = None,
) -> str:
    """The text itself, or what stands in a UTF-8 file; ``-`` is standard input.

    Args:
        text: as typed, "" if it was not.
        file: its path, "" if none was typed.
        options: the two options, for messages.
        longest: characters that are allowed.

    Raises:
        UsageError: given twice, too long, or a file that is not UTF-8 text.
    """
    if not file:
        return text
    if text:
        raise UsageError(f"{' and '.join(options)} were both given; give one")
    where = "standard input" if file == "-" else file
    if file == "-" and sys.stdin is None:
        raise UsageError(f"{options[1]} -: standard input is closed")
    notes = Notes()
    pieces = (
        read_stream(sys.stdin.buffer, where, notes)
        if file == "-"
        else read_text(Path(file), notes)
    )
    read = []
    for piece in pieces:
        read.append(piece)
        if longest is not None and sum(map(len, read)) > longest:
            raise UsageError(f"{where}: more than {longest:,} characters; give its end")
    for line in notes.lines():
        print(f"note: {line}", file=sys.stderr)
    return "".join(read)


def device(name: str) -> "torch.device":
    """``auto`` (a GPU if there is one), ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.

    Raises:
        UsageError: another name, or a device that is not there.
    """
    # torch is for the work, and not for the help of a command
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, number = name.partition(":")
    there = {
        "cpu": 1,
        "cuda": torch.cuda.device_count(),
        "mps": int(torch.backends.mps.is_available()),
    }
    if kind not in there or (number and not number.isdecimal()):
        raise UsageError(f"--device {name}: give auto, cpu, cuda, cuda:N or mps")
    if int(number or 0) >= there[kind]:
        raise UsageError(f"--device {name}: there is none here; give cpu")
    return torch.device(name)


def write_figure(path: Path, text: str, option: str, begins: str) -> None:
    """Write a page or a figure, over nothing but an older one.

    Args:
        path: where to.
        text: of the file.
        option: that named it, for messages.
        begins: what every such file starts with.

    Raises:
        UsageError: a folder, a file of another kind, or a place that cannot be written.
    """
    try:
        if path.is_dir():
            raise UsageError(f"{option} {path} is a folder; name a file in it")
        if path.exists() and not path.read_bytes().startswith(begins.encode()):
            raise UsageError(
                f"{option} {path} exists and is something else; name another file"
            )
        write_atomically(path, text.encode("utf-8", "replace"))
    except OSError as error:
        raise UsageError(f"{option} {path}: {error.strerror or error}") from error
