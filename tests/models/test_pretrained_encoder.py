"""Encoders and causal models of transformers folders as bodies of a classifier."""

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import lmzoo
from lmzoo import portable
from lmzoo.errors import UsageError
from lmzoo.models.classifier import PooledClassifier
from lmzoo.models.pretrained_encoder import PretrainedEncoder
from lmzoo.text.labelled import LabelledDataModule
from lmzoo.text.labelled_parts import encode
from tests.cli.runner import lmzoo as command

transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")
CORPORA = Path(
    os.environ.get("LMZOO_CORPORA", Path(__file__).parents[3] / "shared" / "data")
)
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", "film", "a"]
TEXTS = "".join(
    f"a {'bad' if n % 2 else 'good'} film{' film' * (n % 3)}\t{n % 2}\n"
    for n in range(40)
)


def save(folder: Path, network) -> Path:
    """A folder as transformers writes it, with a WordPiece tokenizer."""
    library = tokenizers.Tokenizer(
        tokenizers.models.WordPiece(
            {word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"
        )
    )
    library.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    library.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    network.save_pretrained(folder)
    library.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=20,
    )
    return save(tmp_path / "bert", transformers.BertForMaskedLM(config))


@pytest.fixture
def films(tmp_path: Path) -> Path:
    path = tmp_path / "films.tsv"
    path.write_text(TEXTS)
    return path


def test_the_vectors_are_those_of_transformers(bert: Path) -> None:
    opened = lmzoo.load(bert)
    theirs = transformers.BertModel.from_pretrained(bert).eval()
    tokens = torch.randint(0, len(WORDS), (3, 7))
    mask = torch.arange(7) < torch.tensor([[7], [3], [1]])

    with torch.no_grad():
        expected = theirs(input_ids=tokens, attention_mask=mask.long())
        found = opened.member.features(tokens, mask)

    assert opened.stored["model"] == "pretrained-encoder"
    torch.testing.assert_close(
        found[mask], expected.last_hidden_state[mask], rtol=0, atol=1e-6
    )


def test_a_text_stands_between_cls_and_sep(bert: Path) -> None:
    tokenizer = lmzoo.load(bert).tokenizer

    ids = encode(tokenizer, ["good film", "a " * 30], 6)

    assert ids[0].tolist() == [2, 5, 7, 3]
    assert ids[1].tolist() == [2, 8, 8, 8, 8, 3]


def test_it_is_fine_tuned_and_no_folder_is_needed_after(bert, films, tmp_path) -> None:
    result = command(
        f"fit --model classifier --model.body {bert} --data.path {films} "
        f"--optimizer.lr 0.01 --trainer.max_steps 30 --data.batch_size 8 "
        f"--lr_scheduler.warmup_steps 2 --trainer.default_root_dir {tmp_path}/run"
    )
    assert result.code == 0, result.err
    assert "the body starts from" in result.err
    for file in bert.iterdir():
        file.unlink()

    said = command(f"predict {tmp_path}/run --file {films}")

    assert said.code == 0, said.err
    assert "40 of 40 right" in said.err
    assert lmzoo.load(tmp_path / "run").member.context_length == 20


DISTILBERT = {
    "vocab_size": len(WORDS),
    "dim": 16,
    "n_layers": 1,
    "n_heads": 2,
    "hidden_dim": 32,
    "max_position_embeddings": 20,
}


def test_a_distilbert_becomes_the_zoos_encoder(tmp_path: Path) -> None:
    config = transformers.DistilBertConfig(**DISTILBERT)
    folder = save(tmp_path / "d", transformers.DistilBertModel(config))
    theirs = transformers.DistilBertModel.from_pretrained(folder).eval()
    tokens = torch.randint(0, len(WORDS), (2, 5))

    opened = lmzoo.load(folder)

    assert opened.stored["model"] == "encoder"
    with torch.no_grad():
        torch.testing.assert_close(
            opened.member.features(tokens),
            theirs(input_ids=tokens).last_hidden_state,
            rtol=0,
            atol=1e-6,
        )


