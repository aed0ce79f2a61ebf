"""Going on from a checkpoint: nothing for no steps, the same for the same seed."""

from pathlib import Path
from random import Random

import pytest
import torch

from lmzoo.analysis import adaptation
from lmzoo.analysis.adaptation import (
    adapt,
    as_checkpoint,
    begin,
    own_rate,
    target_text,
)
from lmzoo.analysis.history import History
from lmzoo.analysis.transfer.corpora import Corpus, corpus_of
from lmzoo.analysis.transfer.passes import losses
from lmzoo.errors import UsageError
from lmzoo.runs import checkpoint_name, load, write_checkpoint
from tests.cli.runner import fit, lmzoo

OTHER = "how vexingly quick daft zebras jump! 12 + 34 = 46\n" * 200


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on one text, and another text with symbols that the run has not seen."""
    folder = tmp_path_factory.mktemp("adaptation")
    (folder / "home.txt").write_text("the lazy dog sleeps in the sun all day\n" * 250)
    (folder / "other.txt").write_text(OTHER)
    fit(
        f"--data.path {folder / 'home.txt'} --trainer.max_steps 60 "
        f"--trainer.default_root_dir {folder / 'run'}"
    )
    return folder


@pytest.fixture
def history(place: Path) -> History:
    return History(place / "run")


@pytest.fixture
def other(place: Path, history: History) -> Corpus:
    changed = {"path": str(place / "other.txt"), "corpus": None}
    return Corpus("other", {**corpus_of(history).arguments, **changed})


def weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def run(history: History, other: Corpus, steps: int, seed: int = 1):
    data, _ = target_text(history, other, "union", seed)
    model = begin(history, history.last, data, seed)
    seen: list[int] = []
    adapt(model, data, history, at=(0, steps), lr=4e-3,
          watch=lambda step, _: seen.append(step))  # fmt: skip
    return model, data, seen


def test_no_steps_change_nothing(history: History, other: Corpus) -> None:
    data, told = target_text(history, other, "unk")
    model = begin(history, history.last, data, seed=1)
    before = weights(history.at(history.last))
    adapt(model, data, history, at=(0,), lr=4e-3, watch=lambda *_: None)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
    assert told.new == 0
    assert told.unknown > 0


def test_the_same_seed_gives_the_same_weights(history: History, other: Corpus) -> None:
    torch.manual_seed(5)
    one, _, seen = run(history, other, 4)
    torch.manual_seed(6)  # the global generator decides nothing
    two, _, _ = run(history, other, 4)
    third, _, _ = run(history, other, 4, seed=2)  # the control
    assert seen == [0, 4]
    assert all(
        torch.equal(a, b)
        for a, b in zip(weights(one).values(), weights(two).values(), strict=True)
    )
    assert not all(
        torch.equal(a, b)
        for a, b in zip(weights(one).values(), weights(third).values(), strict=True)
    )


def test_the_run_itself_is_left_alone(history: History, other: Corpus) -> None:
    before = weights(history.at(history.last))
    run(history, other, 3)
    after = weights(history.at(history.last))
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_known_symbols_keep_their_rows(history: History, other: Corpus) -> None:
    data, told = target_text(history, other)
    model = begin(history, history.last, data, seed=1)
    old, new = history.tokenizer.symbols(), data.tokenizer.symbols()
    assert told.new == len(new) - len(old) > 0
    assert told.size == len(new)
    assert told.unknown == 0
    table, source = model.embed, history.at(history.last).embed
    for symbol in ("t", "o", "<unk>"):
        mine = table(torch.tensor([[new.index(symbol)]]))
        its = source(torch.tensor([[old.index(symbol)]]))
        assert torch.equal(mine[..., :], its)


@pytest.mark.parametrize("name", ["gpt", "ff"])  # without and with a bias of logits
def test_new_rows_cost_next_to_nothing(
    name: str, place: Path, other: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, text = place / name, place / "letters.txt"
    text.write_text("".join(Random(1).choices("abcdefghilnorstuy ", k=12_000)))
    done = lmzoo(
        f"fit --model {name} --model.d_model 16 --model.context_length 16 "
        f"--data.path {text} --trainer.max_steps 100 --optimizer.lr 1e-2 "
        f"--data.batch_size 16 --samples.length 0 --trainer.default_root_dir {folder}"
    )
    assert done.code == 0, done.err
    history = History(folder)
    data, told = target_text(history, other)
    state = data.tokenizer.state()
    home, own = (
        corpus_of(history).under(history, **changes)
        for changes in ({"tokenizer_state": state}, {})
    )
    before = losses(history.at(history.last), own, "val").nats_per_token
    start = losses(begin(history, history.last, data, 1), home, "val").nats_per_token
    with monkeypatch.context() as patch:
        patch.setattr(adaptation, "quiet_rows", lambda *_: None)
        control = begin(history, history.last, data, 1)
    random = losses(control, home, "val").nats_per_token
    assert told.new > 10
    assert random > before + 0.1
    assert abs(start - before) < (1e-5 if name == "ff" else 0.05)


def test_it_learns_the_target_and_forgets_the_source(
    history: History, other: Corpus
) -> None:
    data, _ = target_text(history, other)
    state = data.tokenizer.state()
    home = corpus_of(history).under(history, tokenizer_state=state)
    model = begin(history, history.last, data, seed=1)
    found: dict[int, tuple[float, float]] = {}

    def watch(step: int, model) -> None:
        found[step] = tuple(
            losses(model, text, "val").nats_per_token for text in (data, home)
        )

    adapt(model, data, history, at=(0, 80), lr=own_rate(history), watch=watch)
    assert found[80][0] < found[0][0] - 0.3
    assert found[80][1] > found[0][1] + 0.1


def test_a_start_with_new_weights_knows_nothing(
    history: History, other: Corpus
) -> None:
    data, _ = target_text(history, other)
    fresh = begin(history, None, data, seed=1)
    expected = torch.tensor(float(data.vocab_size)).log()
    found = losses(fresh, data, "val").nats_per_token
    assert abs(found - expected) < 0.3


def test_what_is_saved_is_a_run(history: History, other: Corpus, place: Path) -> None:
    model, data, _ = run(history, other, 5)
    file = place / "adapted" / checkpoint_name(65)
    write_checkpoint(as_checkpoint(model, data, history, 65, 5), file)
    again = load(file)
    assert again.step == 65
    assert again.tokenizer.symbols() == data.tokenizer.symbols()
    assert corpus_of(History(file)).arguments["path"] == str(place / "other.txt")
    assert History(file).name == "gpt on home, then 5 steps on other"
    assert history.name == "gpt on home"  # the control
    done = lmzoo(f"export {file} --to safetensors --out {place / 'out'}")
    assert done.code == 0, done.err
    assert History(place / "out").name == "gpt on home, then 5 steps on other"
    assert lmzoo(f"generate {file} --max_new_tokens 5").code == 0
    cost = losses(again.model, data, "val").nats_per_token
    assert cost == losses(model, data, "val").nats_per_token


def test_a_model_that_counts_takes_no_steps(place: Path, other: Corpus) -> None:
    done = lmzoo(
        f"fit --model ngram --data.path {place / 'home.txt'} "
        f"--trainer.default_root_dir {place / 'counted'}"
    )
    assert done.code == 0
    counted = History(place / "counted")
    data, _ = target_text(counted, other, "unk")
    with pytest.raises(UsageError, match="counts its text"):
        begin(counted, counted.last, data, 1)
