"""Models that few-shot training made of a run: found by what their manifests say."""

from pathlib import Path

from lmzoo import runs


def adapted_runs(folder: Path, run: Path) -> dict[str, Path]:
    """SHA-256 of each target text -> the run that was adapted to it.

    Of several starts and seeds the latest start and the first seed. The run is known by
    its name, which is its own within a study.
    """
    found: dict[str, tuple[int, int, Path]] = {}
    for file in sorted(folder.glob("*/manifest.json")):
        manifest = runs.read_manifest(file.parent)
        told = manifest.get("adapted") or {}
        if Path(told.get("from", "")).name != run.name:  # the study may have moved
            continue
        text = (manifest.get("data") or {}).get("sha256", "")
        rank = (-int(told["step"] or 0), int(told["seed"]), file.parent)
        found[text] = min(found.get(text, rank), rank)
    return {text: path for text, (_, _, path) in found.items()}
