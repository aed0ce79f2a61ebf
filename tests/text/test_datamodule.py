import json
import pickle
from itertools import islice

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer

from lmzoo.errors import UsageError
from lmzoo.text.datamodule import TextDataModule

TEXT = "".join(f"Line {i}: the cat is worth {i * 37 % 101}.\n" for i in range(200))


@pytest.fixture
def path(write):
    return write("a.txt", TEXT)


class Recorder(LightningModule):
    """Learns nothing; remembers what it was given."""

    window = 5

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.positions, self.counted, self.width = [], 0, 0

    def training_step(self, batch, index):
        self.positions.append(batch.position)
        self.trainer.datamodule.position = batch.position + 4
        return self.weight * 0

    def validation_step(self, batch, index):
        self.counted += int((batch.targets != -100).sum())
        self.width = batch.tokens.shape[1]

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def trainer(**options):
    return Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **options,
    )


@pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning")  # Lightning's own
def test_with_lightning(path):
    data, model = TextDataModule(path=path, context_length=8, batch_size=4), Recorder()
    runner = trainer(max_steps=10, limit_train_batches=5, max_epochs=-1)
    runner.fit(model, data)
    # a new iterator each epoch goes on where training stands, prefetched or not
    assert model.positions == [4 * i for i in range(10)]
    assert data.position == 40
    assert model.counted == 2 * (len(data.val_tokens) - 1)
    assert model.width == 8 + 4  # each target has the model's whole window
    again = TextDataModule(path=path, context_length=8, batch_size=4)
    again.load_state_dict(json.loads(json.dumps(data.state_dict())))
    assert next(iter(again.train_dataloader())).position == 40


def test_nothing_is_read_before_it_is_needed():
    data = TextDataModule(path="absent.txt")
    with pytest.raises(UsageError, match=r"absent\.txt"):
        _ = data.vocab_size


def test_what_it_tells(path):
    data = TextDataModule(path=path)
    about = json.loads(json.dumps(data.describe()))
    assert about["name"] == data.corpus_name == "a"
    assert about["splits"]["train"]["tokens"] == len(data.train_tokens)
    assert about["splits"]["test"]["oov_share"] == 0
    assert about["tokenizer"]["vocab_size"] == data.vocab_size
    assert data.text("val") == data.tokenizer.decode(data.val_tokens)
    chars, sizes = data.lengths("val")
    assert chars.dtype == sizes.dtype == torch.float64
    assert chars.shape == (data.vocab_size,)
    with pytest.raises(ValueError, match="split"):
        data.text("validation")


def test_no_validation(path):
    data = TextDataModule(path=path, val_fraction=0.0, test_fraction=0.0)
    data.setup("fit")
    assert data.val_dataloader() == []
    assert data.test_dataloader() == []
    assert len(data.train_tokens) == len(TEXT)


@pytest.mark.parametrize(("length", "windows"), [(16, 24), (2048, 3)])
def test_documents_are_packed_into_full_windows(write, length, windows):
    """Joined by the end-of-document token, cut at every T-th, with no padding."""
    total, documents = length * windows, []  # targets; inputs and targets share a text
    for number in range(total):
        left = total + 1 - sum(map(len, documents)) - len(documents)
        document = "abcdefg"[: 1 + number % 7] * (1 + number % 5)
        if left <= len(document) + 2:
            documents.append("z" * left)
            break
        documents.append(document)
    rows = "".join(json.dumps({"text": text}) + "\n" for text in documents)
    data = TextDataModule(
        path=write("a.jsonl", rows),
        val_fraction=0.0,
        test_fraction=0.0,
        tokenizer="byte",
        context_length=length,
        batch_size=1,
        order="epoch",
    )
    eod = data.tokenizer.eod_id
    joined = []
    for text in documents:
        joined += [*data.tokenizer.encode(text).tolist(), eod]
    joined = torch.tensor(joined[:-1])
    assert len(joined) == total + 1
    found = {}
    for batch in islice(data.train_dataloader(), windows):
        assert batch.tokens.shape == batch.targets.shape == (1, length)
        for place in range(0, total, length):
            if torch.equal(batch.tokens[0], joined[place : place + length]):
                after = joined[place + 1 : place + 1 + length]
                assert torch.equal(batch.targets[0], after)  # an end is a target too
                found[place] = batch.tokens[0]
    assert len(found) == windows
    whole = torch.cat([found[place] for place in sorted(found)])
    assert torch.equal(whole, joined[:-1])
    assert (whole == eod).sum() == len(documents) - 1
    assert not (whole[length - 1 :: length] == eod).all()  # no window per document


