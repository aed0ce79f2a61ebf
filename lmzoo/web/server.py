"""Listening: a socket, and the page behind its guard; nothing leaves the machine."""

import ipaddress
import os
import socket
from importlib.util import find_spec
from typing import Any

from lmzoo.errors import UsageError
from lmzoo.web.guard import Guard, Rule
from lmzoo.web.handlers import Desk

CONNECTIONS = 64  # at once, open streams among them
# said before Gradio is imported: some of it reads its environment then
QUIET = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "GRADIO_SHARE": "False",
    "GRADIO_MCP_SERVER": "False",
    "GRADIO_SSR_MODE": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
}


def require_extra() -> None:
    """Say how to get Gradio where it is not installed.

    Raises:
        UsageError: it is not.
    """
    if find_spec("gradio") is None:
        raise UsageError("lmzoo app needs Gradio: pip install 'lmzoo[app]'")


def listen(host: str, port: int) -> socket.socket:
    """A socket that takes connections on ``host``; port 0 is any free one.

    Raises:
        UsageError: no such address here, or a port that is taken.
    """
    if not 0 <= port < 1 << 16:
        raise UsageError(f"--port {port}: give 0 (any that is free) to 65,535")
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise UsageError(
            f"cannot listen on --host {host} --port {port}: "
            f"{error.strerror or error}; --port 0 takes any free port"
        ) from error


def is_local(listening: socket.socket) -> bool:
    """Whether only this machine reaches it."""
    return ipaddress.ip_address(listening.getsockname()[0]).is_loopback


def address(listening: socket.socket, host: str) -> str:
    """Where a browser finds it."""
    name = f"[{host}]" if ":" in host else host
    return f"http://{name}:{listening.getsockname()[1]}"


def quiet() -> None:
    """Set aside what the environment says of sharing, telemetry and hubs."""
    os.environ.update(QUIET)


def application(desk: Desk, host: str) -> Guard:
    """The page as an ASGI application, behind its guard."""
    quiet()
    # optional: the app extra
    from lmzoo.web.page import mounted

    return Guard(mounted(desk), Rule(host, desk.limits.body))


def serve(app: Any, listening: socket.socket) -> None:
    """Answer until interrupted."""
    # optional: comes with Gradio
    import uvicorn

    settings = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=CONNECTIONS,
        timeout_graceful_shutdown=1,
        ws="none",
    )
    uvicorn.Server(settings).run(sockets=[listening])
