"""Small runs of several members of the zoo, each trained once."""

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from lmzoo.registry import register_model
from tests.cli.runner import lmzoo
from tests.plugin_example.lmzoo_neighbour import Neighbour

PLUGIN = "test-neighbour"  # a model from elsewhere: each token and its left neighbour
TEXT = "the quick brown fox jumps over a lazy dog, and the dog sleeps on.\n" * 60
SIZES = {
    "gpt": "--model.d_model 16 --model.num_layers 2 --model.num_heads 2",
    "transformer-unmasked": "--model.d_model 16 --model.num_layers 2 "
    "--model.num_heads 2",
    "lstm": "--model.d_model 16 --model.d_hidden 16",
    "ff": "--model.window 4 --model.d_model 8 --model.d_hidden 16",
    "conv": "--model.d_model 8 --model.num_layers 2",
    "mlp": "--model.d_model 8 --model.d_hidden 16",
    "palm": "--model.d_model 16 --model.num_layers 2 --model.num_heads 2",
    "mingru": "--model.d_model 16 --model.d_hidden 16",
    "mamba2": "--model.d_model 16 --model.num_heads 2 --model.d_head 8 "
    "--model.d_state 8",
    "ngram": "",
    PLUGIN: "--model.d_model 8",
}
MEMBERS = ("gpt", "lstm", "ff", "conv", "palm", "mingru", "mamba2", PLUGIN)
_FOLDER = TemporaryDirectory(prefix="lmzoo-zoo-")


@cache
def trained(name: str, options: str = "") -> str:
    """The folder of a run of ``name``: 20 steps, a checkpoint every ten."""
    if name == PLUGIN:  # here: other tests of this process go through the table
        register_model(PLUGIN)(Neighbour)
    folder = Path(_FOLDER.name)
    text = folder / "story.txt"
    text.write_text(TEXT)
    run = folder / f"{name}{len(options)}"
    steps = "" if name == "ngram" else (
        "--trainer.max_steps 20 --checkpoints.every_n_steps 10 "
        "--data.batch_size 4 --samples.length 8"
    )  # fmt: skip
    result = lmzoo(
        f"fit --model {name} {SIZES[name]} --model.context_length 24 {steps} "
        f"--data.path {text} --trainer.default_root_dir {run} {options}"
    )
    assert result.code == 0, result.err
    return str(run)
