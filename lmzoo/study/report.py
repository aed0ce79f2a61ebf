"""What a student hands in: the findings in the lab's order, as a page and Markdown."""

import hashlib
from pathlib import Path

from lmzoo import __version__
from lmzoo.errors import UsageError
from lmzoo.files import write_atomically
from lmzoo.report.finding import Finding
from lmzoo.report.page import Section, html, markdown
from lmzoo.report.words import listed
from lmzoo.study.engine import Study
from lmzoo.study.entropy import domains
from lmzoo.study.lab import beside_the_lab
from lmzoo.study.steps import SECTIONS

PICTURES = "report"  # folder of PNGs, beside report.md


def write(study: Study) -> tuple[list[Path], str]:
    """``report.html``, ``report.md`` and its pictures.

    Returns:
        The files, and a line on what is missing ("" if nothing is).

    Raises:
        UsageError: the folder cannot be written.
    """
    sections = contents(study)
    title, under = f"Study: {study.recipe.name}", _under(study)
    pictures, missing = _pictures(study, sections)
    page, text = study.folder / "report.html", study.folder / "report.md"
    write_atomically(page, html(title, under, sections).encode())
    told = markdown(title, under, sections, page.name, pictures)
    write_atomically(text, told.encode())
    return [page, text], missing


def contents(study: Study) -> list[Section]:
    """Every section of the page."""
    made = [_summary(study)]
    for number, title in SECTIONS.items():
        found = study.of(number)
        heading = f"{number}. {title}"
        refused = [
            f"{name}: not possible here: {why}"
            for name, why in study.refused.items()
            if _section_of(name) == number
        ]
        if number == "XI" and not found and not refused:
            continue
        lead = domains(study) if number == "IX" else None
        first = [lead] if lead else []
        every = [*first, *(one for _, one in found)]
        lines = _lead(every, number)
        if len(every) == 1 and not refused:  # one heading is enough
            alone = every[0].section()
            alone.title, alone.text = heading, [*lines, *alone.text]
            made.append(alone)
            continue
        made.append(Section(heading, text=lines, notes=refused))
        made += [_placed(number, one) for one in every]
    last = beside_the_lab(study)
    made.append(last.section())
    return made


def _placed(number: str, found: Finding) -> Section:
    section = found.section()
    section.title, section.part = f"{number} · {found.title}", True
    return section


def _lead(found: list[Finding], number: str) -> list[str]:
    if not found:
        return ["Nothing could be measured here."]
    kinds = {
        "III": "The same prompt and seeds at every kept checkpoint.",
        "IV": "Five continuations of the last checkpoint, and how they differ.",
        "V": "Measured anew from the checkpoints alone, not read from the log.",
        "VI": "Rows are models, columns are texts; the split is named below.",
        "VII": "Every ordered pair of corpora, from the last checkpoint.",
        "VIII": "The same from an earlier checkpoint, beside the last one: counts "
        "of cases are of both starts.",
        "IX": "What each model expects after each of the fixed prompts.",
        "X": "How much each position of a prompt matters to the target character; "
        "out of its domain before and after few-shot training.",
    }
    return [kinds[number]] if number in kinds else []


def _summary(study: Study) -> Section:
    recipe = study.recipe
    text = [
        f"Sections I to X of the lab, for {listed(recipe.models)} trained on "
        f"{listed(list(recipe.corpora))}, each a model of its own."
    ]
    for number, wanted in (("VI", "held-out"), ("VII", ""), ("VIII", "Starting from")):
        for step, one in study.of(number):
            lines = [line for line in one.text if line.startswith(wanted)] or one.text
            model, _, _ = step.name.removeprefix("fewshot-").rpartition("-")
            whose = f"{model}: " if model and len(recipe.models) > 1 else ""
            text += [whose + (line if whose else _capital(line)) for line in lines[:1]]
    if lead := domains(study):
        text += lead.text[:1]
    notes = [f"not possible: {name}: {why}" for name, why in study.refused.items()]
    return Section("", text=text, notes=notes)


def _capital(line: str) -> str:
    return line[:1].upper() + line[1:]


def _under(study: Study) -> str:
    fit = study.recipe.fit
    words = [f"{key.rpartition('.')[2]} {value}" for key, value in fit.items()]
    return f"Trained with {', '.join(words)}." if words else "lmzoo's own defaults."


def _section_of(step: str) -> str:
    heads = {
        "frequencies": "I", "architecture": "II", "samples": "III", "outputs": "IV",
        "curve": "V", "matrix": "VI", "softmax": "IX", "attribution": "X",
    }  # fmt: skip
    if step.startswith("fewshot"):
        return "VIII" if step.endswith("early") else "VII"
    return heads.get(step.split("-")[0], "XI")


def _pictures(study: Study, sections: list[Section]) -> tuple[dict[str, str], str]:
    """Each figure -> its PNG, relative to the Markdown file; drawn when it is new."""
    try:
        import matplotlib  # noqa: F401  # the extra plots
    except ImportError:
        return {}, (
            "report.md has no pictures: PNG needs matplotlib, pip install lmzoo[plots]"
        )
    from lmzoo.report.png import png  # matplotlib, an extra

    folder, made = study.folder / PICTURES, {}
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder}: {error.strerror or error}") from error
    for section in sections:
        for svg in [*section.wide, *section.figures]:
            drawn = hashlib.sha256(f"{__version__}\n{svg}".encode()).hexdigest()
            name = f"figure-{drawn[:16]}.png"
            if svg not in made and not (folder / name).is_file():
                write_atomically(folder / name, png(svg))
            made[svg] = f"{PICTURES}/{name}"
    for old in folder.glob("figure-*.png"):
        if f"{PICTURES}/{old.name}" not in made.values():
            old.unlink()
    return made, ""
