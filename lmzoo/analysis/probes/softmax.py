"""What comes next, over training: top choices, entropy, and when they settle."""

import math
from collections.abc import Sequence

from lmzoo.analysis.history import History, open_history
from lmzoo.analysis.passes import context_rule
from lmzoo.analysis.probes.expectation_charts import figures
from lmzoo.analysis.probes.expectations import (
    Looks,
    Names,
    Text,
    data_of,
    look,
    rows_of,
    texts_for,
    unit,
)
from lmzoo.analysis.prompts import Prompt, read_prompt
from lmzoo.errors import UsageError
from lmzoo.report.finding import Finding
from lmzoo.report.table import Table
from lmzoo.report.words import count, decimals, listed, percent, plural, visible
from lmzoo.scoring.common import token_names

TEXT = 4_000  # tokens of another corpus, where their number is not given
LONGEST = 200  # characters of a continuation


def softmax(
    run: "str | History",
    *,
    prompt: str = "",
    checkpoints: str = "~5",
    characters: int = 3,
    top: int = 7,
    entropy_text: int = 0,
    corpus: str = "",
) -> Finding:
    """The likeliest next characters after a prompt, and their entropy over training.

    Each checkpoint goes on from the prompt by itself, always with its likeliest
    character; entropies are in bits, averaged over all kept checkpoints' continuations
    and, if asked for, over held-out text of the run and of another corpus.

    Args:
        run: a run folder or one checkpoint
        prompt: the text to continue; must be given
        checkpoints: shown in the table: ~5 for five evenly spread, all, best, last, or
            steps as 500,1000; entropy is followed over all that were kept
        characters: tokens to continue with, one after another
        top: likeliest characters to show for each
        entropy_text: tokens of held-out text to average the entropy over; 0 for none
        corpus: another text, out of domain, to average it over too

    Raises:
        UsageError: an empty prompt, an option out of its range, or no such checkpoint.
    """
    for name, value, most in (("characters", characters, LONGEST), ("top", top, 1000)):
        if not 1 <= value <= most:
            raise UsageError(f"--{name} {value}: give 1 to {most:,}")
    if entropy_text < 0:
        raise UsageError(f"--entropy_text {entropy_text}: give 0 (none) or more")
    history = open_history(run)
    chosen = history.choose(checkpoints)
    given = read_prompt(history, prompt)
    texts = texts_for(history, entropy_text or (TEXT if corpus else 0), corpus)
    looks = look(history, given, characters, texts)
    names = token_names(history.tokenizer)
    return Finding(
        "softmax",
        f"What comes next after {prompt!r}: {history.name}",
        text=_said(history, looks, given, names, texts),
        tables=[
            _table(looks, chosen, top, names),
            *_entropy_table(looks, texts, names),
        ],
        figures=figures(history, given.text, looks, names, texts),
        notes=_notes(history, looks, given, texts),
        rows=rows_of(looks, top, names),
        data=data_of(history, looks, given, names, texts),
    )


# ---- words ---------------------------------------------------------------------------


def _said(
    history: History,
    looks: Looks,
    given: Prompt,
    names: Names,
    texts: Sequence[Text],
) -> list[str]:
    steps, last = looks.steps, looks.last
    made = "".join(names(token) for token in last.tokens)
    chances = listed([f"{p:.2f}" for p in last.chosen.tolist()])
    said = [
        f"After {given.text!r} the last checkpoint (step {steps[-1]:,}) goes on with "
        f"{visible(made)}, at probabilities {chances}."
    ]
    if len(steps) == 1:
        return [*said, "One checkpoint: how the choices came about cannot be told."]
    means = {step: float(looks.own[step].entropies.mean()) for step in steps}
    low = min(steps, key=lambda step: means[step])
    made = plural(len(last.tokens), f"generated {unit(history)}")
    said.append(
        f"The mean entropy over {made} was "
        f"{means[steps[0]]:.2f} bits at step {steps[0]:,} and {means[steps[-1]]:.2f} "
        f"at step {steps[-1]:,}; it was lowest at step {low:,} ({means[low]:.2f})."
    )
    said.append(_settling(looks, names))
    return said + _abroad(looks, texts)


def _settling(looks: Looks, names: Names) -> str:
    """From which step on the choices stay as they are."""
    settled, steps = looks.settled, looks.steps
    if settled[0] is None:
        return (
            f"The top choice has not hardened: the checkpoint before the last (step "
            f"{steps[-2]:,}) still prefers another first one."
        )
    first = visible(names(looks.last.tokens[0]))
    line = f"The first top choice, {first}, stays from step {settled[0]:,} on"
    if settled[0] == steps[0]:
        line = f"The first top choice, {first}, is the same at every checkpoint"
    whole = settled[-1]
    if len(settled) > 1:
        line += (
            f", all {len(settled)} from step {whole:,} on"
            if whole is not None
            else f"; all {len(settled)} together are still changing at the end"
        )
    return f"{line} (of {len(steps)} checkpoints from step {steps[0]:,})."


