"""Does anybody know of a hole in a release that constraints.txt pins?

python benchmarks/audit.py --out benchmarks/results/audit.md

pip-audit (the extra bench) asks a service by the network; nothing is installed. It
ends with 0 where every package was looked up and none is known to be vulnerable, with 1
where one is, or was not found there, and with 3 and no report where the service did not
answer: pip-audit itself finds nothing wrong when every package was skipped.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

PINS = Path(__file__).parent.parent / "constraints.txt"
SERVICES = ("pypi", "osv")
FOUND, MISSING, UNREACHED = 1, 2, 3


def ask(service: str) -> list[dict[str, Any]] | str:
    """What the service says of each package, or why it says nothing."""
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        line = ["-r", str(PINS), "--no-deps", "--disable-pip", "-s", service]
        line += ["-f", "json", "-o", str(answer), "--progress-spinner", "off"]
        done = subprocess.run(
            [sys.executable, "-m", "pip_audit", *line],
            capture_output=True,
            text=True,
            check=False,
        )
        if not answer.exists() or not answer.read_text(encoding="utf-8"):
            return (done.stderr.strip().splitlines() or ["no answer"])[-1][:200]
        found = json.loads(answer.read_text(encoding="utf-8"))["dependencies"]
    if all("skip_reason" in one for one in found):
        return f"none of the {len(found)} packages was found there"
    return found


def page(service: str, found: list[dict[str, Any]]) -> str:
    """The result as Markdown."""
    skipped = [one for one in found if "skip_reason" in one]
    rows = [
        f"| {one['name']} {one['version']} | {hole['id']} | "
        f"{', '.join(hole['aliases'])} | {', '.join(hole['fix_versions']) or 'none'} |"
        for one in found
        for hole in one.get("vulns", [])
    ]
    table = ["| package | known as | also | mended in |", "|---|---|---|---|", *rows]
    return f"""# Known vulnerabilities in the pinned releases

{time.strftime("%Y-%m-%d")}: {len(found) - len(skipped)} of the {len(found)} packages in
constraints.txt looked up at {service}; known vulnerabilities: {len(rows)}.

    python benchmarks/audit.py --service {service} --out benchmarks/results/audit.md

{chr(10).join(table) if rows else "None is known to be vulnerable."}

Not found there: {", ".join(one["name"] for one in skipped) or "none"}.
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--service", choices=SERVICES, default="pypi")
    parser.add_argument("--out", type=Path, help="where to write the page")
    options = parser.parse_args()
    line = [sys.executable, "-c", "import pip_audit"]
    if subprocess.run(line, capture_output=True, check=False).returncode:
        print("pip-audit is not installed: pip install lmzoo[bench]", file=sys.stderr)
        return MISSING
    found = ask(options.service)
    if isinstance(found, str):
        print(f"{options.service} cannot be asked from here: {found}", file=sys.stderr)
        return UNREACHED
    shown = page(options.service, found)
    print(shown)
    if options.out:
        options.out.write_text(shown, encoding="utf-8")
    return FOUND if any(one.get("vulns", one) for one in found) else 0


if __name__ == "__main__":
    sys.exit(main())