def test_carried_protocol(path):
    data = TextDataModule(path=path, context_length=8, streams=3)
    data.protocol = "carried"
    batches = list(data.val_dataloader())
    assert batches[0].tokens.shape == (3, 8)
    assert [batch.first for batch in batches[:2]] == [True, False]
    data.protocol = "carry"
    with pytest.raises(ValueError, match="protocol"):
        data.val_dataloader()


def test_streams_tell_what_they_leave_out(path):
    data = TextDataModule(path=path, order="stream", batch_size=7, context_length=8)
    loader = data.train_dataloader()
    assert loader.unused == (len(data.train_tokens) - 1) % 7 != 0
    assert any("streams: one epoch leaves them out" in note for note in data.notes)


def test_a_pickled_module_maps_the_tokens_again(path):
    data = TextDataModule(path=path, context_length=8)
    data.train_dataloader()
    packed = pickle.dumps(data)
    assert len(packed) < 5000 < len(data.train_tokens)
    twin = pickle.loads(packed)  # noqa: S301 (packed two lines above)
    assert np.array_equal(twin.train_tokens, data.train_tokens)


def test_same_seed_same_batches(path):
    def first(seed):
        data = TextDataModule(path=path, seed=seed, context_length=8)
        return [batch.tokens for batch in islice(data.train_dataloader(), 3)]

    assert all(map(torch.equal, first(1), first(1)))
    assert not all(map(torch.equal, first(1), first(2)))


@pytest.mark.parametrize(
    ("text", "options", "stage", "message"),
    [
        (TEXT, {"context_length": 9999}, "fit", r"10,000 are needed"),
        ("ab" * 35, {}, "fit", r"has 63 tokens, 65 are needed"),
        ("ab" * 5, {"context_length": 2}, "fit", r"validation text has 0 tokens"),
        ("ab" * 5, {}, "validate", r"validation text has 0 tokens"),
        ("ab" * 5, {}, "test", r"test text has 1 tokens, 2 are needed"),
        (TEXT, {"context_length": 0}, "fit", r"--data.context_length 0: give 1"),
        (TEXT, {"batch_size": -1}, "fit", r"--data.batch_size -1: give 1"),
        (TEXT, {"eval_batch_size": 0}, "fit", r"--data.eval_batch_size 0"),
        (TEXT, {"streams": 0}, "fit", r"--data.streams 0"),
        (TEXT, {"seed": -1}, "fit", r"--data.seed -1"),
        (TEXT, {"seed": 2**32}, "fit", r"below 2\*\*32"),
        (TEXT, {"order": "shuffled"}, "fit", r"choose random, epoch, stream"),
        (TEXT, {"val_fraction": 2}, "fit", r"--data.val_fraction 2"),
    ],
)
def test_refusals(write, text, options, stage, message):
    path = write("short.txt", text)
    with pytest.raises(UsageError, match=message) as caught:
        TextDataModule(path=path, **options).setup(stage)
    assert "\n" not in str(caught.value)


def test_white_space_is_text(write):
    data = TextDataModule(path=write("a.txt", " \n" * 500))
    data.setup("fit")
    assert data.vocab_size == 3