def test_a_causal_folder_is_a_body_too() -> None:
    folder = CORPORA / "stories260k"
    if not folder.is_dir():
        pytest.skip("no stories260k here: set LMZOO_CORPORA to the corpora folder")
    stored = portable.read(folder)["lmzoo"]
    kept = {k: v for k, v in stored["arguments"].items() if k != "vocab_size"}
    opened = lmzoo.load(folder)
    tokens = torch.randint(0, 512, (2, 9))
    with torch.no_grad():
        expected = opened.model.network(
            input_ids=tokens, output_hidden_states=True
        ).hidden_states[-1]
    model = PooledClassifier(
        512, 64, body="pretrained", body_arguments=kept, pooling="last"
    ).eval()
    opened.model.take_head()
    model.body.load_state_dict(opened.model.state_dict())

    with torch.no_grad():
        found = model.body.features(tokens)

    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_labelled_text_takes_the_folders_tokenizer(bert: Path, films: Path) -> None:
    data = LabelledDataModule(
        path=str(films), tokenizer=str(bert / "tokenizer.json"), context_length=8
    )

    assert data.vocab_size == len(WORDS)
    assert all(ids[0] == 2 and ids[-1] == 3 for ids in data.parts["train"].ids)


SPOILT = {  # what is done to the tensor called so
    "missing": lambda tensors, name: tensors.pop(name),
    "one axis": lambda tensors, name: tensors.update({name: torch.zeros(16)}),
    "no axis": lambda tensors, name: tensors.update({name: torch.tensor(1.0)}),
    "few rows": lambda tensors, name: tensors.update({name: torch.zeros(3, 16)}),
    "whole": lambda tensors, name: tensors.update({name: tensors[name].int()}),
    "foreign": lambda tensors, name: tensors.update(strange=torch.zeros(2)),
}


@pytest.mark.parametrize("case", SPOILT)
@pytest.mark.parametrize("kind", ["DistilBertModel", "DistilBertForMaskedLM", "Bert"])
def test_a_damaged_folder_is_one_line(kind: str, case: str, bert, tmp_path) -> None:
    folder = bert
    if kind != "Bert":
        made = transformers.DistilBertConfig(**DISTILBERT)
        folder = save(tmp_path / "d", getattr(transformers, kind)(made))
    assert lmzoo.load(folder).member  # the control
    tensors = load_file(folder / "model.safetensors")
    name = next(n for n in tensors if n.endswith("word_embeddings.weight"))
    SPOILT[case](tensors, name)
    if "bert.strange" not in tensors and "strange" in tensors and kind == "Bert":
        tensors["bert.strange"] = tensors.pop("strange")  # outside are its heads
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})

    with pytest.raises(UsageError) as caught:
        _ = lmzoo.load(folder).member

    said = str(caught.value)
    assert str(folder) in said
    assert "\n" not in said
    named = ("word_embeddings", "token_embedding", "strange", "head.restore")
    assert any(name in said for name in named)
    assert command(f"predict {folder} --text good").code == 2


@pytest.mark.parametrize(
    "kind", ["Roberta", "XLMRoberta", "Camembert", "MPNet", "Bert"]
)
def test_the_longest_text_passes_through(kind: str, tmp_path: Path) -> None:
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=len(WORDS),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=20,
    )
    folder = save(tmp_path / "m", getattr(transformers, f"{kind}ForMaskedLM")(config))
    opened = lmzoo.load(folder)
    longest = 20 if kind == "Bert" else 18
    assert opened.member.context_length == longest
    text = encode(opened.tokenizer, ["good " * 99], longest)[0].astype("int64")
    assert len(text) == longest
    with torch.no_grad():
        found = opened.member.features(torch.from_numpy(text)[None])
    assert found.shape == (1, longest, 16)

    source = opened.stored["arguments"]["source"]
    with pytest.raises(ValueError, match=f"at most the source's {longest}, given"):
        PretrainedEncoder(len(WORDS), longest + 1, source=source)
    with pytest.raises((IndexError, RuntimeError)):  # the control: it is no idle limit
        opened.member.features(torch.full((1, longest + 1), 5))
