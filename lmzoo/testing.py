"""The contract of a model as executable proof, for built-ins and plugins alike.

>>> from lmzoo.testing import check_model
>>> assert check_model("gpt").ok

The laws are in ``lmzoo.laws``, one function each. A law that cannot
apply (a counting model has no gradients) is listed as not applying, never skipped in
silence; an exhibit must break exactly the law that it names.
"""

import importlib.util
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

import torch

from lmzoo.laws import (
    CONTEXT,
    GRADIENT_LAWS,
    LAWS,
    LAWS_OF,
    VOCABULARY,
    Broken,
    Subject,
)
from lmzoo.models.member import Member
from lmzoo.registry import models

__all__ = ["LAWS", "Report", "Row", "check_model"]


@dataclass
class Row:
    """One law: "holds", "broken", "does not apply" or "not proved"."""

    law: str
    verdict: str
    detail: str = ""


@dataclass
class Report:
    """All laws for one model; ``ok`` is the verdict, ``str()`` a table."""

    name: str
    exhibit: str | None
    rows: list[Row] = field(default_factory=list)

    @property
    def broken(self) -> list[str]:
        """Names of the laws that do not hold."""
        return [row.law for row in self.rows if row.verdict == "broken"]

    @property
    def ok(self) -> bool:
        """No law broken; for an exhibit, the one it names and no other."""
        return self.broken == ([self.exhibit] if self.exhibit else [])

    def __str__(self) -> str:
        lines = [f"{self.name}"]
        lines += [
            f"  {row.law:<14} {row.verdict:<15} {row.detail}".rstrip()
            for row in self.rows
        ]
        if [row.verdict for row in self.rows] == ["not proved"]:
            lines.append("  not proved here, neither kept nor broken")
        elif self.exhibit:
            said = "as an exhibit should" if self.ok else "but should break that alone"
            broken = ", ".join(self.broken) or "nothing"
            lines.append(f"  exhibit of {self.exhibit!r}: breaks {broken}, {said}")
        else:
            lines.append("  keeps the contract" if self.ok else "  BREAKS the contract")
        return "\n".join(lines)


def check_model(
    model: str | type[Member],
    *,
    laws: Collection[str] | None = None,
    **arguments: Any,
) -> Report:
    """Prove, or refute, that a model keeps the contract.

    Args:
        model: a registered name or a class.
        laws: which to prove; all of its task unless given.
        arguments: constructor arguments other than the defaults.

    Returns:
        A report with one row for each law.

    Raises:
        UsageError: an unknown name.
    """
    cls = models.load(model) if isinstance(model, str) else model
    name = model if isinstance(model, str) else model.__name__
    exhibit = getattr(cls, "exhibit", None)
    report = Report(name, exhibit)
    if not (isinstance(cls, type) and issubclass(cls, Member)):
        said = "derive it from lmzoo.LanguageModel"
        report.rows.append(Row("constructor", "broken", said))
        return report
    if missing := _missing(cls):
        report.rows.append(Row("all", "not proved", missing))
        return report
    sizes = {"vocab_size": VOCABULARY, "context_length": CONTEXT}
    subject = Subject(cls, {**sizes, **arguments})
    with torch.random.fork_rng():
        for law, prove in LAWS_OF[cls.task].items():
            if laws is not None and law not in laws:
                continue
            report.rows.append(_judge(law, prove, subject))
            if law == "constructor" and report.broken:
                break
    return report


def _missing(cls: type[Member]) -> str | None:
    """One line where a package that the model requires is not installed."""
    for package, extra in cls.requires.items():
        if importlib.util.find_spec(package) is None:
            return f"it needs {package}, not installed: pip install 'lmzoo[{extra}]'"
    return None


def _judge(law: str, prove: Callable[[Subject], str | None], subject: Subject) -> Row:
    if subject.cls.counting and law in GRADIENT_LAWS:
        return Row(law, "does not apply", "it counts: no gradients, no training start")
    if subject.cls.pretrained and law == "initial_loss":
        return Row(law, "does not apply", "its weights come from a source")
    if not subject.cls.counting and law == "counts":
        return Row(law, "does not apply", "it does not count")
    try:
        return Row(law, "holds", prove(subject) or "")
    except Broken as broken:
        return Row(law, "broken", str(broken))
    except Exception as error:
        said = f"{type(error).__name__}: {str(error).strip().splitlines()[:1]}"
        return Row(law, "broken", said)
