"""Who is let through: hosts, origins, routes and bodies."""

import asyncio

import pytest

from lmzoo.web.guard import Guard, Rule

LOCAL = Rule("127.0.0.1", body=100)
OPEN = Rule("0.0.0.0", body=100)
NAMED = Rule("box.example", body=100)


def scope(path: str = "/", method: str = "GET", **headers: str) -> dict:
    headers = {"host": "localhost:7860", **headers}
    pairs = [
        (k.replace("_", "-").encode(), v.encode()) for k, v in headers.items() if v
    ]
    return {"type": "http", "method": method, "path": path, "headers": pairs}


def status(rule: Rule, **given: str) -> int:
    refused = rule.refusal(scope(**given))
    return refused[0] if refused else 200


@pytest.mark.parametrize(
    ("rule", "host", "expected"),
    [
        (LOCAL, "127.0.0.1:7860", 200),
        (LOCAL, "localhost", 200),
        (LOCAL, "LOCALHOST:9000", 200),
        (LOCAL, "[::1]:7860", 200),
        (LOCAL, "evil.example", 403),
        (LOCAL, "127.0.0.1.evil.example", 403),
        (LOCAL, "localhost@evil.example", 403),
        (LOCAL, "localhost:7860:1", 403),
        (LOCAL, "192.168.1.5:7860", 403),
        (LOCAL, "", 403),
        (OPEN, "192.168.1.5:7860", 200),
        (OPEN, "[fe80::1]:7860", 200),
        (OPEN, "evil.example", 403),
        (NAMED, "box.example:7860", 200),
        (NAMED, "evil.example", 403),
    ],
)
def test_hosts(rule: Rule, host: str, expected: int) -> None:
    assert status(rule, host=host) == expected


def test_two_hosts_are_none() -> None:
    given = scope()
    given["headers"] += [(b"host", b"localhost")]
    assert LOCAL.refusal(given) is not None


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        ("", 200),
        ("http://localhost:7860", 200),
        ("https://localhost:7860", 200),
        ("http://localhost:9000", 403),
        ("http://127.0.0.1:7860", 403),
        ("http://evil.example", 403),
        ("null", 403),
        ("http://localhost:7860.evil.example", 403),
    ],
)
def test_origins(origin: str, expected: int) -> None:
    asked = {"path": "/gradio_api/queue/join", "method": "POST"}
    assert status(LOCAL, **asked, origin=origin) == expected


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/", 200),
        ("GET", "/assets/index.js", 200),
        ("GET", "/gradio_api/queue/data", 200),
        ("POST", "/gradio_api/queue/join", 200),
        ("POST", "/gradio_api/call/score", 200),
        ("POST", "/gradio_api/upload", 404),
        ("POST", "/gradio_api/component_server", 404),
        ("POST", "/gradio_api/run/score", 404),
        ("POST", "/gradio_api/vibe-edit", 404),
        ("GET", "/gradio_api/file=/etc/passwd", 404),
        ("GET", "/gradio_api/proxy=http://evil.example", 404),
        ("GET", "/assets/../../etc/passwd", 404),
        ("GET", "/monitoring", 404),
        ("PUT", "/", 404),
        ("OPTIONS", "/gradio_api/queue/join", 404),
    ],
)
def test_routes(method: str, path: str, expected: int) -> None:
    assert status(LOCAL, method=method, path=path) == expected


# ---- as an application ---------------------------------------------------------------


async def echo(given, receive, send) -> None:
    """Answers with the body that it was sent, twice asked for."""
    message = await receive()
    after = await receive()
    assert after["type"] == "http.disconnect"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": message["body"]})


async def broken(given, receive, send) -> None:
    raise ValueError("a secret\nof many lines")


def asked(app, parts: list[bytes], **given: str) -> tuple[int, bytes, dict]:
    """Status, body and headers of the answer to a body in pieces."""
    incoming = [
        {"type": "http.request", "body": part, "more_body": i + 1 < len(parts)}
        for i, part in enumerate(parts)
    ]
    sent: list[dict] = []

    async def receive() -> dict:
        return incoming.pop(0) if incoming else {"type": "http.disconnect"}

    async def send(message: dict) -> None:
        sent.append(message)

    path = {"path": "/gradio_api/queue/join", "method": "POST"}
    asyncio.run(Guard(app, LOCAL)(scope(**{**path, **given}), receive, send))
    if not sent:
        return 0, b"", {}
    return sent[0]["status"], sent[1]["body"], dict(sent[0]["headers"])


def test_a_body_arrives_whole_and_answers_are_marked() -> None:
    code, body, headers = asked(echo, [b"a" * 60, b"b" * 40])

    assert (code, body) == (200, b"a" * 60 + b"b" * 40)
    assert b"default-src 'self'" in headers[b"content-security-policy"]
    assert headers[b"x-content-type-options"] == b"nosniff"


@pytest.mark.parametrize("length", ["101", "", "-1", "1e9"])
def test_a_large_body_never_arrives(length: str) -> None:
    code, body, _ = asked(broken, [b"a" * 60, b"b" * 41], content_length=length)

    assert code == 413
    assert b"100 bytes at most" in body


def test_a_refusal_never_reaches_the_application() -> None:
    assert asked(broken, [b""], host="evil.example")[0] == 403
    assert asked(broken, [b""])[0] == 0  # the control: it would have failed


def test_a_failure_is_one_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    asked(broken, [b""])

    (record,) = caplog.records
    assert record.getMessage() == "POST /gradio_api/queue/join: a secret"
    assert record.exc_info is None
