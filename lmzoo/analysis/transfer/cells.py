"""One training of a few-shot study: run once, kept as JSON, read back afterwards."""

import hashlib
import json
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmzoo import __version__, runs
from lmzoo.analysis.adaptation import Rule, adapt, as_checkpoint, begin, target_text
from lmzoo.analysis.history import History
from lmzoo.analysis.prompts import kept_text, known_ids
from lmzoo.analysis.transfer.corpora import Corpus, corpus_of, trained_on
from lmzoo.analysis.transfer.passes import losses
from lmzoo.files import write_json
from lmzoo.generation import generate_texts
from lmzoo.models.base import LanguageModel
from lmzoo.text.datamodule import TextDataModule

FORMAT = 2  # raise it whenever the same job would give another result


@dataclass(frozen=True)
class Plan:
    """What all trainings of a study have in common."""

    at: tuple[int, ...]
    vocabulary: Rule
    lr: float | None
    share: float
    max_tokens: int
    prompt: str
    length: int
    temperature: float


@dataclass(frozen=True)
class Job:
    """One training: a source, a target, where it starts (None: as new), a seed."""

    history: History
    source: str
    corpus: Corpus
    target: str
    start: int | None
    seed: int

    @property
    def folder_name(self) -> str:
        """Of the adapted run."""
        begun = "new" if self.start is None else str(self.start)
        pair = f"{self.source}-to-{self.target}"
        return file_name(f"{pair}-from-{begun}-seed-{self.seed}")


def file_name(words: str) -> str:
    """Words as a name that needs no quotes anywhere."""
    plain = "".join(c if c.isalnum() or c in "-_." else "_" for c in words)
    return "_".join(part for part in plain.split("_") if part)


def result(
    job: Job, plan: Plan, rate: float, kept: Path | None, save: Path | None
) -> dict[str, Any]:
    """What a training gave: read from ``kept`` if it is there, else done now.

    Args:
        job: the training.
        plan: common to all.
        rate: learning rate.
        kept: folder of results; None keeps none.
        save: folder for the adapted models; None saves none.

    Returns:
        ``steps`` -> for ``target`` and ``source`` nats per token, bits per character,
        nats per character of each block, and whether all of the text was measured;
        ``before``: the same of the run as it was, under its own vocabulary, what it
        does not know charged as ``<unk>``; ``samples``, ``vocabulary``, ``seconds``,
        ``notes`` on the prompt.
    """
    file = kept / f"{job.folder_name}-{_key(job, plan, rate)}.json" if kept else None
    wanted = save / job.folder_name if save and job.start is not None else None
    if file and file.is_file() and not (wanted and not _is_run(wanted)):
        with suppress(OSError, ValueError):  # a damaged file is made again
            return json.loads(file.read_text(encoding="utf-8"))
    found = _train(job, plan, rate, wanted)
    if file:
        write_json(file, found)
        return json.loads(file.read_text(encoding="utf-8"))  # alike, read or made
    return json.loads(json.dumps(found))


def _key(job: Job, plan: Plan, rate: float) -> str:
    """A fingerprint of all that decides the result."""
    history = job.history
    start = None if job.start is None else _digest(history.at(job.start))
    told = [FORMAT, __version__, history.run.stored["arguments"],
            history.model_name, start,
            trained_on(history), corpus_of(history).arguments, job.corpus.arguments,
            job.corpus.sha256, job.seed, vars(plan), rate]  # fmt: skip
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]


def _digest(model: LanguageModel) -> str:
    """SHA-256 of the weights."""
    whole = hashlib.sha256()
    for tensor in model.state_dict().values():
        whole.update(tensor.detach().cpu().contiguous().view(-1).numpy().tobytes())
    return whole.hexdigest()


def _is_run(folder: Path) -> bool:
    return (folder / "manifest.json").is_file()


