"""Any text and any line: each works, or ends in one line; nothing else ever happens."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lmzoo import runs
from lmzoo.cli import COMMANDS
from lmzoo.errors import UsageError
from lmzoo.files import write_atomically
from lmzoo.text.preparation import prepare
from lmzoo.text.settings import Settings
from lmzoo.text.tokenizers import from_state
from tests.cli.runner import SMALL, Result, fit, lmzoo

SLOW = (HealthCheck.too_slow, HealthCheck.function_scoped_fixture)
KINDS = ("char", "word", "byte", "bpe")
text = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=300)
content = st.one_of(
    text.map(lambda one: (one * 40).encode()),
    st.binary(max_size=300),
    text.map(lambda one: (one * 9).encode("utf-16")),
)


@settings(max_examples=60, deadline=None, suppress_health_check=SLOW)
@given(content=content, kind=st.sampled_from(KINDS))
def test_any_bytes_are_a_text_or_refused(
    content: bytes, kind: str, tmp_path: Path
) -> None:
    file = tmp_path / "text.txt"
    file.write_bytes(content)
    try:
        prepared = prepare(Settings(path=str(file), tokenizer=kind))
    except UsageError:
        return
    for split in ("train", "val", "test"):
        ids, stats = prepared.tokens(split), prepared.stats[split]
        assert len(ids) == stats.tokens
        assert not len(ids) or int(ids.max()) < prepared.tokenizer.vocab_size
        if kind in ("byte", "bpe"):
            assert prepared.tokenizer.decode(ids) == prepared.text(split)
    chars, _ = prepared.lengths("train")
    total = chars[prepared.tokens("train").astype(int)].sum()
    assert total == pytest.approx(prepared.stats["train"].characters)


plain = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(), inner, max_size=4)
    ),
    max_leaves=12,
)
state = st.one_of(
    plain,
    st.fixed_dictionaries(
        {
            "kind": st.sampled_from((*KINDS, "hf", "pickle")),
            "version": st.one_of(st.just(1), plain),
            "end_of_document": st.one_of(st.booleans(), plain),
        },
        optional={"symbols": plain, "tokenizer": plain},
    ),
)


@settings(max_examples=300, deadline=None, suppress_health_check=SLOW)
@given(state=state)
def test_any_state_is_a_tokenizer_or_refused(state: object) -> None:
    try:
        tokenizer = from_state(state)  # type: ignore[arg-type]
    except UsageError:
        return
    assert tokenizer.decode(tokenizer.encode("")) == ""


@settings(max_examples=150, deadline=None, suppress_health_check=SLOW)
@given(body=st.binary(max_size=400), sealed=st.booleans())
def test_any_bytes_are_no_checkpoint(body: bytes, sealed: bool, tmp_path: Path) -> None:
    file = tmp_path / "step-000000001.ckpt"
    write_atomically(file, body, runs.trailer(body) if sealed else b"")
    with pytest.raises(UsageError, match=r"step-000000001\.ckpt"):
        runs.load(file)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small run, for the commands that read one."""
    folder = tmp_path_factory.mktemp("fuzzed")
    (folder / "ok.txt").write_text("the quick brown fox jumps over it\n" * 80)
    patch = pytest.MonkeyPatch()
    patch.setenv("LMZOO_CACHE", str(folder / "cache"))
    fit(
        f"--data.path {folder / 'ok.txt'} --trainer.max_steps 2 "
        f"--trainer.default_root_dir {folder / 'run'}"
    )
    patch.undo()
    return folder / "run"


NAMES = ("temperature", "top_k", "top_p", "max_new_tokens", "num_samples", "seed")
NAMES += ("prompt", "stop", "text", "file", "json", "stride", "device", "cache", "x")
word = st.one_of(
    st.sampled_from(["-1", "0", "1", "2", "1e9", "nan", "inf", "true", "{}", "[", ""]),
    st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=0x2FFF), max_size=8),
    st.integers(-3, 40).map(str),
    st.floats(-2, 2).map(str),
)
option = st.one_of(
    word,
    st.builds("--{}".format, st.sampled_from(NAMES)),
    st.builds("--{}={}".format, st.sampled_from(NAMES), word),
)
words = st.lists(option, max_size=4)


def typed(argv: list[str]) -> Result:
    """Run a line; a continuation is kept short."""
    short = ["--max_new_tokens=3"] if argv[0] == "generate" else []
    return lmzoo([*argv, *short])


