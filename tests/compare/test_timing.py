"""Growth with length: the fit against closed forms, the measurement on tiny models."""

import json
import math
import types
from collections.abc import Mapping
from typing import Any

import pytest
import torch

from lmzoo.compare import timing
from lmzoo.compare.timing import fit_exponent, measure, ordering
from lmzoo.errors import UsageError

TINY = {
    "bare": ("bare", {"d_model": 8}),
    "gpt": ("gpt", {"d_model": 8, "num_layers": 1, "num_heads": 2}),
    "narrow": ("gru", {"d_model": 4, "d_hidden": 4}),
}
LENGTHS = [4, 8, 16]


@pytest.fixture(scope="module")
def measured() -> dict[str, Any]:
    return measure(TINY, LENGTHS, vocab_size=11, batch=2, rounds=2, threads=1)


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 2.0])
def test_a_power_law_is_recovered(power: float) -> None:
    lengths = [16, 32, 64, 128, 256]

    slope, residual, fitted = fit_exponent(lengths, [3e-6 * n**power for n in lengths])

    assert slope == pytest.approx(power, abs=1e-9)
    assert residual == pytest.approx(0, abs=1e-9)
    assert fitted == lengths


def test_noise_is_the_residual() -> None:
    lengths = [1, 2, 4, 8]
    seconds = [n * math.exp(0.1 * sign) for n, sign in zip(lengths, (1, -1, -1, 1))]  # noqa: B905

    slope, residual, _ = fit_exponent(lengths, seconds)

    assert slope == pytest.approx(1.0)
    assert residual == pytest.approx(0.1)


def test_lengths_bound_by_overhead_are_left_out() -> None:
    lengths = [16, 32, 64, 128, 256]
    overhead = 1e-3
    seconds = [overhead + 1e-5 * n for n in lengths]  # 1.16, 1.32, 1.64, 2.28, 3.56 ms

    whole, _, _ = fit_exponent(lengths, seconds)
    upper, _, fitted = fit_exponent(lengths, seconds, overhead)

    assert fitted == [
        64,
        128,
        256,
    ]  # two are above twice the overhead; three are fitted
    assert upper > whole  # the control: the overhead hides growth
    assert fit_exponent(lengths, [3e-3 + s for s in seconds], overhead)[2] == lengths


def test_one_length_has_no_exponent() -> None:
    slope, residual, fitted = fit_exponent([16], [1.0])

    assert math.isnan(slope)
    assert math.isnan(residual)
    assert fitted == [16]


def test_what_is_measured_is_plain_and_whole(measured: dict[str, Any]) -> None:
    assert json.loads(json.dumps(measured)) == measured
    assert list(measured) == list(TINY)
    for label, found in measured.items():
        assert found["lengths"] == LENGTHS
        assert found["tokens"] == [8, 16, 32]
        assert (found["batch"], found["rounds"], found["threads"]) == (2, 2, 1)
        assert (found["model"], found["arguments"]) == TINY[label]
        for name in ("forward", "backward"):
            assert len(found[name]) == 3
            for seconds, (low, high) in zip(
                found[name], found[f"{name}_spread"], strict=True
            ):
                assert 0 < low <= seconds <= high
        assert found["tokens_per_second"] == pytest.approx(
            [n / s for n, s in zip(found["tokens"], found["backward"], strict=True)]
        )


def test_only_a_table_of_positions_grows(measured: dict[str, Any]) -> None:
    gpt = measured["gpt"]["parameters"]

    assert [more - gpt[0] for more in gpt] == [0, 4 * 8, 12 * 8]
    for label in ("bare", "narrow"):
        assert len(set(measured[label]["parameters"])) == 1


