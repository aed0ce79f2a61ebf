"""A classifier learns from what another one says of the same texts.

Hinton et al. 2015, "Distilling the Knowledge in a Neural Network", arXiv:1503.02531.
The teacher reads the training texts once, with its own tokenizer; the student's loss
then holds its logits beside the true labels.
"""

from typing import Any

from lmzoo import runs
from lmzoo.classification import classifier_of, logits
from lmzoo.errors import UsageError
from lmzoo.models.classifier import Teacher


def teach(
    model: Any, data: Any, run: runs.Run, weight: float, temperature: float
) -> str:
    """Give ``model`` the teacher's logits of the training texts.

    Args:
        model: the student, a classifier.
        data: the ``LabelledDataModule`` that it is trained on.
        run: of the teacher.
        weight: of the teacher's part of the loss, in (0, 1].
        temperature: that softens both sides, above 0.

    Returns:
        A line for a person.

    Raises:
        UsageError: a number out of its range, or a teacher of other labels.
    """
    if not 0 < weight <= 1:
        raise UsageError(f"--distill.weight {weight}: give a share in (0, 1]")
    if not 0 < temperature < float("inf"):
        raise UsageError(f"--distill.temperature {temperature}: give one above 0")
    teacher = classifier_of(run)
    if sorted(teacher.labels) != sorted(data.labels):
        raise UsageError(
            f"--distill_from {run.path}: its labels are {', '.join(teacher.labels)}, "
            f"those of the data {', '.join(data.labels)}; --data.labels names them"
        )
    columns = [teacher.labels.index(label) for label in data.labels]
    said = logits(run, data.parts["train"].texts)[:, columns]
    model.teacher = Teacher(said, weight, temperature)
    right = (said.argmax(-1).numpy() == data.parts["train"].targets).mean()
    return (
        f"distilled from {run.path}, which is right on {right:.1%} of the training "
        f"texts: weight {weight:g}, temperature {temperature:g}"
    )
