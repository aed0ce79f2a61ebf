"""``lmzoo app``: runs to be tried by hand, on a page of one's own machine."""

import contextlib
import sys

from lmzoo.cli import given
from lmzoo.cli.command import call
from lmzoo.errors import UsageError
from lmzoo.web.limits import Limits

EXPOSED = (
    "warning: --host {host} lets every machine that reaches this one use the page, "
    "with no password and no encryption; end it when you are done"
)


def run(argv: list[str]) -> int:
    """Open the page; returns the exit code once it is closed."""
    return call("app", app, argv)


def app(
    runs: list[str],
    *,
    host: str = "127.0.0.1",
    port: int = 7860,
    max_characters: int = Limits.characters,
    max_new_tokens: int = Limits.new_tokens,
    max_seconds: float = Limits.seconds,
    max_waiting: int = Limits.waiting,
    device: str = "auto",
) -> int:
    """Open a local page to try runs: generate, score, attribute, classify.

    Args:
        runs: run folders, checkpoint files, or folders of exported models; the page
            offers these and no others
        host: address to listen on; any but this machine's own lets others in
        port: of the page; 0 takes any that is free
        max_characters: of a text that is given to the page
        max_new_tokens: of a text that it makes
        max_seconds: that one request may work
        max_waiting: requests that wait for their turn; more are refused
        device: auto (a GPU if there is one), cpu, cuda, cuda:N or mps
    """
    # torch and the page's library are for the work, and not for the help
    from lmzoo.web import server

    # as above
    from lmzoo.web.handlers import Desk

    # as above
    from lmzoo.web.shelf import Shelf

    limits = _limits(max_characters, max_new_tokens, max_seconds, max_waiting)
    server.require_extra()
    with server.listen(host, port) as listening:
        page = server.application(Desk(Shelf(runs, given.device(device)), limits), host)
        if not server.is_local(listening):
            print(EXPOSED.format(host=host), file=sys.stderr)
        print(f"page       {server.address(listening, host)}  (Ctrl-C ends it)")
        sys.stdout.flush()
        with contextlib.suppress(KeyboardInterrupt):
            server.serve(page, listening)
    return 0


def _limits(characters: int, tokens: int, seconds: float, waiting: int) -> Limits:
    """The limits, each at least 1.

    Raises:
        UsageError: one is not.
    """
    given = {
        "max_characters": characters,
        "max_new_tokens": tokens,
        "max_seconds": seconds,
        "max_waiting": waiting,
    }
    for name, value in given.items():
        if not value >= 1:
            raise UsageError(f"--{name} must be 1 or more, given {value}")
    # a character of JSON takes 12 bytes at most
    body = max(Limits.body, 12 * characters + (Limits.body >> 2))
    return Limits(
        characters=characters,
        new_tokens=tokens,
        seconds=seconds,
        waiting=waiting,
        body=body,
    )
