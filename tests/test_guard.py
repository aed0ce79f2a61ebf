"""The guard itself: what leaves the machine is refused and noted, what stays is not."""

import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests import guard

FAR = "192.0.2.1"  # set aside for documentation: nobody has it (RFC 5737)


def reach(host: str) -> None:
    with socket.socket() as one:
        one.settimeout(0.2)
        one.connect((host, 9))


def send(host: str) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as one:
        one.sendto(b"", (host, 53))


def send_parts(host: str) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as one:
        one.sendmsg([b""], [], 0, (host, 53))


def ask(host: str) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as one:
        one.connect((host, 9))


def listen(host: str) -> None:
    with socket.socket() as one:
        one.bind((host, 0))
        one.listen()


@pytest.mark.parametrize(
    "leave",
    [
        lambda: reach(FAR),
        lambda: socket.create_connection((FAR, 80), 0.2),
        lambda: socket.getaddrinfo("example.org", 80),
        lambda: socket.gethostbyname("example.org"),
        lambda: urllib.request.urlopen(f"http://{FAR}/", timeout=0.2),
        lambda: send(FAR),
        lambda: send_parts(FAR),
        lambda: ask(FAR),
        lambda: listen(""),
        lambda: listen("0.0.0.0"),
    ],
)
def test_the_control_what_leaves_is_refused_and_noted(leave, attempts: Path) -> None:
    before = attempts.read_text()
    with pytest.raises((guard.Outward, urllib.error.URLError)):
        leave()
    assert attempts.read_text() != before
    attempts.write_text(before)  # else this very test would fail, as any other


def test_a_process_of_a_test_is_guarded_too(attempts: Path) -> None:
    before = attempts.read_text()
    done = subprocess.run(
        [sys.executable, "-c", f"import socket; socket.socket().connect(('{FAR}', 9))"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "a test tried to reach" in done.stderr
    assert FAR in attempts.read_text()
    attempts.write_text(before)


def test_this_machine_is_reached() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        with socket.create_connection(server.getsockname(), 5) as client:
            assert client.getpeername() == server.getsockname()
    assert guard.is_local("localhost")
    assert guard.is_local("::1") or not socket.has_ipv6
    assert not guard.is_local("127.example.org")


def test_asking_for_the_way_is_refused_and_not_noted(attempts: Path) -> None:
    before = attempts.read_text()
    with pytest.raises(guard.Outward, match="no network here"):
        ask(guard.OWN[0])
    assert attempts.read_text() == before


@pytest.mark.parametrize(("host", "outcomes"), [(FAR, "1 error"), ("127.0.0.1", "")])
def test_a_test_that_hides_its_attempt_fails(
    host: str, outcomes: str, tmp_path: Path
) -> None:
    """Which is so of every test only as long as the guard runs for each."""
    hiding = tmp_path / "test_hiding.py"
    hiding.write_text(
        "import contextlib, socket\n"
        "def test_hides():\n"
        "    with contextlib.suppress(OSError):\n"
        f"        socket.create_connection(({host!r}, 9), 0.2)\n",
        encoding="utf-8",
    )
    options = ["-q", "-p", "tests.conftest", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(hiding)],
        cwd=Path(guard.__file__).parent.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert f"1 passed{outcomes and ', ' + outcomes}" in done.stdout
    assert (f"tried to reach: connect {host}" in done.stdout) == (host == FAR)
