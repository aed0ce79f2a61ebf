"""The encoder: DistilBERT's sizes exactly, its vectors too, and what it restores."""

import pytest
import torch

from lmzoo.models import distilbert
from lmzoo.models.classifier import PooledClassifier
from lmzoo.models.encoder import Encoder

TINY = {"d_model": 16, "num_layers": 2, "num_heads": 2, "dropout": 0.0}


def test_the_preset_has_distilberts_parameters_exactly() -> None:
    preset = Encoder.preset_arguments("distilbert")
    body = {k: v for k, v in preset.items() if k != "vocab_size"}
    with torch.device("meta"):
        encoder = Encoder(**preset)
        encoder.take_head()
        whole = PooledClassifier(30_522, 512, body="encoder", body_arguments=body)

    count = sum(p.numel() for p in encoder.parameters())
    with_head = sum(p.numel() for p in whole.parameters())
    below = sum(p.numel() for p in whole.body_parameters())

    assert count == below == 66_362_880
    assert with_head == 66_955_010
    assert with_head - below == 592_130
    assert round(100 * 592_130 / with_head, 2) == 0.88


def test_with_the_same_weights_the_vectors_are_distilberts() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.DistilBertConfig(
        vocab_size=40,
        dim=16,
        n_layers=2,
        n_heads=2,
        hidden_dim=32,
        max_position_embeddings=12,
    )
    torch.manual_seed(0)
    theirs = transformers.DistilBertForMaskedLM(config).eval()
    described = config.to_dict()
    assert distilbert.fits(described)
    ours = Encoder(40, **distilbert.from_config(described)).eval()
    ours.load_state_dict(distilbert.from_tensors(theirs.state_dict(), 40))
    tokens = torch.randint(0, 40, (3, 9))
    mask = torch.arange(9) < torch.tensor([[9], [4], [1]])

    with torch.no_grad():
        expected = theirs.distilbert(
            input_ids=tokens, attention_mask=mask.long()
        ).last_hidden_state
        logits = theirs(input_ids=tokens, attention_mask=mask.long()).logits
        found = ours.features(tokens, mask)

        torch.testing.assert_close(found[mask], expected[mask], rtol=0, atol=1e-5)
        torch.testing.assert_close(
            ours(tokens, mask)[mask], logits[mask], rtol=0, atol=1e-5
        )
        assert not torch.allclose(  # the control: without the mask they differ
            ours.features(tokens)[mask], expected[mask], atol=1e-3
        )


def test_masking_is_a_function_of_the_seed_alone() -> None:
    tokens = torch.arange(128).view(4, 32)  # each its own place
    model = Encoder(128, 32, **TINY)
    nll, logits, first = model._restored(tokens, torch.Generator().manual_seed(5))
    again = model._restored(tokens, torch.Generator().manual_seed(5))[2]
    other = model._restored(tokens, torch.Generator().manual_seed(6))[2]

    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert 0.05 < first.numel() / tokens.numel() < 0.3
    assert torch.equal(first[0], tokens[torch.isin(tokens, first)])  # in their order
    assert nll.shape == first.shape
    assert logits.shape == (*first.shape, 128)


def test_a_text_beyond_the_context_is_refused() -> None:
    with pytest.raises(ValueError, match="at most context_length = 8"):
        Encoder(29, 8, **TINY)(torch.zeros(1, 9, dtype=torch.long))
