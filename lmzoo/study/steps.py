"""The sections of the lab, in its order, as steps: each one a probe and its options."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lmzoo import runs
from lmzoo.analysis.history import History
from lmzoo.analysis.prompts import read_prompt
from lmzoo.analysis.transfer.fewshot import fewshot
from lmzoo.analysis.transfer.matrix import matrix
from lmzoo.errors import UsageError
from lmzoo.registry import probes
from lmzoo.report.finding import Finding
from lmzoo.study.adapted import adapted_runs
from lmzoo.study.architecture import architecture
from lmzoo.study.options import extra_probes
from lmzoo.study.recipe import Prompt, Recipe

SECTIONS = {
    "I": "Character frequencies",
    "II": "Architecture",
    "III": "Samples over training",
    "IV": "Five outputs of the final model",
    "V": "Loss curves from checkpoints",
    "VI": "Each model on each corpus",
    "VII": "Few-shot transfer from the last checkpoint",
    "VIII": "Few-shot transfer from an earlier checkpoint",
    "IX": "Softmax and entropy",
    "X": "Attribution before and after few-shot",
    "XI": "Further probes",
}
OWN: dict[str, Callable[..., Finding]] = {
    "architecture": architecture,
    "transfer-matrix": matrix,
    "transfer-fewshot": fewshot,
}
Open = Callable[[str | Path], History]  # each run once


@dataclass(frozen=True)
class Step:
    """One look at something.

    Attributes:
        section: its number in the lab.
        name: unique in the study, a file name.
        probe: registry name, or one of ``OWN``.
        subject: what the probe is given first: a run, several, or corpora.
        options: of the probe.
        runs: folders whose checkpoints decide what is found.
        hidden: options that say where things are, not what is found.
        makes: a folder of runs that it leaves behind.
    """

    section: str
    name: str
    probe: str
    subject: Any
    options: dict[str, Any] = field(default_factory=dict)
    runs: tuple[Path, ...] = ()
    hidden: dict[str, Any] = field(default_factory=dict)
    makes: Path | None = None

    @property
    def function(self) -> Callable[..., Finding]:
        """The probe itself."""
        return OWN[self.probe] if self.probe in OWN else probes.load(self.probe)

    def run(self, opened: Open) -> Finding:
        """Do it, with open runs where a probe takes them: a checkpoint is read once."""
        subject, function = self.subject, self.function
        if self.probe.startswith("transfer-"):
            subject = [opened(path) for path in subject]
        elif isinstance(subject, str):
            first = next(iter(inspect.signature(function).parameters.values()))
            subject = opened(subject) if "History" in str(first.annotation) else subject
        return function(subject, **self.options, **self.hidden)


def steps(recipe: Recipe, places: dict[str, Path], folder: Path) -> list[Step]:
    """Sections I to IX, and X as far as it needs no adapted model.

    Args:
        recipe: the study.
        places: name of each run -> its folder.
        folder: of the study.
    """
    made = [
        Step("I", "frequencies", "frequencies", list(recipe.corpora.values()),
             recipe.of("frequencies"))
    ]  # fmt: skip
    made += _each("II", "architecture", recipe, places)
    made += _each("III", "samples", recipe, places, prompted=True)
    last = {"num_samples": 5, **recipe.of("outputs"), "checkpoints": "last"}
    made += _each("IV", "samples", recipe, places, last, "outputs", prompted=True)
    made += _each("V", "curve", recipe, places)
    every = tuple(places.values())
    whole = [str(path) for path in every]
    options = recipe.of("matrix")
    made.append(Step("VI", "matrix", "transfer-matrix", whole, options, runs=every))
    made += _few_shot(recipe, places, folder)
    for name, path in places.items():
        for i, prompt in enumerate(recipe.prompts):
            made.append(_softmax(recipe, name, path, i, prompt))
    made += _extra(recipe, places)
    return made


def attributions(
    recipe: Recipe, places: dict[str, Path], folder: Path, opened: Open
) -> tuple[list[Step], dict[str, str]]:
    """Section X: each model on each prompt; out of its domain before and after.

    Returns:
        The steps; and name of what is missing -> why: an "after" without its model.
    """
    made: list[Step] = []
    missing: dict[str, str] = {}
    for name, path in places.items():
        found = adapted_runs(folder / "adapted" / recipe.runs()[name][0], path)
        for i, prompt in enumerate(recipe.prompts):
            step = f"attribution-{name}-{i + 1}"
            options = {"prompt": prompt.text, "target": prompt.target}
            options |= {"methods": "grad_norm", **recipe.of("attribution")}
            home = _home_text(recipe, places, name, prompt)
            after = found.get(home)
            if home and after is None:
                missing[f"{step}-after"] = "few-shot training left no model of this run"
            try:
                made += _attributed(step, path, after, options, opened)
            except UsageError as error:
                missing[f"{step}-after"] = " ".join(str(error).split())
                made += _attributed(step, path, None, options, opened)
    return made, missing


def _attributed(
    name: str, before: Path, after: Path | None, options: dict[str, Any], opened: Open
) -> list[Step]:
    """In one figure where both read the prompt alike, else in one each.

    Few-shot training gives new characters of a prompt rows of their own: what was
    <unk> before is then another token.
    """
    if after is None:
        return [Step("X", name, "attribution", str(before), options, (before,))]
    one, other = (_read(opened(path), options) for path in (before, after))
    if one == other:
        beside = {"against": opened(after)}
        both = (before, after)
        return [Step("X", name, "attribution", str(before), options, both, beside)]
    last = {**options, "checkpoints": "last"}
    return [
        Step("X", name, "attribution", str(before), options, (before,)),
        Step("X", f"{name}-after", "attribution", str(after), last, (after,)),
    ]


def _read(run: History, options: dict[str, Any]) -> tuple[list[str], str | None]:
    """How a run reads the prompt, and what of the target it does not know."""
    read = read_prompt(run, options["prompt"], window=True)
    return read.labels, run.tokenizer.first_unknown(options["target"])


def _home_text(
    recipe: Recipe, places: dict[str, Path], name: str, prompt: Prompt
) -> str:
    """SHA-256 of the text in whose domain a prompt is, if it is not the run's own."""
    model, corpus = recipe.runs()[name]
    home = next((one for one in prompt.home if one in recipe.corpora), corpus)
    if home == corpus:
        return ""
    manifest = runs.read_manifest(places[f"{model}-{home}"])
    return str((manifest.get("data") or {}).get("sha256", ""))