def _abroad(looks: Looks, texts: Sequence[Text]) -> list[str]:
    """In domain and out of it, at the last checkpoint."""
    step, said = looks.steps[-1], []
    found = [(text, looks.texts[text.name][step]) for text in texts]
    for place, (text, one) in enumerate(found):
        entropy, cost = one["entropy"] or 0.0, one["cross_entropy"] or 0.0
        said.append(
            f"On {count(len(text.where.targets))} tokens of {text.name} "
            f"({'out of' if place else 'in'} domain) it expects {entropy:.2f} bits a "
            f"token (entropy) and pays {cost:.2f} (cross-entropy): "
            f"{_calibration(entropy, cost)}"
        )
    return said


def _calibration(entropy: float, cost: float) -> str:
    if abs(cost - entropy) < 0.1:
        return "on average about as uncertain as it should be."
    if cost > entropy:
        return f"too sure of itself by {cost - entropy:.2f} bits."
    return f"less sure than it could be, by {entropy - cost:.2f} bits."


def _notes(
    history: History, looks: Looks, given: Prompt, texts: Sequence[Text]
) -> list[str]:
    notes = [
        "each checkpoint continues the prompt by its own likeliest token (no "
        "sampling, no seed); the chart of the final choices follows instead those of "
        "the last checkpoint, the same context for all",
        f"entropy in bits; not knowing anything would be "
        f"{_uniform(history):.2f} bits over {history.run.model.vocab_size} tokens; ␣ "
        "is a space, ↵ a line break",
        *given.notes,
    ]
    for text in texts:
        notes += _note(text, history)
    return notes


def _note(text: Text, history: History) -> list[str]:
    size, whole = len(text.where.targets), len(text.where.tokens) - 1
    share = "all" if text.where.whole else f"{percent(size / whole)}, evenly spread,"
    described = text.data.describe()["splits"][text.split]
    policy = text.data.settings.unknown
    done = {"skip": "left out", "unk": "read as <unk>"}.get(policy, policy)
    return [
        f"{text.name}: {share} of its {text.split} part; "
        f"{context_rule(text.where, history.run.model)}; "
        f"{percent(described['oov_share'], 2)} of that part lies outside the "
        f"vocabulary, {done}"
    ]


def _uniform(history: History) -> float:
    return math.log2(history.run.model.vocab_size)


# ---- tables --------------------------------------------------------------------------


def _table(looks: Looks, chosen: Sequence[int], top: int, names: Names) -> Table:
    """The likeliest characters at each place of each chosen checkpoint's own path."""
    width = min(top, looks.last.probabilities.shape[1])
    rows = []
    for step in chosen:
        path = looks.own[step]
        for place, entropy in enumerate(path.entropies.tolist()):
            best = [
                f"{visible(names(token))} {p:.2f}"
                for token, p in path.top(place, width)
            ]
            before = "".join(names(token) for token in path.tokens[:place])
            after = f"…{visible(before)}" if place else "prompt"
            rows.append([count(step), after, *best, f"{entropy:.2f}"])
    heads = ["step", "after", *map(str, range(1, width + 1)), "bits"]
    caption = (
        f"The {width} likeliest next tokens with their probabilities, along each "
        "checkpoint's own continuation; bits: entropy"
    )
    return Table(heads, rows, caption, words=tuple(range(1, width + 2)))


def _entropy_table(looks: Looks, texts: Sequence[Text], names: Names) -> list[Table]:
    """Mean entropies at every kept checkpoint."""
    if len(looks.steps) < 2 and not texts:
        return []
    heads, caption = ["step", "continuation", "generated"], "Bits, means, at every kept"
    caption += " checkpoint; generated: entropy along the continuation"
    for text, domain in zip(texts, ("in", "out"), strict=False):
        heads += [f"{domain}: entropy", f"{domain}: paid"]
        caption += f"; {domain} of domain: {text.name}" if domain == "out" else (
            f"; in domain: {text.name}"
        )  # fmt: skip
    caption += "; paid: cross-entropy" if texts else ""
    rows = []
    for step in looks.steps:
        path = looks.own[step]
        row = [
            count(step),
            visible("".join(names(token) for token in path.tokens)),
            decimals(float(path.entropies.mean()), 2),
        ]
        for text in texts:
            one = looks.texts[text.name][step]
            row += [decimals(one["entropy"], 2), decimals(one["cross_entropy"], 2)]
        rows.append(row)
    return [Table(heads, rows, caption, words=(1,))]
