"""The ``lmzoo`` command: a dispatcher that imports nothing heavy.

Each command is one file of this room with a function ``run(argv) -> exit code``.
"""

import difflib
import errno
import importlib
import io
import os
import sys

from lmzoo import __version__
from lmzoo.errors import UsageError

COMMANDS = {
    "fit": ("lmzoo.cli.train", "train a model on a text"),
    "validate": ("lmzoo.cli.train", "measure a run on the validation part of a text"),
    "test": ("lmzoo.cli.train", "measure a run on the test part of a text"),
    "finetune": ("lmzoo.cli.finetune", "two models from one start, in one report"),
    "split": ("lmzoo.cli.split", "cut a text into two by a criterion"),
    "compare": ("lmzoo.cli.compare", "train several models alike, in one table"),
    "generate": ("lmzoo.cli.generate", "continue a text with a run"),
    "params": ("lmzoo.cli.params", "count a model's parameters, draw it"),
    "score": ("lmzoo.cli.score", "what each token of a text costs each model"),
    "predict": ("lmzoo.cli.predict", "label texts with a classifier"),
    "inspect": ("lmzoo.cli.inspect", "look inside a run with one of the probes"),
    "transfer": ("lmzoo.cli.transfer", "models on each other's corpora"),
    "eval": ("lmzoo.cli.evaluate", "ask a run the questions of a task"),
    "bench": ("lmzoo.cli.bench", "time models against the length of a sequence"),
    "study": ("lmzoo.cli.study", "train, look inside, and write the report"),
    "models": ("lmzoo.cli.models", "list the zoo"),
    "app": ("lmzoo.cli.app", "a local page to try runs by hand"),
    "export": ("lmzoo.cli.export", "write a run as safetensors, hf or onnx"),
    "check": ("lmzoo.cli.check", "prove that a model keeps the contract"),
    "selftest": ("lmzoo.cli.selftest", "try on this machine what lmzoo promises"),
    "new": ("lmzoo.cli.new", "write a new model as an installable package"),
}


UNUSABLE = (  # what a path may be that is no fault of the program
    *(errno.ENAMETOOLONG, errno.EACCES, errno.EPERM, errno.ELOOP),
    *(errno.EISDIR, errno.ENOTDIR),
)
RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")


def main(argv: list[str] | None = None) -> int:
    """Run one command; 0 is success, 2 a mistake that one line on stderr explains."""
    argv = sys.argv[1:] if argv is None else argv
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # one without é shows \xe9
            stream.reconfigure(errors="backslashreplace")
    try:
        return _dispatch(argv)
    except UsageError as error:
        print(f"error: {_one_line(error)}", file=sys.stderr)
        return 2
    except SystemExit as ended:  # a parser that has printed help or a configuration
        return ended.code if isinstance(ended.code, int) else 0
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of a pipe went away: nothing more to say
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # a path that nobody could use
        if error.errno not in UNUSABLE or error.filename is None:
            raise
        print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)
        return 2


def _dispatch(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(_help())
        return 0
    if argv[0] in ("-V", "--version"):
        print(f"lmzoo {__version__}")
        return 0
    command = argv[0]
    if command not in COMMANDS:
        near = difflib.get_close_matches(command, COMMANDS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ";"
        raise UsageError(
            f"unknown command {command!r}{hint} commands: {', '.join(COMMANDS)}"
        )
    for name in RANKS:  # Lightning reads them as it is imported
        if not os.environ.get(name, "0").strip().isdecimal():
            raise UsageError(
                f"the environment says {name}={os.environ[name]}, and a launcher "
                f"gives a whole number: unset {name}"
            )
    # only the chosen command is imported: fit needs torch, models does not
    module = importlib.import_module(COMMANDS[command][0])
    if COMMANDS[command][0] == "lmzoo.cli.train":
        return module.run(command, argv[1:])
    return module.run(argv[1:])


def _help() -> str:
    lines = [
        "lmzoo: train small language models, compare them, see what they learned",
        "",
        "usage: lmzoo COMMAND [options]      lmzoo COMMAND --help",
        "",
    ]
    lines += [f"  {name:<10} {summary}" for name, (_, summary) in COMMANDS.items()]
    return "\n".join([*lines, "", "start with:  lmzoo fit --model gpt"])


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