@settings(max_examples=80, deadline=None, suppress_health_check=SLOW)
@given(
    command=st.sampled_from(["generate", "score", "params", "export", "predict"]),
    words=words,
)
def test_any_line_about_a_run_works_or_ends_in_one_line(
    command: str, words: list[str], trained: Path, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    check(typed([command, str(trained), *words]))


# What trains, times or serves for as long as it is told to, once everything that was
# typed has been understood.
LONG = (
    "lmzoo.cli.trainer.TrainCLI._run_subcommand",
    "lmzoo.cli.compare_session.compare",
    "lmzoo.compare.timing.measure",
    "lmzoo.study.engine.conduct",
    "lmzoo.web.server.application",
    "lmzoo.testing.check_model",
    "lmzoo.training.budget.seconds_per_step",
)
STARTED = "it would begin"


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Nothing long is done; how many lines came as far as that."""
    seen = SimpleNamespace(times=0)

    def stop(*given: Any, **options: Any) -> NoReturn:
        seen.times += 1
        raise UsageError(STARTED)

    for place in LONG:
        monkeypatch.setattr(place, stop)
    return seen


@settings(max_examples=80, deadline=None, suppress_health_check=SLOW)
@given(
    command=st.one_of(st.sampled_from([*COMMANDS]), st.text(max_size=6)),
    words=st.lists(option, min_size=1, max_size=4),
)
def test_any_line_without_a_run_works_or_ends_in_one_line(
    command: str, words: list[str], begun: SimpleNamespace, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    check(typed([command, *words]))


PLACES = ("path", "corpus", "dir", "state")  # ends of keys that say where something is
meant = st.one_of(
    word, st.sampled_from(["null", "[]", "[1]", "auto", "cpu", "gpt", "lstm", "adamw"])
)


def keys(trained: Path) -> list[str]:
    """Every option that a run of fit wrote down."""

    def flat(value: Any, name: str) -> list[str]:
        if not isinstance(value, dict) or not value:
            return [name]
        return [one for key in value for one in flat(value[key], f"{name}.{key}")]

    config = yaml.safe_load((trained / "config.yaml").read_text())
    names = {name[1:].replace(".init_args", "") for name in flat(config, "")}
    return sorted(name for name in names if not name.endswith(PLACES))


def test_the_keys_are_those_of_fit(trained: Path) -> None:
    found = keys(trained)
    assert len(found) > 80
    assert {"model.num_layers", "data.batch_size", "trainer.max_steps"} <= set(found)


def test_any_line_of_fit_begins_or_ends_in_one_line(
    begun: SimpleNamespace, trained: Path, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    line = f"fit --model gpt {SMALL} --data.path {trained.parent / 'ok.txt'}".split()
    key = st.sampled_from(keys(trained))

    @settings(max_examples=30, deadline=None, suppress_health_check=SLOW)
    @given(words=st.lists(st.builds("--{}={}".format, key, meant), max_size=3))
    def lines(words: list[str]) -> None:
        check(lmzoo([*line, *words]))

    lines()
    assert begun.times  # some of them are understood


OPTIONS = {
    "compare --models gpt,lstm": (
        *("models", "seeds", "vary", "tokenizers", "parallel", "threads", "launcher"),
        *("match.params", "tune.trials", "timing", "budget.steps", "budget.tokens"),
        *("data.batch_size", "model.d_model", "optimizer.lr", "trainer.max_steps"),
    ),
    "bench": (
        *("models", "lengths", "base", "batch", "rounds", "vocab_size"),
        *("match.params", "threads", "json", "plot"),
    ),
    "study": ("corpora", "parallel", "out"),
    "app": (
        *("port", "max_characters", "max_new_tokens", "max_seconds", "max_waiting"),
        "device",
    ),
    "check": ("plugin", "x"),
}
STUDY = Path(__file__).parents[1] / "configs" / "study_quick.yaml"


@settings(max_examples=40, deadline=None, suppress_health_check=SLOW)
@given(data=st.data(), command=st.sampled_from([*OPTIONS]))
def test_any_line_of_what_takes_long_begins_or_ends_in_one_line(
    data: st.DataObject,
    command: str,
    begun: SimpleNamespace,
    trained: Path,
    tmp_path: Path,
    monkeypatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    about = {"study": [str(STUDY)], "app": [str(trained)], "check": ["gpt"]}
    key = st.sampled_from(OPTIONS[command])
    words = data.draw(st.lists(st.builds("--{}={}".format, key, meant), max_size=3))
    check(lmzoo([*command.split(), *about.get(command, []), *words]))


def check(result: Result) -> None:
    assert result.code in (0, 2), result.err
    assert "Traceback" not in result.err
    errors = [one for one in result.err.splitlines() if one.startswith("error: ")]
    assert len(errors) == (result.code == 2)
