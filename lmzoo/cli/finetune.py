"""``lmzoo finetune``: one text cut in two, a model fine-tuned on each, one report."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lmzoo.cli.command import call
from lmzoo.cli.configurations import load_yaml
from lmzoo.compare.values import spelled
from lmzoo.errors import UsageError
from lmzoo.files import write_atomically, write_json

KEYS = ("text", "source", "split", "fit", "prompts", "phrases", "generation", "most")
CUTS = ("by", "at", "pattern", "field", "value", "unit", "text_column")
DECIDED = ("trainer.default_root_dir", "data.path", "data.corpus", "model.source")


def run(argv: list[str]) -> int:
    """Do the whole exercise; returns the exit code."""
    return call("finetune", finetune, argv)


def finetune(recipe: str, *, text: str = "", source: str = "", out: str = "") -> int:
    """Cut a text in two, fine-tune a model on each part, report both beside the start.

    What is done is kept: the same command goes on where it was stopped.

    Args:
        recipe: a YAML file, as configs/finetune_own_text.yaml: split, options of fit,
            prompts, phrases with log-probabilities imported from elsewhere
        text: a file, folder or glob of one's own; instead of the recipe's
        source: a model's folder, GGUF file or name on the Hugging Face hub; instead of
            the recipe's
        out: folder of corpora, runs and report; by default finetune/NAME
    """
    wanted = read(load_yaml(recipe), recipe)
    wanted |= {k: v for k, v in (("text", text), ("source", source)) if v}
    for key in ("text", "source"):
        if not wanted.get(key):
            raise UsageError(f"{recipe}: it names no {key}; give --{key}")
    folder = Path(out or f"finetune/{Path(recipe).stem}")
    phrases = [_phrase(one, recipe) for one in wanted.get("phrases") or []]
    from lmzoo.cli.score import read_imported  # torch: only once the file was read

    imported = {text: [read_imported(f, text) for f in fs] for text, fs in phrases}
    corpora = _corpora(wanted, folder)
    for corpus in corpora:
        print(f"\n== {corpus.stem}", flush=True)
        _train(wanted, corpus, folder / corpus.stem)
    _report(wanted, corpora, folder, imported)
    return 0


def read(content: Mapping[str, Any], where: str) -> dict[str, Any]:
    """A recipe, refused where something in it would not be read.

    Raises:
        UsageError: an unknown key, or an option that the exercise itself decides.
    """
    if unknown := sorted(set(content) - set(KEYS)):
        raise UsageError(f"{where}: {unknown[0]!r} is unknown; it takes {list(KEYS)}")
    split = content.get("split") or {}
    if unknown := sorted(set(split) - set(CUTS)):
        raise UsageError(f"{where}: split takes {list(CUTS)}, not {unknown[0]!r}")
    fit = _flat(content.get("fit") or {})
    for key in DECIDED:
        if key in fit:
            raise UsageError(f"{where}: fit.{key} is decided here; leave it out")
    return {**content, "split": split, "fit": fit}


def _flat(tree: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping) and key != "rates":
            found |= _flat(value, f"{above}{key}.")
        else:
            found[f"{above}{key}"] = value
    return found


def _phrase(one: Any, where: str) -> tuple[str, list[str]]:
    """A text, and files of log-probabilities of it."""
    if isinstance(one, str) and one:
        return one, []
    described: dict[str, Any] = one if isinstance(one, dict) else {}
    text, files = described.get("text"), described.get("import") or []
    if not isinstance(text, str) or not text or set(described) - {"text", "import"}:
        raise UsageError(f"{where}: a phrase is a text, or text: and import: [FILE]")
    return text, [files] if isinstance(files, str) else list(files)


def _corpora(wanted: dict[str, Any], folder: Path) -> list[Path]:
    """The two texts: cut now, or as they were cut."""
    place = folder / "corpora"
    asked = [f"--{key}={value}" for key, value in wanted["split"].items()]
    told = (
        folder / "asked.json"
    )  # before the cut, which is then this one's or not there
    if not (place / "split.json").is_file():
        from lmzoo.cli.split import run as split  # as it would be typed

        write_json(told, [str(wanted["text"]), *asked])
        split([str(wanted["text"]), *asked, f"--out={place}"])
    elif json.loads(told.read_text()) != [str(wanted["text"]), *asked]:
        raise UsageError(
            f"{place} was cut from another text, or otherwise; choose another --out"
        )
    parts = json.loads((place / "split.json").read_text())["parts"]
    return [place / part["file"] for part in parts]


def _train(wanted: dict[str, Any], corpus: Path, run: Path) -> None:
    from lmzoo.cli.train import run as fit  # as it would be typed

    words = [f"--{key}={spelled(value)}" for key, value in wanted["fit"].items()]
    own = [f"--data.path={corpus}", f"--trainer.default_root_dir={run}"]
    fit(
        "fit",
        ["--model=pretrained", f"--model.source={wanted['source']}", *words, *own],
    )


def _report(
    wanted: dict[str, Any],
    corpora: list[Path],
    folder: Path,
    phrases: dict[str, list[Any]],
) -> None:
    from lmzoo import runs  # torch: after a typing error had its answer
    from lmzoo.analysis import side_by_side, side_by_side_page  # the same
    from lmzoo.cli.sources import open_source  # the same
    from lmzoo.report.page import html, markdown  # the same

    models = [side_by_side.Model("original", open_source(str(wanted["source"])))]
    for corpus in corpora:
        opened = runs.load(folder / corpus.stem)
        models.append(side_by_side.Model(f"{corpus.stem} model", opened, corpus.stem))
    texts = [side_by_side.Phrase(text, scores) for text, scores in phrases.items()]
    cells = side_by_side.measured(models, int(wanted.get("most") or 0))
    generation = {"max_new_tokens": 60, **(wanted.get("generation") or {})}
    prompts = wanted.get("prompts") or []
    sections, numbers = side_by_side_page.compared(
        models, cells, prompts, texts, generation
    )
    title = "Two models fine-tuned from one start"
    under = f"{wanted['source']} on {wanted['text']}"
    page, told = folder / "report.html", folder / "report.md"
    write_atomically(page, html(title, under, sections).encode("utf-8", "replace"))
    words = markdown(title, under, sections, page.name)
    write_atomically(told, words.encode("utf-8", "replace"))
    write_json(folder / "report.json", numbers)
    print()
    for line in numbers["observations"]:
        print(line)
    for file in (page, told, folder / "report.json"):
        print(f"written    {file}")
