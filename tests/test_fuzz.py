"""Any text and any line: each works, or ends in one line; nothing else ever happens."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lmzoo import runs
from lmzoo.cli import COMMANDS
from lmzoo.errors import UsageError
from lmzoo.files import write_atomically
from lmzoo.text.preparation import prepare
from lmzoo.text.settings import Settings
from lmzoo.text.tokenizers import from_state
from tests.cli.runner import Result, fit, lmzoo

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


LIGHT = [name for name in COMMANDS if name not in ("app", "bench", "compare", "study")]


@settings(max_examples=80, deadline=None, suppress_health_check=SLOW)
@given(
    command=st.one_of(st.sampled_from(LIGHT), st.text(max_size=6)),
    words=st.lists(option, min_size=1, max_size=4),
)
def test_any_line_without_a_run_works_or_ends_in_one_line(
    command: str, words: list[str], tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if command in ("fit", "check"):
        words = [*words, "--nothing"]  # what would train or prove for seconds
    check(typed([command, *words]))


def check(result: Result) -> None:
    assert result.code in (0, 2), result.err
    assert "Traceback" not in result.err
    errors = [one for one in result.err.splitlines() if one.startswith("error: ")]
    assert len(errors) == (result.code == 2)
