"""``lmzoo fit | validate | test``: read what was typed, then start the machinery."""

from lmzoo.cli import arguments
from lmzoo.cli.help import print_help


def run(command: str, argv: list[str]) -> int:
    """Run fit, validate or test; returns the exit code."""
    if "--help" in argv or "-h" in argv:
        print_help(command)
        return 0
    request = arguments.read(command, [word for word in argv if word != "--help-all"])
    if "--help-all" in argv:
        request.options.append("--help")
    if request.help is not None:
        from lmzoo.cli.classes import page  # a class, and with it torch

        print(page(*request.help))
        return 0
    from lmzoo.cli.trainer import train  # torch: after a typing error had its answer

    train(request)
    return 0
