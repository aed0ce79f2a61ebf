"""What stands before the tensors of a GGUF file, walked without trust in its numbers.

The ``gguf`` package does as a file says: told of 2^40 entries it reads for ever. Here
every count, length, size and offset is held against the bytes that there are. Layout:
github.com/ggml-org/ggml, docs/gguf.md, versions 2 and 3.
"""

import math
import struct
from pathlib import Path
from typing import BinaryIO

from lmzoo.errors import UsageError

MAGIC = b"GGUF"
VERSIONS = (2, 3)
SCALARS = dict(enumerate("BbHhIif?", 0)) | {10: "Q", 11: "q", 12: "d"}  # struct's codes
STRING, ARRAY = 8, 9
ENTRIES = 1 << 22  # in all arrays together; vocabularies have a few hundred thousand
AXES = 4  # of a tensor
ALIGNMENT = 32  # of the tensors, in bytes, where the file names none
LEAST = 13, 24  # bytes of an entry, of a tensor's description
PER_BYTE = 8  # weights in a byte, at the very most


def check(file: Path) -> int:
    """Refuse a header that its file cannot bear out.

    Returns:
        The number of tensors.

    Raises:
        UsageError: naming the file, and the first thing in it that cannot be.
    """
    try:
        with file.open("rb") as opened:
            return Walk(opened, file.stat().st_size).through()
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror or error}") from error
    except ValueError as error:
        raise UsageError(f"{file} is no sound GGUF file: {error}") from error


class Walk:
    """One way through a header; every error is a ValueError."""

    def __init__(self, opened: BinaryIO, size: int) -> None:
        self.opened, self.size = opened, size  # of the file, in bytes
        self.order, self.entries, self.alignment = "<", 0, ALIGNMENT

    def through(self) -> int:
        """Read it all; the number of tensors."""
        if self.opened.read(len(MAGIC)) != MAGIC:
            raise ValueError("it does not begin with GGUF")
        version = self.number("I")
        if version & 0xFFFF == 0:  # written by a machine of the other byte order
            self.order, version = ">", version >> 24
        if version not in VERSIONS:
            raise ValueError(f"version {version}, and 2 and 3 are read")
        tensors, entries = self.number("Q"), self.number("Q")
        for count, least, what in zip(
            (entries, tensors), LEAST, ("entries", "tensors"), strict=True
        ):
            if count * least > self.left():
                raise ValueError(f"{count:,} {what} are announced, more than fit in it")
        for _ in range(entries):
            name = self.string("the name of an entry")
            value = self.value(self.number("I"), name)
            if name == "general.alignment":
                self.alignment = value or 0
        if self.alignment < 1 or self.alignment & (self.alignment - 1):
            raise ValueError(f"alignment {self.alignment}, and no power of two")
        found = [self.tensor() for _ in range(tensors)]
        start = -(-self.opened.tell() // self.alignment) * self.alignment
        for name, offset, weights in found:
            if start + offset + weights / PER_BYTE > self.size:
                raise ValueError(f"the tensor {name!r} lies beyond its end")
        return tensors

    def left(self) -> int:
        """Bytes that are still to come."""
        return self.size - self.opened.tell()

    def number(self, code: str) -> int:
        """One number."""
        form = self.order + code
        found = self.opened.read(struct.calcsize(form))
        if len(found) < struct.calcsize(form):
            raise ValueError("it ends inside of its header")
        return struct.unpack(form, found)[0]

    def string(self, what: str) -> str:
        """A length and so many bytes."""
        length = self.number("Q")
        if length > self.left():
            raise ValueError(f"{what} has {length:,} bytes, more than there are")
        return self.opened.read(length).decode("utf-8", "replace")

    def value(self, kind: int, name: str) -> int | None:
        """Pass over a value; the number, if it is one."""
        if kind in SCALARS:
            return self.number(SCALARS[kind])
        if kind == STRING:
            self.string(repr(name[:80]))
            return None
        if kind != ARRAY:
            raise ValueError(f"{name[:80]!r} is of the unknown kind {kind}")
        self.array(name)
        return None

    def array(self, name: str) -> None:
        """Pass over an array, of scalars or of strings."""
        kind, length = self.number("I"), self.number("Q")
        if kind != STRING and kind not in SCALARS:
            raise ValueError(f"{name[:80]!r} is an array of the unknown kind {kind}")
        self.entries += length
        size = 8 if kind == STRING else struct.calcsize("<" + SCALARS[kind])
        if length * size > self.left() or self.entries > ENTRIES:
            raise ValueError(f"{name[:80]!r} announces {length:,} entries, too many")
        if kind != STRING:
            self.opened.seek(length * size, 1)
            return
        for _ in range(length):
            self.string(repr(name[:80]))

    def tensor(self) -> tuple[str, int, int]:
        """A tensor's name, its offset in bytes, and how many weights it has."""
        name = self.string("the name of a tensor")
        axes = self.number("I")
        if axes > AXES:
            raise ValueError(f"the tensor {name[:80]!r} has {axes:,} axes")
        weights = math.prod(self.number("Q") for _ in range(axes))
        self.number("I")
        return name[:80], self.number("Q"), weights