def test_every_round_times_every_model_at_every_length(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[list[int]] = []
    told: list[int] = []
    monkeypatch.setattr(timing._Cell, "sample", lambda cell: seen[-1].append(id(cell)))
    monkeypatch.setattr(timing, "_summary", lambda *_: {})

    def fresh(done: int) -> None:
        told.append(done)
        seen.append([])

    seen.append([])
    measure(TINY, LENGTHS, vocab_size=11, batch=2, rounds=3, told=fresh)

    rounds = seen[:3]
    assert told == [1, 2, 3]
    assert all(sorted(one) == sorted(rounds[0]) for one in rounds)
    assert len(set(rounds[0])) == 3 * (1 + len(LENGTHS))  # the overhead's among them
    assert rounds[0] != rounds[1]  # shuffled


def test_gradients_are_freed_and_threads_given_back() -> None:
    before = torch.get_num_threads()
    cell = timing._cell("gpt", TINY["gpt"], 4, 11, 2)
    cell.time("backward", 2)

    assert all(parameter.grad is None for parameter in cell.model.parameters())
    measure({"bare": TINY["bare"]}, [2], vocab_size=5, batch=1, rounds=1, threads=2)
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("members", "options", "said"),
    [
        ({"ngram": ("ngram", {})}, {}, "a counting model has no backward pass"),
        ({"h": ("heaviside", {})}, {}, "h at 1 tokens: "),
        ({"g": ("gpt", {"d_model": 7})}, {}, "a multiple of 4, given 7"),
        ({"g": ("gpt", {"depth": 7})}, {}, "unexpected keyword argument 'depth'"),
        ({"g": ("gtp", {})}, {}, "did you mean 'gpt'"),
        (TINY, {"lengths": [8, 4]}, "increasing, given 8, 4"),
        (TINY, {"lengths": []}, "increasing, given none"),
        (TINY, {"rounds": 0}, "rounds must be 1 or more, given 0"),
        (TINY, {"batch": 0}, "batch must be 1 or more, given 0"),
        (TINY, {"threads": 0}, "threads must be 1 or more, given 0"),
    ],
)
def test_what_cannot_be_timed_is_one_line(
    members: dict, options: dict, said: str
) -> None:
    lengths = options.pop("lengths", [2, 4])
    with pytest.raises(UsageError) as caught:
        measure(members, lengths, **options)

    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


# ---- the sentence about the order ---------------------------------------------------


def timed(
    parameters: Mapping[str, int] = types.MappingProxyType({}), **seconds: float
) -> dict[str, Any]:
    return {
        model: {
            "model": model,
            "lengths": [16],
            "parameters": [parameters.get(model, 1_000)],
            "backward": [at],
            "backward_spread": [[0.9 * at, 1.1 * at]],
        }
        for model, at in seconds.items()
    }


def test_the_expected_order_holds() -> None:
    said = ordering(timed(gru=9e-3, conv=2e-3, gpt=4e-3, mlp=1e-3))

    assert said == (
        "forward + backward at 16 tokens, equal parameters, mlp 1.00 ms < conv 2.00 ms "
        "< gpt 4.00 ms < gru 9.00 ms: the order to expect of short texts on a CPU "
        "(mlp, conv < gpt < gru) holds"
    )


def test_what_breaks_the_order_is_named() -> None:
    said = ordering(timed(gru=2e-3, conv=3.9e-3, gpt=4e-3, bare=5e-3, mlp=1e-3))

    assert said.endswith(
        "does not hold (gpt is quicker than bare, gpt is not told "
        "apart from conv and gru is quicker than gpt; of it holds mlp < gpt)"
    )
    said = ordering(timed(gru=1e-3, conv=5e-3, gpt=3e-3))
    assert said.endswith("gru is quicker than gpt; nothing of it holds)")


def test_sizes_are_equal_or_stand_in_the_sentence() -> None:
    seconds = {"gru": 9e-3, "conv": 2e-3, "gpt": 4e-3}

    near = ordering(timed({"gru": 1_020, "conv": 985}, **seconds))
    far = ordering(timed({"gru": 1_100}, **seconds))

    assert "16 tokens, equal parameters, conv" in near
    assert "16 tokens, 1,000 to 1,100 parameters, conv" in far


def test_without_the_models_nothing_is_said_of_the_order() -> None:
    assert ordering(timed(lstm=1e-3, gpt=2e-3)) == ""
