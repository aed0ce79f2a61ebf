"""``lmzoo app`` over HTTP: each limit, and beside it a request that is within it."""

import http.client
import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from lmzoo.errors import UsageError
from lmzoo.web import server
from tests.cli.runner import lmzoo
from tests.web.conftest import LIMITS, Served, environment

KNOBS = (0.8, 0, 1.0, 12, 42, "")  # temperature, top-k, top-p, length, seed, stop
LONG = "a" * (LIMITS["max_characters"] + 1)
JOIN = "/gradio_api/queue/join"


class Page:
    """Talks to the page as any program could."""

    def __init__(self, served: Served) -> None:
        self.where = urlsplit(served.address).netloc

    def send(
        self, path: str, body: bytes | None = None, **headers: str
    ) -> tuple[int, str]:
        """Status and text of one request."""
        to = http.client.HTTPConnection(self.where, timeout=30)
        given = {k.replace("_", "-"): v for k, v in headers.items()}
        method = "GET" if body is None else "POST"
        to.request(method, path, body, {"content-type": "application/json", **given})
        answer = to.getresponse()
        text = answer.read().decode()
        to.close()
        return answer.status, text

    def post(self, name: str, *data: object, **headers: str) -> tuple[int, str]:
        """Ask for an answer: status, and the number under which it will come."""
        body = json.dumps({"data": data}).encode()
        return self.send(f"/gradio_api/call/{name}", body, **headers)

    def events(self, name: str, posted: tuple[int, str]) -> str:
        """All that comes of it."""
        number = json.loads(posted[1])["event_id"]
        return self.send(f"/gradio_api/call/{name}/{number}")[1]

    def ask(self, name: str, *data: object) -> str:
        """The last state of an answer."""
        events = self.events(name, self.post(name, *data))
        assert "event: complete" in events, events
        return json.loads(events.rstrip().split("data: ")[-1])[0]


@pytest.fixture(scope="module")
def page(served: Served) -> Page:
    return Page(served)


LEGAL = {
    "generate": ("chars", "the ", *KNOBS),
    "score": (["chars", "bytes"], "the lazy dog"),
    "next_tokens": (["chars", "bytes"], "the laz", 5),
    "attribute": ("chars", "the laz", "", ["occlusion"]),
    "classify": (["tone"], "a joy to watch"),
    "training": ("chars",),
}


@pytest.mark.parametrize("name", list(LEGAL))
def test_a_legal_request_is_answered(name: str, page: Page) -> None:
    html = page.ask(name, *LEGAL[name])

    assert "problem" not in html
    assert "hint" not in html


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("generate", ("chars", LONG, *KNOBS), "201 characters; this page takes 200"),
        ("generate", ("chars", "a", 1, 0, 1, 40_001, 1, ""), "makes 40,000 at most"),
        ("generate", ("chars", "a", 1, 0, 1, 9, "x", ""), "must be a number"),
        ("generate", ("/etc/passwd", "a", *KNOBS), "no such run here"),
        ("generate", ("../chars", "a", *KNOBS), "no such run here"),
        ("generate", ("chars", "a", 1, 0, 1, 9, 1, LONG), "201 characters"),
        ("score", (["chars"], LONG), "201 characters"),
        ("score", (["/etc/passwd"], "a"), "no such runs here"),
        ("score", (["chars"], {"path": "/etc/passwd"}), "must be text"),
        ("next_tokens", (["chars"], LONG, 5), "201 characters"),
        ("attribute", ("chars", LONG, "", ["occlusion"]), "201 characters"),
        ("attribute", ("chars", "a", "", ["__class__"]), "no such methods here"),
        ("classify", (["tone"], LONG), "201 characters"),
        ("classify", (["/etc/passwd"], "a"), "no such classifiers here"),
        ("training", ("../../etc",), "no such run here"),
    ],
)
def test_what_is_refused(name: str, data: tuple, said: str, page: Page) -> None:
    html = page.ask(name, *data)

    assert said in html
    assert html.count("<p") == 1
    assert "Traceback" not in html


def test_hosts_and_origins(page: Page) -> None:
    asked = ("next_tokens", *LEGAL["next_tokens"])
    port = page.where.split(":")[1]

    assert page.post(*asked)[0] == 200
    assert page.post(*asked, origin=f"http://{page.where}")[0] == 200
    assert page.post(*asked, host=f"localhost:{port}")[0] == 200
    assert page.post(*asked, origin="http://evil.example")[0] == 403
    assert page.post(*asked, origin="null")[0] == 403
    assert page.post(*asked, host="evil.example")[0] == 403
    assert page.send("/", host="evil.example")[0] == 403
    assert page.send("/")[0] == 200


def test_a_large_request_and_an_upload(page: Page) -> None:
    bodies = [json.dumps({"data": ["a" * size]}).encode() for size in (10, 70_000)]
    part = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\na'
    form = {"content_type": "multipart/form-data; boundary=x"}

    assert page.send("/gradio_api/call/training", bodies[0])[0] == 200
    assert page.send("/gradio_api/call/training", bodies[1])[0] == 413
    assert page.send("/gradio_api/upload", part + b"\r\n--x--\r\n", **form)[0] == 404


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/file=/etc/passwd",
        "/gradio_api/proxy=http://127.0.0.1/",
        "/gradio_api/runs",
        "/monitoring",
        "/docs",
        "/gradio_api/mcp/sse",
    ],
)
def test_routes_that_are_not_there(path: str, page: Page) -> None:
    assert page.send(path)[0] == 404


