"""A small run of each kind of member, trained when a test first asks for it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.runner import lmzoo

SIZES = {
    "gpt": "--model.d_model 16 --model.num_layers 1 --model.num_heads 2",
    "lstm": "--model.d_model 16",
    "carried": "--model.d_model 16 --model.carry_state true --data.order stream",
    "ff": "--model.d_model 8 --model.d_hidden 16",
    "conv": "--model.d_model 16",
    "bigram": "",
    "ngram": "",
}
MEMBERS = ("gpt", "lstm", "ff", "conv", "bigram")
BIGRAM = '''
from torch import Tensor, nn

from lmzoo import LanguageModel, register_model


@register_model("bigram")
class Bigram(LanguageModel):
    """A table of next-token logits."""

    def __init__(self, vocab_size: int, context_length: int = 64) -> None:
        super().__init__()
        self.table = nn.Embedding(vocab_size, vocab_size)
        nn.init.zeros_(self.table.weight)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.table(tokens)
'''
STORY = "the quick brown fox jumps over the lazy dog and sleeps\n"
EXTRA = "pack my box with five dozen liquor jugs\n"

Zoo = Callable[[str], Path]


@pytest.fixture(scope="session")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Zoo:
    """Name of a member -> its run folder, with checkpoints of steps 10, 20 and 30."""
    folder, done = tmp_path_factory.mktemp("zoo"), {}
    text, plugin = folder / "story.txt", folder / "bigram.py"
    text.write_text("".join(STORY if n % 3 else EXTRA for n in range(200)))
    plugin.write_text(BIGRAM)

    def run(name: str) -> Path:
        if name not in done:
            done[name] = train(name, folder / name, text, plugin)
        return done[name]

    return run


def train(name: str, folder: Path, text: Path, plugin: Path) -> Path:
    """Thirty steps, validated and kept every ten."""
    model = "lstm" if name == "carried" else name
    line = f"fit --model {model} {SIZES[name]} --data.path {text}"
    line += f" --trainer.default_root_dir {folder} --samples.length 8"
    if name != "ngram":
        line += " --model.context_length 16 --data.batch_size 4 --trainer.max_steps 30"
        line += " --checkpoints.every_n_steps 10 --trainer.val_check_interval 10"
    if name == "bigram":
        line += f" --plugin {plugin}"
    result = lmzoo(line)
    assert result.code == 0, result.err
    return folder
