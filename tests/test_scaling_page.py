"""docs/scaling.md shows what its command computes, and the sums are sums."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def scaling() -> ModuleType:
    path = ROOT / "benchmarks" / "scaling.py"
    spec = importlib.util.spec_from_file_location("scaling_benchmark", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_holds_the_table_of_its_command(scaling: ModuleType) -> None:
    page = (ROOT / "docs" / "scaling.md").read_text()
    table = scaling.projected(scaling.options().parse_args([]))
    other = scaling.projected(scaling.options().parse_args(["--utilisation", "0.5"]))

    assert table in page
    assert other not in page  # the control


def started(page: str) -> list[tuple[int, int]]:
    """Processes, and windows of a batch, of each command for several machines."""
    found = []
    for block in page.replace("\\\n", " ").split("\n\n"):
        command = block.replace("#SBATCH --nodes", "--trainer.num_nodes")
        given = dict(re.findall(r"--([a-z_.]+) (\d+)", command))
        if "trainer.num_nodes" in given:
            processes = int(given["trainer.num_nodes"]) * int(given["trainer.devices"])
            found.append((processes, int(given["data.batch_size"])))
    return found


def test_the_batches_of_the_commands_divide_among_their_processes() -> None:
    commands = started((ROOT / "docs" / "scaling.md").read_text())

    assert len(commands) == 2
    assert all(batch % processes == 0 for processes, batch in commands)


def test_blocks_run_again_and_the_head_does_not(scaling: ModuleType) -> None:
    gpt2, palm = scaling.jobs(scaling.options().parse_args([]))
    head = 6 * 256_000 * 4096

    assert gpt2.again_per_token == 0
    forward = (palm.flops_per_token - head) / 3  # of three passes, at most one again
    assert forward / 2 < palm.again_per_token <= forward
    computed, _ = scaling.seconds(palm, 1, scaling.options().parse_args([]))
    per_token = palm.flops_per_token + palm.again_per_token
    assert computed == pytest.approx(8192 * per_token / (0.4 * 989e12))


def test_memory_is_summed_with_logits_and_what_is_gathered(scaling: ModuleType) -> None:
    gpt2, palm = scaling.jobs(scaling.options().parse_args([]))
    held = scaling.memory(palm, 8)
    parts = [sizes for name, sizes in held.items() if name != "sum"]

    for side in (0, 1):
        assert held["sum"][side] == sum(part[side] for part in parts)
    assert held["state"][0] == pytest.approx(17.3e9, rel=1e-2)
    assert held["whole"][0] > 8 * palm.outside
    assert held["logits"] == (8192 * 256_000 * 14, 8192 * 256_000 * 18)
    assert 60e9 < held["sum"][0] < held["sum"][1] < 80e9
    alone = scaling.memory(gpt2, 1)
    assert alone["whole"] == (0, 0)
    assert alone["activations"][0] == 12 * 32_768 * 768 * 34