def _train(job: Job, plan: Plan, rate: float, save: Path | None) -> dict[str, Any]:
    began = time.perf_counter()
    data, vocabulary = target_text(job.history, job.corpus, plan.vocabulary, job.seed)
    own = corpus_of(job.history).under(
        job.history, tokenizer_state=data.tokenizer.state(), extend_tokenizer=False
    )
    model = begin(job.history, job.start, data, job.seed)
    seconds = {"sampling": 0.0, "evaluation": 0.0}
    steps: dict[int, Any] = {}
    samples: dict[int, str] = {}
    notes: list[str] = []
    rule = data.settings.unknown
    known = known_ids(data.tokenizer, plan.prompt, rule, job.history.path, notes)
    prompt = kept_text(data.tokenizer, plan.prompt, known)

    def watch(step: int, model: LanguageModel) -> None:
        begun = time.perf_counter()
        texts = {"target": data, "source": own}
        steps[step] = {
            name: _measured(model, text, plan.max_tokens)
            for name, text in texts.items()
        }
        seconds["evaluation"] += time.perf_counter() - begun
        if job.start is not None and plan.length:
            begun = time.perf_counter()
            samples[step] = _sample(model, data, prompt, plan, job.seed)
            seconds["sampling"] += time.perf_counter() - begun

    adapt(model, data, job.history, at=plan.at, lr=rate, watch=watch)
    if save:
        _save(model, data, job, max(plan.at), save)
    before = None if job.start is None else _before(job, plan, steps[0])
    seconds["all"] = time.perf_counter() - began
    return {
        "source": job.source,
        "target": job.target,
        "start": job.start,
        "seed": job.seed,
        "lr": rate,
        "vocabulary": vocabulary.plain(),
        "before": before,
        "steps": {str(step): value for step, value in steps.items()},
        "samples": {str(step): text for step, text in samples.items()},
        "notes": notes,
        "seconds": seconds,
    }


def _before(job: Job, plan: Plan, zero: dict[str, Any]) -> dict[str, Any]:
    """The run as it was: no new rows; in as many blocks as at step 0.

    What it does not know is read as ``<unk>`` whatever the run's rule is: a text
    without it could not be compared block by block.
    """
    history = job.history
    assert job.start is not None
    model = history.at(job.start)
    texts = {"target": job.corpus, "source": corpus_of(history)}
    return {
        name: _measured(
            model,
            text.under(history, unknown="unk"),
            plan.max_tokens,
            len(zero[name]["block_nats_per_char"]),
        )
        for name, text in texts.items()
    }


def _measured(
    model: LanguageModel, data: TextDataModule, most: int, number: int | None = None
) -> dict[str, Any]:
    """Held-out loss: in all, and of each block."""
    found = losses(model, data, "val", most)
    nats, chars = found.blocks(number)
    return {
        "nats_per_token": found.nats_per_token,
        "bits_per_char": found.bits_per_char,
        "coverage": found.coverage,
        "tokens": len(found.nats),
        "whole": found.places is None,
        "block_nats_per_char": [float(a / b) for a, b in zip(nats, chars, strict=True)],
    }


def _sample(
    model: LanguageModel, data: TextDataModule, prompt: str, plan: Plan, seed: int
) -> str:
    """The prompt's continuation, through the decoding state."""
    return generate_texts(
        model,
        data.tokenizer,
        prompt,
        max_new_tokens=plan.length,
        temperature=plan.temperature,
        seed=seed,
    )[0]


def _save(
    model: LanguageModel, data: TextDataModule, job: Job, steps: int, folder: Path
) -> None:
    """A run folder: its checkpoint, then the manifest that names it."""
    step = (job.start or 0) + steps
    name = runs.checkpoint_name(step)
    checkpoint = as_checkpoint(model, data, job.history, step, steps)
    runs.write_checkpoint(checkpoint, folder / "checkpoints" / name)
    write_json(
        folder / "manifest.json",
        {
            "format": runs.FORMAT,
            "status": "finished",
            "model": job.history.model_name,
            "best": name,
            "last": name,
            "max_steps": step,
            "data": data.describe(),
            "adapted": {
                "from": str(job.history.path),
                "step": job.start,
                "steps": steps,
                "seed": job.seed,
            },
        },
    )


def block_rates(
    results: Sequence[dict[str, Any]], step: int | None, text: str
) -> list[list[float]]:
    """Nats per character of each block, one list a seed; None: of the run as it was."""
    return [measured(one, step, text)["block_nats_per_char"] for one in results]


def measured(result: dict[str, Any], step: int | None, text: str) -> dict[str, Any]:
    """What was measured after ``step``; None: of the run as it was."""
    when = result["before"] if step is None else result["steps"][str(step)]
    return when[text]