def test_nothing_skips_the_queue(page: Page) -> None:
    body = json.dumps({"data": LEGAL["training"]}).encode()
    assert page.send("/gradio_api/run/training", body)[0] == 404
    assert page.send("/gradio_api/call/training", body)[0] == 200


def test_time_and_queue(page: Page) -> None:
    """A long text holds the place; two may wait; the next is refused."""
    long = ("chars", "the ", 0.8, 0, 1.0, LIMITS["max_new_tokens"], 42, "")
    posted = page.post("generate", *long)
    answer: list[str] = []
    started = threading.Event()
    number = json.loads(posted[1])["event_id"]

    def follow() -> None:
        to = http.client.HTTPConnection(page.where, timeout=30)
        to.request("GET", f"/gradio_api/call/generate/{number}")
        stream = to.getresponse()
        answer.append(stream.readline().decode())
        started.set()
        answer.append(stream.read().decode())
        to.close()

    reader = threading.Thread(target=follow)
    reader.start()
    assert started.wait(20)
    waiting = [page.post("training", "chars") for _ in range(LIMITS["max_waiting"])]
    refused = page.post("training", "chars")
    reader.join(30)

    assert answer[0] == "event: generating\n"
    assert "ended by: time limit of 2 s" in answer[1]
    assert [code for code, _ in waiting] == [200, 200]
    assert refused[0] == 503
    assert "full" in refused[1].lower()
    for one in waiting:
        assert "event: complete" in page.events("training", one)
    assert page.post("training", "chars")[0] == 200  # there is room again


def test_a_malformed_request_is_no_traceback_to_its_sender(page: Page) -> None:
    for path, body in (
        ("/gradio_api/call/nothing", b'{"data": []}'),
        ("/gradio_api/call/score", b"not json"),
        (JOIN, b"{}"),
    ):
        code, text = page.send(path, body)
        assert code >= 400
        assert "Traceback" not in text
        assert ".py" not in text
    too_few = page.events("score", page.post("score"))
    assert "event: error" in too_few
    assert "Traceback" not in too_few


# ---- what leaves the machine ---------------------------------------------------------


def test_the_page_reaches_nobody(page: Page, served: Served) -> None:
    """After all the above, and the page itself, with its fonts and scripts."""
    code, html = page.send("/")
    settings = json.loads(page.send("/config")[1])

    assert code == 200
    assert "fonts.googleapis" not in html
    for switch in ("analytics_enabled", "run_history", "mcp_server", "show_error"):
        assert settings[switch] is False, switch
    assert settings["root"] == served.address
    assert served.attempts == ""


def test_the_control_is_written_down(tmp_path: Path) -> None:
    line = "import socket; socket.create_connection(('192.0.2.1', 80))"
    done = subprocess.run(
        [sys.executable, "-c", line],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert "no network here" in done.stderr
    assert "192.0.2.1" in (tmp_path / "attempts").read_text()


# ---- the command ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("app", "runs"),
        ("app nowhere --port 0", "no such run folder"),
        ("app {chars} --max_characters 0", "--max_characters must be 1 or more"),
        ("app {chars} --max_seconds nan", "--max_seconds: expected a finite number"),
        ("app {chars} --host 203.0.113.1", "cannot listen on --host 203.0.113.1"),
        ("app {chars} --port 70000", "--port 70000: give 0"),
        ("app {chars} --device abacus --port 0", "--device abacus"),
        ("app {chars} {chars} --port 0", "given twice"),
    ],
)
def test_mistakes(line: str, said: str, runs, monkeypatch) -> None:
    monkeypatch.setattr(server, "require_extra", lambda: None)
    result = lmzoo(line.format(**runs))

    assert result.code == 2
    assert result.err.startswith("error: ")
    assert result.err.count("\n") == 1
    assert said in result.err


def test_without_the_extra_one_line_says_how_to_get_it(runs, monkeypatch) -> None:
    monkeypatch.setattr(server, "find_spec", lambda name: None)
    result = lmzoo(f"app {runs['chars']}")

    assert result.code == 2
    assert result.err == "error: lmzoo app needs Gradio: pip install 'lmzoo[app]'\n"


@pytest.mark.parametrize(("host", "local"), [("127.0.0.1", True), ("0.0.0.0", False)])
def test_only_a_foreign_address_is_warned_of(
    host: str, local: bool, runs, monkeypatch
) -> None:
    monkeypatch.setattr(server, "require_extra", lambda: None)
    monkeypatch.setattr(server, "application", lambda desk, host: None)
    monkeypatch.setattr(server, "serve", lambda app, listening: None)
    # bound, but nobody is let in: no test listens beyond this machine
    monkeypatch.setattr(socket.socket, "listen", lambda listening, *given: None)
    result = lmzoo(f"app {runs['chars']} --host {host} --port 0")

    assert result.code == 0
    assert ("warning: --host" in result.err) is not local


def test_a_taken_port_is_one_line() -> None:
    with server.listen("127.0.0.1", 0) as first:
        assert server.is_local(first)
        port = first.getsockname()[1]
        with pytest.raises(UsageError, match=f"--port {port}"):
            server.listen("127.0.0.1", port)


def test_the_environment_is_set_aside(monkeypatch) -> None:
    for name in server.QUIET:
        monkeypatch.setenv(name, "True")
    server.quiet()

    assert {os.environ[name] for name in server.QUIET} == {"False", "1"}
