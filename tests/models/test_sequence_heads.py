"""Sequence classifiers of transformers folders: the same logits, the same labels."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import lmzoo
from lmzoo.classification import classifier_of, classify
from lmzoo.classification import logits as logits_of
from lmzoo.errors import UsageError
from lmzoo.models import distilbert
from tests.cli.runner import lmzoo as command
from tests.models.test_pretrained_encoder import DISTILBERT, WORDS, save

transformers = pytest.importorskip("transformers")
KINDS = ["Bert", "DistilBert", "Roberta", "XLMRoberta", "Camembert", "MPNet", "Electra"]
NAMES = ["sad", "glad", "neither"]
TEXTS = ["a good film", "film", "bad bad bad film a", "good " * 40]
SIZES = {
    "vocab_size": len(WORDS),
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 20,
}


def made(folder: Path, kind: str = "Bert", names: list[str] = NAMES, **more) -> Path:
    """A folder of a small random model, its weights large enough to tell apart."""
    torch.manual_seed(0)
    sizes = DISTILBERT if kind == "DistilBert" else SIZES
    config = getattr(transformers, f"{kind}Config")(
        **sizes, id2label=dict(enumerate(names)), **more
    )
    network = getattr(transformers, f"{kind}ForSequenceClassification")(config)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return save(folder, network)


def theirs(folder: Path, kind: str, texts: list[str]) -> torch.Tensor:
    """The library's own logits of texts, each read alone."""
    auto = getattr(transformers, f"{kind}ForSequenceClassification")
    network, opened = auto.from_pretrained(folder).eval(), lmzoo.load(folder)
    longest = opened.member.context_length
    found = []
    for text in texts:
        ids = opened.tokenizer.encode(text.strip())
        ids = [2, *[i for i in ids if i not in (2, 3)][: longest - 2], 3]
        with torch.no_grad():
            found.append(network(input_ids=torch.tensor([ids])).logits[0])
    return torch.stack(found)


@pytest.mark.parametrize("kind", KINDS)
def test_the_logits_are_those_of_transformers(kind: str, tmp_path: Path) -> None:
    folder = made(tmp_path / "m", kind)
    run = lmzoo.load(folder)
    expected = theirs(folder, kind, TEXTS)

    assert classifier_of(run).labels == NAMES
    found = logits_of(run, TEXTS)  # together, padded
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    for function in {"relu", "tanh", "gelu"} - {run.member.head.activation}:
        run.member.head.activation = function  # the control
        assert (logits_of(run, TEXTS) - expected).abs().max() > 1e-3
    said = classify(lmzoo.load(folder), TEXTS)
    assert [one.label for one in said] == [NAMES[i] for i in expected.argmax(-1)]


def test_a_variant_of_distilbert_is_one_too(tmp_path: Path) -> None:
    folder = made(tmp_path / "m", "DistilBert", activation="relu")
    assert not distilbert.fits(json.loads((folder / "config.json").read_text()))
    found = logits_of(lmzoo.load(folder), TEXTS)
    torch.testing.assert_close(
        found, theirs(folder, "DistilBert", TEXTS), rtol=0, atol=1e-5
    )


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """Texts with the label that the model in ``m`` gives them, as its number."""
    folder = made(tmp_path / "m")
    texts = [" ".join(["a", w, *["film"] * (n % 4)]) for n in range(30) for w in WORDS]
    tensors = load_file(folder / "model.safetensors")
    usual = logits_of(lmzoo.load(folder), texts).median(0).values
    tensors["classifier.bias"] -= usual  # so that every label is given to some
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    said = classify(lmzoo.load(folder), texts)
    path = tmp_path / "films.tsv"
    path.write_text(
        "".join(
            f"{text}\t{NAMES.index(one.label)}\n"
            for text, one in zip(texts, said, strict=True)
        )
    )
    return path


def test_it_predicts_is_measured_and_teaches(labelled: Path, tmp_path: Path) -> None:
    folder = tmp_path / "m"
    given = {line.split("\t")[1] for line in labelled.read_text().splitlines()}
    assert given == {"0", "1", "2"}
    said = command(f"predict {folder} --file {labelled}")
    assert said.code == 0, said.err
    assert "270 of 270 right" in said.err
    measured = command(f"validate --ckpt_path {folder} --data.path {labelled}")
    assert measured.code == 0, measured.err
    assert "100.0%" in measured.out

    line = (
        f"fit --model classifier --model.body lstm --model.body.d_model 8 "
        f"--model.body.d_hidden 8 --model.context_length 12 --data.path {labelled} "
        f"--trainer.max_steps 3 --trainer.default_root_dir {tmp_path}/student "
        f"--distill_from {folder} --data.labels"
    )
    named = json.dumps({str(i): name for i, name in enumerate(NAMES)}).replace(" ", "")
    taught = command(f"{line} {named}")
    assert taught.code == 0, taught.err
    assert "right on 100.0%" in taught.err
    (folder / "config.json").write_text((folder / "config.json").read_text() + " ")
    again = command(f"fit --ckpt_path {tmp_path}/student --trainer.max_steps 5")
    assert again.code == 2
    assert "SHA-256 is another" in again.err


def test_its_body_starts_another_classifier(labelled: Path, tmp_path: Path) -> None:
    result = command(
        f"fit --model classifier --model.body {tmp_path}/m --data.path {labelled} "
        f"--trainer.max_steps 2 --freeze.all_but_head true "
        f"--trainer.default_root_dir {tmp_path}/tuned"
    )
    assert result.code == 0, result.err
    before = lmzoo.load(tmp_path / "m").checkpoint["state_dict"]
    after = lmzoo.load(tmp_path / "tuned").checkpoint["state_dict"]
    assert all(torch.equal(before[n], after[n]) for n in before if n[:5] == "body.")


def test_a_regression_is_a_body_alone(tmp_path: Path) -> None:
    folder = made(tmp_path / "one", names=["score"])
    assert lmzoo.load(folder).stored["model"] == "pretrained-encoder"
    with pytest.raises(UsageError, match="gives no labels"):
        classify(lmzoo.load(folder), TEXTS)
    many = made(tmp_path / "many", problem_type="multi_label_classification")
    assert lmzoo.load(many).stored["model"] == "pretrained-encoder"


def renamed(folder: Path, **labels: str) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["id2label"] = labels or ["sad", "glad", "neither"]
    (folder / "config.json").write_text(json.dumps(config))


def without(folder: Path, name: str) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors[name]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda f: renamed(f), "id2label should name 3 labels"),
        (lambda f: renamed(f, **{"0": "a", "1": "b"}), "id2label should name 3"),
        (lambda f: renamed(f, **{"0": "a", "1": "a", "2": "b"}), "a name of its own"),
        (lambda f: without(f, "classifier.bias"), "'classifier.bias' is missing"),
        (lambda f: without(f, "classifier.weight"), "head.classifier.weight"),
        (lambda f: without(f, "bert.pooler.dense.bias"), "head.pre_classifier.bias"),
    ],
)
def test_a_damaged_head_is_one_line(spoil, said: str, tmp_path: Path) -> None:
    folder = made(tmp_path / "m")
    assert lmzoo.load(folder).member  # the control
    spoil(folder)
    with pytest.raises(UsageError) as caught:
        _ = lmzoo.load(folder).member
    assert said in str(caught.value)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)
