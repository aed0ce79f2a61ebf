"""The recipe of a run, and how it is told."""

from lmzoo.compare import recipes
from lmzoo.compare.caveats import caveats
from lmzoo.compare.reading import Comparison
from tests.compare.synthetic import results

IDENTITY = {
    "model": "gpt",
    "model.d_model": 48,
    "model.d_head": None,
    "model.tie_embeddings": False,
    "model.bias": True,
    "data.batch_size": 16,
    "optimizer.class_path": "torch.optim.AdamW",
    "optimizer.lr": 0.0021345678,
    "optimizer.betas": [0.9, 0.99],
    "optimizer.foreach": None,
    "lr_scheduler.class_path": "lmzoo.training.optimizers.WarmupCosine",
    "lr_scheduler.warmup_steps": 60,
    "trainer.precision": "32-true",
    "trainer.accumulate_grad_batches": 2,
    "trainer.gradient_clip_val": 1.0,
}


def test_a_step_is_counted_with_accumulation() -> None:
    made = recipes.recipe(IDENTITY, 64)
    assert (made["batch"], made["batch_tokens"]) == (32, 2048)
    assert made["model"] == {"d_model": 48, "tie_embeddings": False, "bias": True}
    assert made["optimizer"]["name"] == "AdamW"
    without = {k: v for k, v in IDENTITY.items() if not k.startswith("lr_scheduler")}
    assert recipes.recipe(without, 64)["schedule"] is None


def test_every_label_has_its_line() -> None:
    data = results(("gpt", "ngram"))
    assert recipes.table(Comparison(data)) is None  # the control: nothing is known
    for cell in data["cells"]:
        cell["recipe"] = recipes.recipe(IDENTITY, 64)

    made = recipes.table(Comparison(data))

    assert made
    lines = {row[0]: row[1:] for row in made.rows}
    assert lines["gpt"] == [
        "d_model 48; bias",
        "2,048 (32 windows)",
        "0.002135",
        "AdamW: betas 0.9, 0.99",
        "WarmupCosine: warmup_steps 60",
        "1",
        "32-true",
    ]
    assert set(lines["ngram"][1:]) == {"–"}


def test_unequal_batches_are_told() -> None:
    data = results(("gpt", "lstm"))
    for cell in data["cells"]:
        cell["recipe"] = recipes.recipe(IDENTITY, 64)
    said = "does not take the same number of tokens"
    assert said not in " ".join(caveats(Comparison(data)))

    for cell in data["cells"]:
        if cell["model"] == "lstm":
            cell["recipe"] = recipes.recipe(IDENTITY, 10)
    assert f"{said}: 320 for lstm and 2,048 for gpt." in " ".join(
        caveats(Comparison(data))
    )
