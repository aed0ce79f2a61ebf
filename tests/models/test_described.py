"""A foreign configuration is only data."""

import pytest

from lmzoo.models.described import NO_DATA, described
from lmzoo.models.pretrained import Pretrained

SMALL = {"model_type": "gpt2", "n_embd": 16, "n_layer": 1, "n_head": 2}


def test_what_could_fetch_or_run_code_is_left_out_at_every_level() -> None:
    evil = dict.fromkeys(NO_DATA, "evil/kernel")
    kind, settings = described({**SMALL, **evil, "text_config": {**evil, "n": [1]}})
    assert kind == "gpt2"
    assert settings == {
        "n_embd": 16,
        "n_layer": 1,
        "n_head": 2,
        "text_config": {"n": [1]},
    }


def test_a_kernel_that_a_configuration_names_is_not_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    utilities = pytest.importorskip("transformers.modeling_utils")
    asked = []

    def load(name: str, *_: object, **__: object) -> None:
        asked.append(name)
        raise ImportError("no kernel here")

    monkeypatch.setattr(utilities, "lazy_import_flash_attention", load)
    source = {**SMALL, "vocab_size": 9, "attn_implementation": "evil/kernel"}

    Pretrained(9, 8, source=source)

    assert asked == []
    from transformers import AutoConfig, AutoModelForCausalLM  # the control

    settings = {key: value for key, value in source.items() if key != "model_type"}
    config = AutoConfig.for_model("gpt2", **settings)
    with pytest.raises(ImportError):
        AutoModelForCausalLM.from_config(config)
    assert asked == ["evil/kernel"]
