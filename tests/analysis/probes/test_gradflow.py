"""The gradient-flow probe: what each family's loss can reach."""

import numpy as np
import pytest
import torch

from lmzoo.analysis.probes.flows import flow_map
from lmzoo.analysis.probes.gradflow import gradflow
from lmzoo.errors import UsageError
from lmzoo.models.gpt import GPT
from tests.analysis.probes.zoo import MEMBERS, PLUGIN, trained

STEPS, POSITION = 24, 15
BACK = {"ff": 3, "conv": 6, PLUGIN: 1, "mlp": 0}


@pytest.mark.parametrize("name", [*MEMBERS, "mlp", "transformer-unmasked"])
def test_the_loss_reaches_what_the_model_sees(name: str) -> None:
    found = gradflow(trained(name), position=POSITION, windows=2)
    row = np.array(found.data["norms"])
    assert len(row) == STEPS
    back = BACK.get(name, POSITION)
    ahead = STEPS - 1 - POSITION if name == "transformer-unmasked" else 0
    assert np.flatnonzero(row).tolist() == list(
        range(POSITION - back, POSITION + ahead + 1)
    )
    first = found.text[0]
    if back == 0:
        assert "its own input step alone" in first
    else:
        assert f"the farthest {back} step" in first
    assert ("sees the future" in first) is bool(ahead)
    flow = np.array(found.data["flow"])
    assert np.array_equal(flow[POSITION], row)
    assert bool(np.triu(flow, 1).any()) is bool(ahead)
    assert set(found.figures) == {"norms", "heat"}
    assert len(found.rows) == STEPS * STEPS
    assert any("mean over 2 windows" in note for note in found.notes)


def test_the_norms_are_those_of_each_window_alone() -> None:
    torch.manual_seed(0)
    model = GPT(11, 16, d_model=16, num_layers=1, num_heads=2).eval()
    windows = torch.randint(11, (3, 9))
    found = flow_map(model, windows)
    assert found.shape == (8, 8)
    table = model.token_embedding.weight
    norms = []
    for window in windows:
        tokens = window[None, :-1]
        vectors = table[tokens].detach().requires_grad_()
        hook = model.token_embedding.register_forward_hook(
            lambda _module, _inputs, _output, own=vectors: own
        )
        nats = -model(tokens).log_softmax(-1)[0, 5, window[6]]
        hook.remove()
        norms.append(torch.autograd.grad(nats, vectors)[0].norm(dim=-1)[0])
    assert np.allclose(found[5], torch.stack(norms).mean(0), rtol=1e-4, atol=1e-8)


def test_on_a_prompt() -> None:
    found = gradflow(trained("gpt"), prompt="the lazy dog", position=3)
    assert found.tables[0].heads[1] == "token"
    assert [row[1] for row in found.tables[0].rows] == list("the␣lazy␣do")
    assert len(found.data["norms"]) == 11


def test_an_untrained_member_by_its_name() -> None:
    options = {"prompt": "In the beginning", "position": 7}
    found = gradflow("lstm", **options)
    row = np.array(found.data["norms"])
    assert row[:8].all()
    assert not row[8:].any()
    assert (np.diff(row[:8]) > 0).all()  # the further back, the less
    assert any("fresh weights, seed 0" in note for note in found.notes)
    assert not any("outside the vocabulary" in note for note in found.notes)
    odd = gradflow("lstm", **{**options, "prompt": "the ∫ " * 9})
    assert any("read as <unk>: 9 of 54" in note for note in odd.notes)
    assert gradflow("lstm", seed=1, **options).data["norms"] != row.tolist()
    assert gradflow("lstm", **options).data["norms"] == row.tolist()


def test_an_activation_without_a_slope() -> None:
    found = gradflow("heaviside", prompt="In the beginning", position=7)
    assert not any(found.data["norms"])
    assert "has no gradient at any input step" in found.text[0]


def test_the_end_of_a_text_cannot_be_asked_for() -> None:
    run = trained("gpt")
    with pytest.raises(UsageError, match="the text has 11 steps"):
        gradflow(run, prompt="the lazy dog", position=11)
    assert gradflow(run, prompt="the lazy dog", position=10).data["position"] == 10
    with pytest.raises(UsageError, match="context is 24"):
        gradflow(run, length=25)
    assert len(gradflow(trained("lstm"), length=40).data["norms"]) == 40
    with pytest.raises(UsageError, match="counts and has no gradients"):
        gradflow(trained("ngram"))


def test_checkpoints_become_lines() -> None:
    found = gradflow(trained("lstm"), position=POSITION, windows=2, checkpoints="all")
    lines = found.data["checkpoints"]
    assert list(lines) == ["step 10", "step 20"]
    assert lines["step 10"] != lines["step 20"] == found.data["norms"]
    assert found.figures["norms"].count("<polyline") == 2
    assert "at step 10, within" in found.text[-1]
    with pytest.raises(UsageError, match="no checkpoint of step 15"):
        gradflow(trained("lstm"), checkpoints="15")
