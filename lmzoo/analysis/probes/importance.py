"""One look at a prompt: importances of its positions, and how they are drawn."""

from dataclasses import dataclass

import numpy as np

from lmzoo.analysis.attributions import normalised
from lmzoo.analysis.prompts import Prompt
from lmzoo.report.bars import bars
from lmzoo.report.heat import heat_map


@dataclass
class Look:
    """Importances of a prompt's positions: one model, one checkpoint, one method."""

    source: str
    step: int
    method: str
    values: np.ndarray  # (T,)
    log_probability: float  # of the target, nats

    @property
    def top(self) -> int:
        """The position that matters most."""
        return int(np.abs(self.values).argmax())

    @property
    def any(self) -> bool:
        """Whether any position matters at all."""
        return bool(self.values.any())


def shared(looks: list[Look], beside: list[Look]) -> tuple[Look, Look | None]:
    """The newest look by the first method that both models have, and the other's.

    The first of all, and None, where they have no method in common.
    """
    newest = [look for look in looks if look.step == looks[-1].step]
    others = {look.method: look for look in beside}
    first = next((look for look in newest if look.method in others), newest[0])
    return first, others.get(first.method)


def figures(
    of: str, read: Prompt, looks: list[Look], beside: list[Look]
) -> dict[str, str]:
    """Bars of the first method, and heat maps of all."""
    pair = [look for look in shared(looks, beside) if look]
    first = pair[0]
    series = {
        f"{look.source}, step {look.step:,}": normalised(look.values).tolist()
        for look in pair
    }
    title = f"{first.method}: what matters for {of}"
    drawn = {
        "bars": bars(
            read.labels,
            series,
            title,
            "importance / largest",
            counted="positions",
            one_scale=True,
        )
    }
    legend = "importance / largest of the row"
    if len({look.step for look in looks}) == 1:
        return {**drawn, "heat": _heat(f"What matters for {of}", read, looks + beside,
                                       legend)}  # fmt: skip
    for name in dict.fromkeys(look.method for look in looks):
        rows = [look for look in looks + beside if look.method == name]
        drawn[f"heat-{name}"] = _heat(f"{name}: what matters for {of}", read, rows,
                                      legend)  # fmt: skip
    return drawn


def _heat(title: str, read: Prompt, looks: list[Look], legend: str) -> str:
    """A row for each look, named by what tells it from the others."""
    differ = {
        key for key in ("source", "step", "method")
        if len({getattr(look, key) for look in looks}) > 1
    }  # fmt: skip
    pairs = {(look.source, look.step) for look in looks}
    if 1 < len(pairs) == len({source for source, _ in pairs}):
        differ -= {"step"}  # each source has one
    names = []
    for look in looks:
        words = [look.source] if "source" in differ else []
        words += [f"step {look.step:,}"] if "step" in differ else []
        words += [look.method] if "method" in differ or not differ else []
        names.append(", ".join(words))
    values = [normalised(look.values).tolist() for look in looks]
    return heat_map(
        title, names, read.labels, values, x_label="prompt", legend=legend, top=1.0
    )
