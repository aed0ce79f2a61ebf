"""Who may ask: requests of other sites, large bodies and unused routes are refused.

A page on a loopback address is reached by every site that its user visits: a site may
post to it, or give its own name the address 127.0.0.1 (DNS rebinding). Both show in the
``Origin`` and ``Host`` headers, which a site cannot choose. This is plain ASGI, for any
application.
"""

import ipaddress
import logging
import re
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass
from typing import Any

from lmzoo.errors import first_line

log = logging.getLogger("lmzoo.web")

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]
Headers = Iterable[tuple[bytes, bytes]]

LOOPBACK = frozenset({"127.0.0.1", "localhost", "[::1]"})
EVERYWHERE = frozenset({"0.0.0.0", "::"})
HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9_.-]+)(?::[0-9]{1,5})?")
# what the page itself asks for; files, uploads, proxies and server functions are not
# among it
READ = re.compile(
    r"/|/config|/theme\.css|/favicon\.ico|/manifest\.json|/pwa_icon(/.*)?"
    r"|/(assets|static|svelte|gradio_api/static)/.*"
    r"|/gradio_api/(info|app_id|startup-events|queue/data|queue/status)"
    r"|/gradio_api/(heartbeat|call)/.*"
)
WRITTEN = re.compile(r"/gradio_api/(queue/join|cancel|reset|call/.*)")
# the browser itself is told to fetch nothing from elsewhere; Gradio's components need
# inline styles, and scripts that are made on the page
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:; "
    "connect-src 'self'; object-src 'none'; base-uri 'self'; form-action 'self'; "
    "frame-ancestors 'none'"
)
SENT = (
    (b"content-security-policy", POLICY.encode()),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
)


@dataclass(frozen=True)
class Rule:
    """What is let through.

    Attributes:
        host: the address or name that is listened on.
        body: bytes of a request at most.
    """

    host: str
    body: int

    def refusal(self, scope: Message) -> tuple[int, str] | None:
        """Status and reason if a request is refused by its headers; else None."""
        hosts = _all(scope["headers"], b"host")
        origins = _all(scope["headers"], b"origin")
        if len(hosts) != 1 or not self._known(hosts[0]):
            return 403, "this page answers under its own address only"
        if any(o not in (f"http://{hosts[0]}", f"https://{hosts[0]}") for o in origins):
            return 403, "this page answers to itself only"
        method, path = scope["method"], scope["path"]
        asked = {"GET": READ, "HEAD": READ, "POST": WRITTEN}.get(method)
        if asked is None or not asked.fullmatch(path) or ".." in path:
            return 404, "there is nothing here"
        length = _all(scope["headers"], b"content-length")
        if any(not n.isdecimal() or int(n) > self.body for n in length):
            return self.too_large
        return None

    @property
    def too_large(self) -> tuple[int, str]:
        """What is said to a large request."""
        return 413, f"a request has {self.body:,} bytes at most"

    def _known(self, host: str) -> bool:
        """Whether a Host header names this server.

        A server that listens on every address cannot know them all; an address, unlike
        a name, cannot be rebound, so there every address will do.
        """
        matched = HOST.fullmatch(host)
        if not matched:
            return False
        name = matched[1]
        if name in LOOPBACK or name.strip("[]") == self.host.lower():
            return True
        return self.host in EVERYWHERE and _is_address(name.strip("[]"))


class Guard:
    """An ASGI application in front of another.

    Args:
        app: behind it.
        rule: what is let through.
    """

    def __init__(self, app: App, rule: Rule) -> None:
        self.app, self.rule = app, rule

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer a refused request here, and hand on any other with its whole body."""
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        if scope["type"] != "http":  # the page uses no web socket
            return await send({"type": "websocket.close", "code": 1008})
        refused = self.rule.refusal(scope)
        if refused is None:
            body = await self._body(receive)
            if body is not None:
                return await self._answer(scope, _again(body, receive), _marked(send))
            refused = self.rule.too_large
        return await _refuse(*refused, _marked(send))

    async def _answer(self, scope: Message, receive: Receive, send: Send) -> None:
        """What the application answers; what it raises is a line in the log."""
        try:
            await self.app(scope, receive, send)
        except Exception as error:  # it has answered 500 before, or broken off
            log.error("%s %s: %s", scope["method"], scope["path"], first_line(error))

    async def _body(self, receive: Receive) -> bytes | None:
        """All of a request's body; None once it is larger than allowed."""
        body, more = b"", True
        while more and len(body) <= self.rule.body:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        return body if len(body) <= self.rule.body else None


def _again(body: bytes, receive: Receive) -> Receive:
    """A body that was read, as one message; then what else is received."""
    held: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def read() -> Message:
        return held.pop() if held else await receive()

    return read


def _marked(send: Send) -> Send:
    """Responses with the headers of ``SENT``."""

    async def write(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", []), *SENT]
        await send(message)

    return write


async def _refuse(status: int, reason: str, send: Send) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": reason.encode() + b"\n"})


def _all(headers: Headers, name: bytes) -> list[str]:
    """Every value that a header was given, in lower case."""
    return [v.decode("latin-1").strip().lower() for k, v in headers if k == name]


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
