"""Options that nothing reads are refused before anything is trained."""

from pathlib import Path
from typing import Any

import pytest

from lmzoo.errors import UsageError
from lmzoo.registry import load_plugin, probes
from lmzoo.study.options import check
from lmzoo.study.recipe import read
from tests.cli.runner import lmzoo

HERE = Path(__file__).parent
MEANT = {
    "frequencies": {"top": 80},
    "samples": {"num_samples": 2, "temperature": 1, "prompt": "a"},
    "outputs": {"num_samples": 5},
    "curve": {"max_tokens": 500},
    "matrix": {"split": "both", "checkpoints": "last"},
    "fewshot": {"lr": None, "seeds": 3, "vocabulary": "unk"},
    "softmax": {"characters": 3},
    "attribution": {"methods": "grad_norm", "quantity": "logit"},
}


def prove(options: dict[str, Any]) -> None:
    check(read({"corpora": ["kjv"], "options": options}, "quick.yaml"))


def test_what_is_read_is_taken() -> None:
    prove(MEANT)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"softmax": {"charcters": 3}}, "nothing reads 'charcters'; did you mean"),
        ({"sofmax": {"top": 2}}, "sofmax is no part of a study; did you mean"),
        ({"gradflow": {"position": 2}}, "gradflow is no part of a study"),
        ({"softmax": {"characters": "three"}}, "a whole number, given 'three'"),
        ({"softmax": {"characters": True}}, "a whole number, given True"),
        ({"softmax": {"checkpoints": 500}}, r"text \(in quotes\), given 500"),
        ({"matrix": {"checkpoints": "newest"}}, "best or last, given 'newest'"),
        ({"fewshot": {"lr": "high"}}, "a number or nothing, given 'high'"),
        ({"fewshot": {"start": "last"}}, "nothing reads 'start'"),  # the study decides
        ({"attribution": {"prompt": "a"}}, "nothing reads 'prompt'"),
    ],
)
def test_what_is_not_read_is_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        prove(options)


def test_a_probe_of_ones_own_has_options_too() -> None:
    load_plugin(str(HERE / "probe.py"))
    try:
        prove({"steps-kept": {"factor": 2}})
        with pytest.raises(UsageError, match="nothing reads 'facter'"):
            prove({"steps-kept": {"facter": 2}})
    finally:
        probes.forget("steps-kept")
    with pytest.raises(UsageError, match="steps-kept is no part of a study"):
        prove({"steps-kept": {"factor": 2}})


def test_nothing_is_trained_before_the_refusal(tmp_path: Path) -> None:
    file = tmp_path / "mistyped.yaml"
    file.write_text("corpora: [kjv]\noptions: {softmax: {charcters: 3}}\n")
    result = lmzoo(f"study {file} --out {tmp_path / 'study'}")

    assert result.code == 2
    assert result.err.count("\n") == 1
    assert "did you mean 'characters'" in result.err
    assert not (tmp_path / "study").exists()
