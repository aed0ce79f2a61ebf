"""What only a CUDA device can show; where there is none, every test is skipped."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from lmzoo.cli.settings import default_precision
from lmzoo.models.gpt import GPT
from lmzoo.runs import load
from tests.cli.runner import fit

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="needs a CUDA device, and there is none"
)
DEVICE = "cuda"
GAP = 0.01  # nats that bfloat16 may cost
SIZE = "--model.d_model 64 --model.num_heads 2 --model.context_length 64"


def trained(story: Path, folder: Path, line: str = "", steps: int = 200) -> dict:
    """The summary of a short run on the GPU."""
    fit(
        f"{SIZE} --data.path {story} --data.batch_size 16 --seed_everything 3 "
        f"--trainer.accelerator gpu --trainer.devices 1 --trainer.max_steps {steps} "
        f"--trainer.val_check_interval {steps} --early_stopping.enabled false "
        f"--trainer.default_root_dir {folder} {line}"
    )
    return json.loads((folder / "summary.json").read_text())


def network(dropout: float = 0.1) -> GPT:
    torch.manual_seed(0)
    return GPT(65, 64, d_model=64, num_heads=2, num_layers=2, dropout=dropout).to(
        DEVICE
    )


def test_bfloat16_costs_at_most_a_hundredth_of_a_nat(
    story: Path, tmp_path: Path
) -> None:
    nats = {
        kind: trained(story, tmp_path / kind, f"--trainer.precision {kind}")
        for kind in ("32-true", "bf16-mixed")
    }
    full, half = (found["last"]["metrics"]["nll"] for found in nats.values())
    assert abs(half - full) <= GAP
    assert half != full  # the control: they were two computations
    assert full < 2  # and both had learned: ln 28 is 3.3


def test_the_default_is_bfloat16_and_a_fused_optimizer() -> None:
    native = torch.cuda.is_bf16_supported(including_emulation=False)
    assert default_precision("gpu") == ("bf16-mixed" if native else "16-mixed")
    optimizer = network().configure_optimizers()
    assert optimizer.defaults["fused"] is True


@pytest.mark.filterwarnings("ignore::UserWarning")  # why a kernel was not used
def test_attention_runs_in_the_flash_kernel() -> None:
    model = network().train()
    tokens = torch.randint(65, (4, 64), device=DEVICE)
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):  # any other is an error
        with torch.autocast("cuda", torch.bfloat16):
            logits = model(tokens)
        model.loss(logits, tokens).backward()
        with pytest.raises(RuntimeError):  # the control: it has no float32
            model(tokens)


def test_a_checkpoint_from_the_gpu_is_read_on_the_cpu(
    story: Path, tmp_path: Path
) -> None:
    summary = trained(story, tmp_path / "run", "--trainer.precision 32-true", 40)
    run = load(tmp_path / "run")
    assert {p.device.type for p in run.model.parameters()} == {"cpu"}
    states = run.checkpoint["optimizer_states"][0]["state"].values()
    kept = [v for state in states for v in state.values() if torch.is_tensor(v)]
    assert kept
    assert {value.device.type for value in kept} == {"cpu"}
    score = run.score(story.read_text()[-2000:])
    assert score.nats / score.tokens < 1.2 * summary["best"]["metrics"]["nll"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the compiler's own
@pytest.mark.parametrize("model", ["gpt", "palm"])
def test_a_compiled_model_trains(story: Path, tmp_path: Path, model: str) -> None:
    line = f"--model {model} --compile true --trainer.precision bf16-mixed"
    if model == "palm":
        line += " --optimizer muon"
    summary = trained(story, tmp_path / model, line)
    assert summary["last"]["metrics"]["nll"] < 2


def test_a_step_does_not_wait_for_the_gpu() -> None:
    model = network().train()
    optimizer = model.configure_optimizers()
    tokens = torch.randint(65, (4, 64), device=DEVICE)
    model._trainer = Rows()  # type: ignore[assignment]
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")  # waiting is an error from here on
    try:
        for _ in range(3):
            with torch.autocast("cuda", torch.bfloat16):
                loss = nn.functional.cross_entropy(
                    model(tokens).flatten(0, 1), tokens.flatten()
                )
            loss.backward()
            model.configure_gradient_clipping(optimizer, 1.0, "norm")
            optimizer.step()
            optimizer.zero_grad()
        with pytest.raises(RuntimeError):  # the control
            loss.item()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert model.watch.held_since() is None


class Rows:
    """As much of a Trainer as the look at gradients needs."""

    log_every_n_steps = 1000
    global_step = 0
    precision_plugin = None