def _each(
    section: str,
    probe: str,
    recipe: Recipe,
    places: dict[str, Path],
    options: dict[str, Any] | None = None,
    called: str = "",
    prompted: bool = False,
) -> list[Step]:
    """One probe on every run; ``prompted`` with the prompt of its domain."""
    made = []
    for name, path in places.items():
        given = recipe.of(probe) if options is None else dict(options)
        if prompted and (prompt := home_prompt(recipe, name)):
            given = {"prompt": prompt.text, **given}
        made.append(
            Step(section, f"{called or probe}-{name}", probe, str(path), given, (path,))
        )
    return made


def _few_shot(recipe: Recipe, places: dict[str, Path], folder: Path) -> list[Step]:
    """From the last checkpoint, and from an earlier one against it."""
    made: list[Step] = []
    if len(recipe.corpora) < 2:
        return made
    for model in recipe.models:
        hidden = {"kept": str(folder / "trained" / model)}
        save = folder / "adapted" / model
        paths = tuple(places[f"{model}-{corpus}"] for corpus in recipe.corpora)
        whole, options = [str(path) for path in paths], recipe.of("fewshot")
        probe, given = "transfer-fewshot", {**options, "start": "last"}
        into = {**hidden, "save": str(save)}
        name = f"fewshot-{model}"
        made.append(Step("VII", f"{name}-last", probe, whole, given, paths, into, save))
        if recipe.early is not None:
            given = {**options, "start": f"{recipe.early},last"}
            name = f"{name}-early"
            made.append(Step("VIII", name, probe, whole, given, paths, hidden))
    return made


def _softmax(recipe: Recipe, name: str, path: Path, i: int, prompt: Prompt) -> Step:
    options = {"prompt": prompt.text, **recipe.of("softmax")}
    if i:  # held-out text says the same after any prompt
        options.pop("entropy_text", None)
    elif options.get("entropy_text") and (other := _abroad(recipe, name)):
        options = {"corpus": other, **options}
    return Step("IX", f"softmax-{name}-{i + 1}", "softmax", str(path), options, (path,))


def _abroad(recipe: Recipe, run: str) -> str:
    """A corpus that a run was not trained on: the next one of the recipe."""
    names = list(recipe.corpora)
    here = names.index(recipe.runs()[run][1])
    other = names[(here + 1) % len(names)]
    return recipe.corpora[other] if len(names) > 1 else ""


def _extra(recipe: Recipe, places: dict[str, Path]) -> list[Step]:
    """Probes that lmzoo does not bring: of ``--extra-probe``, of other packages."""
    made: list[Step] = []
    for name in extra_probes():
        first = next(iter(inspect.signature(probes.load(name)).parameters), "")
        if first == "corpora":
            corpora = list(recipe.corpora.values())
            made.append(Step("XI", name, name, corpora, recipe.of(name)))
        elif first == "runs":
            every = tuple(places.values())
            whole = [str(path) for path in every]
            made.append(Step("XI", name, name, whole, recipe.of(name), every))
        else:
            asks = "prompt" in inspect.signature(probes.load(name)).parameters
            made += _each("XI", name, recipe, places, prompted=asks)
    return made


def home_prompt(recipe: Recipe, run: str) -> Prompt | None:
    """The prompt in whose domain a run was trained; else the first one."""
    corpus = recipe.runs()[run][1]
    own = [prompt for prompt in recipe.prompts if corpus in prompt.home]
    return next(iter([*own, *recipe.prompts]), None)


def in_domain(recipe: Recipe, run: str, prompt: Prompt) -> bool:
    """Whether a run was trained on text like the prompt."""
    return recipe.runs()[run][1] in prompt.home
