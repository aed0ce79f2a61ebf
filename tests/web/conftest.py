"""Three small runs, and the page over them as its own process that may reach nobody."""

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import lmzoo as package
from tests.cli.runner import fit, lmzoo

# what a process imports before anything else: every call that would leave the machine
# is written down and fails
BLOCKED = """
import os, socket

LOCAL = ("127.0.0.1", "::1", "localhost", "0.0.0.0", "", None)

def guarded(name, real, host_of):
    def call(*given, **options):
        host = host_of(given)
        if host not in LOCAL:
            with open(os.environ["ATTEMPTS"], "a") as file:
                print(name, host, file=file)
            raise OSError("no network here")
        return real(*given, **options)
    return call

def host_of(given):
    return given[-1][0] if isinstance(given[-1], tuple) else None

for name in ("connect", "connect_ex", "sendto"):
    real = getattr(socket.socket, name)
    setattr(socket.socket, name, guarded(name, real, host_of))
socket.getaddrinfo = guarded("look-up", socket.getaddrinfo, lambda given: given[0])
"""
HOSTILE = {  # what an environment may say
    "GRADIO_ANALYTICS_ENABLED": "True",
    "GRADIO_SHARE": "True",
    "GRADIO_SERVER_NAME": "0.0.0.0",
    "GRADIO_ALLOWED_PATHS": "/",
    "GRADIO_MCP_SERVER": "True",
    "GRADIO_RUN_HISTORY": "True",
    "GRADIO_ROOT_PATH": "https://elsewhere.example",
    "FORWARDED_ALLOW_IPS": "*",
}
LIMITS = {
    "max_characters": 200,
    "max_new_tokens": 40_000,
    "max_seconds": 2,
    "max_waiting": 2,
}


@dataclass
class Served:
    """A page that is being served."""

    address: str
    folder: Path

    @property
    def attempts(self) -> str:
        """What it tried to reach."""
        file = self.folder / "attempts"
        return file.read_text() if file.exists() else ""

    @property
    def said(self) -> str:
        """What stands in its terminal."""
        return (self.folder / "log").read_text()


def environment(folder: Path) -> dict[str, str]:
    """Of a process whose sockets are blocked."""
    (folder / "sitecustomize.py").write_text(BLOCKED)
    paths = [str(folder), str(Path(package.__file__).parents[1])]
    paths += [path for path in os.environ.get("PYTHONPATH", "").split(":") if path]
    own = {"PYTHONPATH": ":".join(paths), "ATTEMPTS": str(folder / "attempts")}
    return {**os.environ, **HOSTILE, **own, "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A gpt on characters, one on bytes, and a classifier of tones."""
    folder = tmp_path_factory.mktemp("web")
    story = folder / "story.txt"
    story.write_text("the quick brown fox jumps over the lazy dog\n" * 80)
    patch = pytest.MonkeyPatch()
    patch.setenv("LMZOO_CACHE", str(folder / "cache"))
    data = f"--data.path {story} --trainer.default_root_dir"
    fit(f"--trainer.max_steps 40 {data} {folder / 'chars'}")
    fit(f"--trainer.max_steps 2 --data.tokenizer byte {data} {folder / 'bytes'}")
    tones = [f"a joy to watch {n}\tgood\na bore to sit {n}\tbad\n" for n in range(20)]
    (folder / "tone.tsv").write_text("text\tlabel\n" + "".join(tones))
    made = lmzoo(
        f"fit --model classifier --data.path {folder / 'tone.tsv'} "
        f"--trainer.max_steps 60 --trainer.default_root_dir {folder / 'tone'}"
    )
    assert made.code == 0, made.err
    patch.undo()
    return {name: str(folder / name) for name in ("chars", "bytes", "tone")}


@pytest.fixture(scope="session")
def served(
    runs: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """``lmzoo app`` over all, in an environment that says otherwise in every way."""
    if importlib.util.find_spec("gradio") is None:
        pytest.skip("needs gradio: pip install 'lmzoo[app]'")
    folder = tmp_path_factory.mktemp("served")
    options = ["--port", "0"]
    options += [word for k, v in LIMITS.items() for word in (f"--{k}", str(v))]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "lmzoo", "app", *runs.values(), *options],
            env=environment(folder),
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+", line)
        try:
            assert found, (folder / "log").read_text()
            yield Served(found[0], folder)
        finally:
            process.terminate()
            process.communicate(timeout=20)
