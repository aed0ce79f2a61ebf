"""What is kept for a text is what the body makes of that text."""

from pathlib import Path

import pytest
import torch

from lmzoo.models.classifier import PooledClassifier
from lmzoo.text.labelled import LabelledDataModule
from lmzoo.training.freezing import Freezing
from lmzoo.training.frozen_features import SPLITS, is_fixed, keep


@pytest.fixture
def data(tmp_path: Path) -> LabelledDataModule:
    """Sixty texts of many lengths, no two of them the same."""
    texts = (f"{'a b c d ' * (n % 7)}word{n}\t{n % 2}\n" for n in range(60))
    (tmp_path / "texts.tsv").write_text("".join(texts))
    return LabelledDataModule(
        path=str(tmp_path / "texts.tsv"), batch_size=8, eval_batch_size=16
    )


@pytest.fixture
def model(data: LabelledDataModule) -> PooledClassifier:
    torch.manual_seed(0)
    sizes = {"d_model": 8, "num_layers": 1, "num_heads": 2, "dropout": 0.5}
    made = PooledClassifier(
        data.vocab_size, 128, body="encoder", body_arguments=sizes
    ).train()
    Freezing(all_but_head=True).apply(made)
    return made


def gap(model: PooledClassifier, data: LabelledDataModule, split: str) -> float:
    """The largest difference between a kept vector and the text's own, read alone."""
    found = []
    with torch.no_grad():
        for ids, kept in zip(data.parts[split].ids, model.features[split], strict=True):
            tokens = torch.from_numpy(ids.astype("int64"))[None]
            mine = model.pooled(tokens, torch.ones_like(tokens, dtype=torch.bool))
            found.append(float((mine[0] - kept).abs().max()))
    return max(found)


def test_each_row_is_its_own_texts(model, data) -> None:
    assert is_fixed(model)
    keep(model, data)
    assert model.training  # as it was, though the body was read without dropout
    model.eval()

    assert set(model.features) == set(SPLITS)
    for split in SPLITS:
        assert gap(model, data, split) < 1e-5
        kept = model.features[split]
        shuffled = torch.randperm(len(kept), generator=torch.Generator().manual_seed(1))
        model.features[split] = kept[shuffled]  # the control
        assert gap(model, data, split) > 1e-2


def test_a_training_batch_reads_the_rows_that_it_names(model, data) -> None:
    keep(model, data)
    model.eval()
    batch = next(iter(data.train_dataloader()))
    whole = model(batch.tokens, batch.mask)

    torch.testing.assert_close(
        model.batch_logits(batch, "train"), whole, rtol=0, atol=1e-6
    )
    model.features["train"] = model.features["train"].roll(1, 0)  # the control
    assert (model.batch_logits(batch, "train") - whole).abs().max() > 1e-4
