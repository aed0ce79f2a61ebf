"""A probe of one's own, as ``--extra-probe`` takes it."""

from lmzoo.registry import register_probe
from lmzoo.report.finding import Finding


@register_probe("steps-kept")
def steps_kept(run: str, *, factor: int = 1) -> Finding:
    """Count a run's checkpoints.

    Args:
        run: a run folder
        factor: multiplies the count
    """
    from pathlib import Path

    number = factor * len(list(Path(run, "checkpoints").glob("*.ckpt")))
    return Finding("steps-kept", "Steps kept", text=[f"{number} checkpoints."])
