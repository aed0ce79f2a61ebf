"""Which positions of a prompt a next token depends on, by five methods."""

from typing import Any

import torch

from lmzoo.analysis.attributions import EMBEDDING, METHODS, Quantity, Question
from lmzoo.analysis.history import History, names_apart, open_history
from lmzoo.analysis.probes.importance import Look
from lmzoo.analysis.probes.importance_words import finding
from lmzoo.analysis.prompts import Prompt, one_token, read_prompt
from lmzoo.errors import UsageError
from lmzoo.report.finding import Finding
from lmzoo.scoring.common import ready, token_names
from lmzoo.text.tokenizers import Tokenizer

ALL = "all"
FIRST_TRIED = (" ", "e", "a", "\n")  # baseline tokens


def attribution(
    run: "str | History",
    *,
    prompt: str = "",
    target: str = "",
    methods: str = "grad_norm",
    checkpoints: str = "last",
    against: str = "",
    quantity: Quantity = "log-probability",
    layer: str = EMBEDDING,
    baseline: str = "",
) -> Finding:
    """Show how much each position of a prompt matters to one next token.

    Args:
        run: a run folder, a checkpoint file or an exported folder
        prompt: the text before the token in question
        target: that token, one character of a character model, or its name, as <eod>
            or <0xC3>; by default the token that the model itself finds most likely
        methods: grad_norm, input_x_gradient, grad_cam, integrated_gradients,
            occlusion; several with commas between them, or all
        checkpoints: last, best, all, steps as 500,1000, or ~5 for five evenly spread
        against: a second run or checkpoint, shown beside the first: after transfer
        quantity: what is differentiated, the target's log-probability or its logit
        layer: where grad_cam looks, the embedding or a block before the last
        baseline: the token that occlusion puts in place of each; by default a space
    """
    history, names = open_history(run), _methods(methods)
    steps, read = history.choose(checkpoints), read_prompt(history, prompt, window=True)
    tokenizer, notes = history.tokenizer, [*read.notes]
    wanted = (
        one_token(tokenizer, target, "--target")
        if target
        else _likeliest(history, steps[-1], read)
    )
    named = [history.name]
    options = {"quantity": quantity, "layer": layer, "baseline": baseline}
    lenient = methods == ALL
    beside: list[Look] = []
    if against:
        other = open_history(against)
        named = names_apart([history, other])
        again = read_prompt(other, prompt, window=True)
        if again.labels != read.labels:
            raise UsageError(
                f"--against {against}: it reads the prompt as other tokens than "
                f"{history.path} does; give a run with the same kind of tokenizer"
            )
        same = _there(wanted, tokenizer, other)
        beside = _looks(other, [other.last], again, same, names, notes, options,
                        lenient, named[1])  # fmt: skip
    looks = _looks(history, steps, read, wanted, names, notes, options, lenient,
                   named[0])  # fmt: skip
    if not looks:
        raise UsageError(f"{history.path}: none of the methods works for this model")
    shown = token_names(tokenizer)(wanted)
    return finding(history, read, shown, not target, looks, beside, notes)


def _methods(given: str) -> list[str]:
    names = list(METHODS) if given == ALL else [n.strip() for n in given.split(",")]
    if wrong := [name for name in names if name not in METHODS]:
        raise UsageError(
            f"--methods: no method {wrong[0]!r}; there are {', '.join(METHODS)} and all"
        )
    return list(dict.fromkeys(names))


def _there(token: int, tokenizer: Tokenizer, other: History) -> int:
    """The id of the same token in another run's vocabulary.

    Raises:
        UsageError: it is not there.
    """
    if tokenizer.sha256() == other.tokenizer.sha256():
        return token
    symbol, symbols = tokenizer.symbols()[token], other.tokenizer.symbols()
    if symbol not in symbols:
        raise UsageError(
            f"--against {other.path}: its vocabulary lacks the target {symbol!r}"
        )
    return symbols.index(symbol)


def _likeliest(history: History, step: int, read: Prompt) -> int:
    """The token that the model would choose."""
    model = history.at(step)
    with ready(model), torch.no_grad():
        last = model(read.tokens.to(model.device))[
            0, -1, : history.tokenizer.vocab_size
        ]
    unknown = history.tokenizer.unk_id
    if unknown is not None:
        last[unknown] = -torch.inf
    return int(last.argmax())


def _looks(
    history: History,
    steps: list[int],
    read: Prompt,
    target: int,
    names: list[str],
    notes: list[str],
    options: dict[str, Any],
    lenient: bool,
    called: str,
) -> list[Look]:
    """One for each step and method; with ``lenient`` what cannot be had is noted."""
    baselines = _baselines(history.tokenizer, options["baseline"])
    plain = {key: options[key] for key in ("quantity", "layer")}
    found = []
    for step in steps:
        model = history.at(step)
        tokens = read.tokens.to(model.device)
        question = Question(model, tokens, target, **plain, baselines=baselines)
        logits = Question(model, tokens, target).plain(tokens)
        for name in names:
            try:
                values = METHODS[name](question)
            except UsageError as error:
                if not lenient:
                    raise
                line = f"{name} left out of {called}: {error}"
                notes += [] if line in notes else [line]
                continue
            found.append(Look(called, step, name, values, float(logits)))
    if "occlusion" in names:
        shown = [repr(history.tokenizer.decode([b])) for b in baselines]
        line = f"occlusion puts {shown[0]} in place of each token, and {shown[1]} where"
        notes += [] if line in " ".join(notes) else [f"{line} {shown[0]} stood already"]
    return found


def _baselines(tokenizer: Tokenizer, given: str) -> tuple[int, ...]:
    """The token that stands in, and another for where it stands already."""
    first = [one_token(tokenizer, given, "--baseline")] if given else []
    tried = [tokenizer.encode(text).tolist() for text in FIRST_TRIED]
    usable = [ids[0] for ids in tried if len(ids) == 1 and ids[0] != tokenizer.unk_id]
    return tuple(dict.fromkeys([*first, *usable, 0, 1]))[:2]
