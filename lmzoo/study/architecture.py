"""Section II: what was built, from the run's own configuration."""

from lmzoo.analysis.anatomy.diagram import draw
from lmzoo.analysis.history import History, open_history
from lmzoo.report.finding import Finding
from lmzoo.report.table import Table
from lmzoo.report.words import count

NAMED = {  # in the lab's words, and ours
    "num_layers": "layers (n_layer)",
    "num_heads": "heads (n_head)",
    "d_model": "width (n_embd)",
    "d_hidden": "hidden units",
    "context_length": "context (block_size)",
    "vocab_size": "vocabulary",
    "dropout": "dropout",
}


def architecture(run: "str | History") -> Finding:
    """Draw a run's model, and name its sizes.

    Args:
        run: a run folder or one checkpoint
    """
    history = open_history(run)
    model = history.at(history.last)
    arguments = dict(history.run.stored["arguments"])
    sizes = {
        words: arguments[key]
        for key, words in NAMED.items()
        if arguments.get(key) is not None
    }
    parameters = sum(p.numel() for p in model.parameters())
    told = ", ".join(f"{words} {value}" for words, value in sizes.items())
    return Finding(
        f"architecture-{history.model_name}",
        history.name,
        text=[f"{history.model_name}: {told}; {count(parameters)} parameters."],
        tables=[
            Table(
                ["", history.name],
                [
                    *([words, str(value)] for words, value in sizes.items()),
                    ["parameters", count(parameters)],
                ],
            )
        ],
        figures={"architecture": draw(model, history.name)},
        notes=["drawn from a traced pass of the stored model, not from its options"],
        data={
            "arguments": arguments,
            "parameters": parameters,
            "training": dict(history.run.stored.get("training") or {}),
            "data": dict((history.run.stored.get("data") or {}).get("arguments") or {}),
        },
    )
