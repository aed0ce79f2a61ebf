"""A model by its name on the Hugging Face hub, fetched where it is not there yet.

Only data is fetched: configuration, tokenizer, safetensors. What a cache holds already
is not asked for again.
"""

import re
import sys
from pathlib import Path

from lmzoo.errors import UsageError, first_line

NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
KEPT = re.compile(r"(?:.*/)?models--([^/]+)/snapshots/([0-9a-f]{40})(?:/.*)?")
WANTED = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "model-*.safetensors",
)


def is_name(text: str) -> bool:
    """Whether ``text`` could be a model's name rather than a path."""
    return bool(NAME.fullmatch(text)) and not text.endswith((".gguf", ".ckpt"))


def fetch(name: str) -> Path:
    """The folder of the model called ``name``: the cache's, or fetched now.

    Raises:
        UsageError: the extra is missing, there is no such model, or no network.
    """
    try:
        from huggingface_hub import snapshot_download  # the hf extra
    except ImportError as error:
        raise UsageError(
            f"{name} is no folder here, and fetching it needs: pip install 'lmzoo[hf]'"
        ) from error
    wanted: list[str] = list(WANTED)
    try:
        kept = Path(
            snapshot_download(name, allow_patterns=wanted, local_files_only=True)
        )
        if _whole(kept):
            return kept
    except Exception:  # not there, or not whole; whatever it says, ask the network
        pass
    print(
        f"note: {name} is no folder here: fetching it from the Hugging Face hub, which "
        f"needs the network",
        file=sys.stderr,
    )
    try:
        return Path(snapshot_download(name, allow_patterns=wanted))
    except Exception as error:  # the library has many ways to say no
        raise UsageError(
            f"{name} is no folder here, and the Hugging Face hub did not give it "
            f"({first_line(error)[:160]}); give a folder, or a name while there is a "
            f"network"
        ) from error


def origin(path: str) -> dict[str, str] | None:
    """Name and revision (a commit's hash) of what was fetched; None: it was not."""
    found = KEPT.fullmatch(Path(path).as_posix())
    if found is None:
        return None
    return {"name": found[1].replace("--", "/"), "revision": found[2]}


def _whole(folder: Path) -> bool:
    """Whether an earlier fetch came to its end, as far as files can tell."""
    index = folder / "model.safetensors.index.json"
    weights = index if index.is_file() else folder / "model.safetensors"
    needed = (folder / "config.json", folder / "tokenizer.json", weights)
    if not all(file.is_file() for file in needed):
        return False
    if weights is not index:
        return True
    named = re.findall(r'"(model-[\w.-]+\.safetensors)"', index.read_text())
    return all((folder / name).is_file() for name in named)
