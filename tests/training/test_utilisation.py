"""MFU and HFU: the paper's arithmetic, and a peak that is a peak."""

import pytest
import torch

from lmzoo.models.gpt import GPT
from lmzoo.models.ngram import NGram
from lmzoo.training import utilisation as module
from lmzoo.training.activation_checkpointing import recompute_blocks
from lmzoo.training.utilisation import line, matmul_peak, published_peak, utilisation

CPU = torch.device("cpu")
SIZES = {"num_layers": 2, "num_heads": 2, "d_model": 16, "context_length": 8}


@pytest.fixture
def model() -> GPT:
    return GPT(vocab_size=11, **SIZES)


@pytest.fixture
def peak(monkeypatch: pytest.MonkeyPatch) -> list[tuple]:
    """A device that does 1e9 FLOP/s; what was asked of it."""
    asked: list[tuple] = []

    def known(*arguments: object) -> float:
        asked.append(arguments)
        return 1e9

    monkeypatch.setattr(module, "matmul_peak", known)
    return asked


def test_mfu_is_appendix_bs(model: GPT, peak: list[tuple]) -> None:
    found = utilisation(model, 100.0, precision="32-true", devices=2)

    head = 11 * 16  # tied or not, a product with (V, D)
    weights = 2 * 12 * 16**2 + head
    attention = 12 * 2 * 16 * 8  # 12 L H Dh T
    assert found is not None
    assert found["mfu"] == pytest.approx(100 * (6 * weights + attention) / 2e9)
    assert found["peak_flops"] == 2e9  # of both devices


def test_hfu_alone_counts_what_was_computed_twice(
    model: GPT, peak: list[tuple]
) -> None:
    plain = utilisation(model, 100.0, precision="32-true")
    recompute_blocks(model)
    again = utilisation(model, 100.0, precision="32-true")

    assert plain is not None
    assert again is not None
    assert plain["hfu"] == plain["mfu"] == again["mfu"]
    forward = 2 * 2 * 8 * 16**2 + 4 * 2 * 16 * 8  # no product that ends a block
    cost = model.flops_per_token(8)
    assert again["hfu"] == pytest.approx((1 + forward / cost) * again["mfu"])


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [
        ("32-true", torch.float32),
        ("bf16-mixed", torch.bfloat16),
        ("16-mixed", torch.float16),
        ("64-true", torch.float64),
    ],
)
def test_products_are_measured_in_the_runs_precision(
    model: GPT,
    peak: list[tuple],
    precision: str,
    dtype: torch.dtype,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "emulated", lambda device, dtype: False)
    found = utilisation(model, 1.0, precision=precision, seconds=2.0)

    assert peak == [(CPU, dtype, pytest.approx(0.1))]
    assert found is not None
    assert found["of"].startswith(str(dtype).removeprefix("torch."))


def test_what_is_emulated_is_no_peak(
    model: GPT, peak: list[tuple], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "emulated", lambda device, dtype: True)
    utilisation(model, 1.0, precision="bf16-mixed", seconds=2.0)

    assert peak[0][:2] == (CPU, torch.float32)


def test_a_long_run_is_calibrated_for_half_a_second(
    model: GPT, peak: list[tuple]
) -> None:
    utilisation(model, 1.0, precision="32-true", seconds=1e6)

    assert peak[0][-1] == 0.5


def test_what_cannot_be_said_is_not_said(model: GPT, peak: list[tuple]) -> None:
    assert utilisation(NGram(vocab_size=11), 1.0, precision="32-true") is None
    assert utilisation(model, 0.0, precision="32-true") is None
    next(model.parameters()).requires_grad = False
    assert utilisation(model, 1.0, precision="32-true") is None


def test_the_peak_is_positive_and_leaves_the_runs_numbers_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    rate = matmul_peak(CPU, torch.float32, 0.0)

    assert 1e7 < rate < 1e15
    assert torch.equal(torch.rand(4), expected)


def test_more_time_measures_larger_products(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def lap(left: torch.Tensor, right: torch.Tensor) -> float:
        sizes.append(len(left))
        return 1.0 if len(left) > 512 else 1e-9

    monkeypatch.setattr(module, "_lap", lap)
    rate = matmul_peak(CPU, torch.float32, 30.0)

    assert sorted(set(sizes)) == [256, 512, 1024]  # the next would take 8 s a lap
    assert rate == 2 * 512**3 / 1e-9  # the best, not the last


def test_a_makers_peak_is_for_known_gpus_in_16_bits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gpu, names = torch.device("cuda"), iter(["NVIDIA L40S", "NVIDIA A100-SXM4-80GB"])
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: next(names))

    assert published_peak(gpu, torch.bfloat16) == 362e12
    assert published_peak(gpu, torch.float16) == 312e12
    assert published_peak(gpu, torch.float32) is None
    assert published_peak(CPU, torch.bfloat16) is None
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "GeForce 256")
    assert published_peak(gpu, torch.bfloat16) is None


@pytest.mark.parametrize(
    ("name", "dtype", "expected"),
    [
        ("NVIDIA H200", torch.bfloat16, 989e12),
        ("NVIDIA H200 NVL", torch.bfloat16, 835e12),
        ("NVIDIA H100 80GB HBM3", torch.bfloat16, 989e12),
        ("NVIDIA H100 PCIe", torch.bfloat16, 756e12),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", torch.bfloat16, None),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", torch.float16, None),
        ("Tesla V100-SXM2-16GB", torch.float16, 125e12),
        ("Tesla V100-SXM2-16GB", torch.bfloat16, None),
        ("Tesla V100-PCIE-32GB", torch.float16, 112e12),
        ("Tesla V100S-PCIE-32GB", torch.float16, 130e12),
        ("Tesla T4", torch.float16, 65e12),
        ("Tesla T4", torch.bfloat16, None),
    ],
)
def test_each_form_of_a_gpu_has_its_own_peak(
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    dtype: torch.dtype,
    expected: float | None,
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: name)

    assert published_peak(torch.device("cuda"), dtype) == expected


@pytest.mark.parametrize("fits", [512, 0])
def test_a_full_gpu_is_measured_with_what_fits(
    model: GPT, monkeypatch: pytest.MonkeyPatch, fits: int
) -> None:
    def lap(left: torch.Tensor, right: torch.Tensor) -> float:
        if len(left) > fits:
            raise torch.OutOfMemoryError("out of memory")
        return 1e-9

    monkeypatch.setattr(module, "_lap", lap)

    assert matmul_peak(CPU, torch.float32, 30.0) == pytest.approx(2 * fits**3 / 1e-9)
    found = utilisation(model, 1.0, precision="32-true", seconds=600.0)
    assert (found is None) == (fits == 0)


def test_the_line_names_both_peaks() -> None:
    told = line(
        {
            "mfu": 0.5,
            "hfu": 0.6,
            "peak_flops": 800e12,
            "published_flops": 1000e12,
            "of": "bfloat16, NVIDIA",
        }
    )

    assert told == (
        "MFU 50.0%, HFU 60.0% of 800 TFLOP/s, the measured matmul peak (bfloat16, "
        "NVIDIA); MFU 40.0% of the maker's 1,000"
    )
