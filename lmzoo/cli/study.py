"""``lmzoo study``: the whole lab in one command, and the report that it hands in."""

import signal
import sys
from pathlib import Path
from types import FrameType

from lmzoo.cli.command import call
from lmzoo.cli.configurations import load_yaml
from lmzoo.cli.inspect import load_extra
from lmzoo.errors import UsageError
from lmzoo.registry import models
from lmzoo.study.recipe import read

WIDE = 58  # of what is running, on its line


def run(argv: list[str]) -> int:
    """Conduct a study; returns the exit code."""
    return call("study", study, load_extra(argv))


def study(recipe: str, *, corpora: str = "", out: str = "", parallel: int = 1) -> int:
    """Train what is missing, look inside, and write one report.

    What is done is kept: the same command goes on where it was stopped, and does
    nothing twice.

    Args:
        recipe: a YAML file: corpora, models, options of fit, prompts, options of
            probes. configs/study_quick.yaml takes minutes,
            configs/study_nanogpt_lab.yaml has the lab's own settings.
            --extra-probe FILE.py adds a section of your own
        corpora: other texts, as math=PATH,wikipedia=PATH,shakespeare=PATH or kjv,pydoc
        out: folder of the study; by default studies/NAME-HASH
        parallel: trainings at a time
    """
    if parallel < 1:
        raise UsageError(f"--parallel {parallel}: give 1 or more")
    inline = recipe.lstrip().startswith("{")
    wanted = read(load_yaml(recipe), "inline" if inline else recipe)
    if corpora:
        wanted = wanted.with_corpora(corpora)
    # a mistyped name is said now; trainings run the plugin files that brought a name
    sources = dict.fromkeys(models.entry(name).source for name in wanted.models)
    plugins = [source for source in sources if source.endswith(".py")]
    folder = Path(out or f"studies/{wanted.name}-{wanted.digest()}")
    from lmzoo.study import report  # torch: after a typing error had its answer
    from lmzoo.study.engine import conduct  # the same

    before = signal.signal(signal.SIGTERM, _interrupt)  # as Ctrl-C: fit saves first
    try:
        made = conduct(wanted, folder, _begin, _end, plugins=plugins, parallel=parallel)
    finally:
        signal.signal(signal.SIGTERM, before)
    _begin("writing the report")
    files, missing = report.write(made)
    _end("done")
    if missing:
        print(f"note: {missing}", file=sys.stderr)
    for name, why in made.refused.items():
        print(f"note: {name}: {why}", file=sys.stderr)
    kept = len(made.found) - len(made.done)
    print(f"{len(made.done)} steps done, {kept} kept, {made.seconds:.0f} s")
    for file in files:
        print(f"written    {file}")
    return 0


def _begin(what: str) -> None:
    print(f"{what:<{WIDE}}", end=" ", flush=True)


def _end(took: str) -> None:
    print(took, flush=True)


def _interrupt(number: int, frame: FrameType | None) -> None:
    del number, frame
    raise KeyboardInterrupt
