"""The findings in sentences say what the data say."""

import re
from itertools import permutations
from statistics import median

import pytest

from lmzoo.compare.paragraph import paragraph
from lmzoo.compare.reading import Comparison
from lmzoo.report.spread import spread
from lmzoo.report.words import count, decimals, p_value, percent, seconds, size
from tests.compare.synthetic import fail, results

NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")


def told(data) -> str:
    return "\n".join(paragraph(Comparison(data)))


def derivable(found: Comparison) -> set[str]:
    """Every number that the data hold, or that two of them make."""
    values: set[str] = {"95", "5", "2", "4"}  # of: 95 %, 5-gram, bz2
    for row in found.rows:
        values |= {decimals(row.figure.mean), decimals(row.figure.half)}
        values |= {count(row.mean("parameters")), count(row.mean("tokens_per_second"))}
        values |= {size(row.mean("peak_memory")).split()[0], str(len(row.cells))}
        values |= {str(cell["context_length"]) for cell in row.cells}
    for one, other in permutations(found.rows, 2):
        for key in ("parameters", "tokens_per_second"):
            if one.mean(key) and other.mean(key):
                values.add(f"{one.mean(key) / other.mean(key):.2f}")
        reached = one.seconds_to(other.figure.mean)
        if reached:
            values.add(seconds(sum(reached) / len(reached)))
            values.add(str(len(reached)))
    for row in found.rows:
        reached = row.seconds_to(found.counted_floor()[1])
        if reached:
            values.add(seconds(sum(reached) / len(reached)))
            values.add(str(len(reached)))
    for pair in found.pairs:
        values.add(decimals(abs(pair.difference)))
        values |= {decimals(abs(end)) for end in pair.interval or ()}
        values |= set(NUMBER.findall(p_value(pair.adjusted)))
        for label in (pair.one, pair.other):
            row = next(row for row in found.rows if row.label == label)
            values.add(percent(abs(pair.difference) / row.figure.mean).split()[0])
    for share in (0.25, 0.5):
        means = []
        for row in found.rows:
            points = [
                [p for p in c["curve"] if 0 < p["seconds"] <= 60 * share]
                for c in row.cells
            ]
            figures = [min(p[found.unit] for p in seed) for seed in points if seed]
            one = spread(figures) if figures else row.figure
            means.append(one.mean)
            values |= {decimals(one.mean), decimals(one.half)}
        values |= {decimals(abs(a - b)) for a, b in permutations(means, 2)}
    values |= {"15", "30"}
    values |= {decimals(value) for value in found.floors().values()}
    halves = [(b - a) / 2 for a, b in (p.interval for p in found.pairs if p.interval)]
    values |= {decimals(median(halves))} if halves else set()
    ties = [pair for pair in found.pairs if pair.verdict == "no difference shown"]
    missing = [cell for cell in found.cells if cell["status"] != "done"]
    lengths = len(ties), len(found.pairs), len(found.cells), len(missing)
    return values | {str(n) for n in lengths} | {"60", "800,000", "20"}


CASES = {
    "six models": lambda: results(),
    "one seed": lambda: results(seeds=(1,)),
    "two tokenizers": lambda: results(("gpt", "lstm"), tokenizers=("char", "bpe")),
    "a tie": lambda: results(("ff", "gru")),
    "one model": lambda: results(("gpt",)),
    "ten seeds": lambda: results(seeds=tuple(range(10))),
    "matched": lambda: results(
        match={"params": 800_000}, tuned={"trials": 20, "sweeps": {}, "chosen": {}}
    ),
}


@pytest.mark.parametrize("case", list(CASES))
def test_every_number_comes_from_the_data(case: str) -> None:
    data = CASES[case]()
    text, allowed = told(data), derivable(Comparison(data))

    numbers = NUMBER.findall(text)

    assert len(numbers) > 5
    assert [n for n in numbers if n not in allowed] == []


def test_another_number_would_be_noticed() -> None:
    data = results()
    assert "2.999" not in derivable(Comparison(data))


def test_the_winner_and_its_lead() -> None:
    data = results()
    found, text = Comparison(data), told(data)

    pair = found.pair("lstm", "ff")

    assert text.startswith("After 60 seconds of training, lstm is best: ")
    assert pair is not None
    share = percent(-pair.difference / found.rows[1].figure.mean)
    assert f"the lead is {-pair.difference:.3f} bits ({share}, 95 % interval" in text
    said = "Better than the 5-gram floor are lstm, ff and gru; worse than it are conv"
    assert said in text


def curves(data, label: str, *bits: float) -> None:
    """Checks of a model at a quarter, a half and the whole of 60 seconds."""
    for cell in data["cells"]:
        if cell["model"] == label:
            cell["curve"] = [
                {
                    "step": 100 * i,
                    "seconds": 15.0 * i,
                    "bits_per_char": b + cell["seed"],
                }
                for i, b in zip((0, 1, 2, 4), (0.1, *bits), strict=True)
            ]


def test_who_leads_on_the_way_is_told() -> None:
    data = results(("gpt", "lstm"), seeds=(0, 0.001, 0.002))
    curves(data, "gpt", 2.5, 2.6, 2.5)
    curves(data, "lstm", 2.8, 2.2, 2.1)
    text = told(data)

    assert (
        "At a quarter of the budget (15 seconds) gpt has the lowest mean of what is "
        in text
    )
    assert "2.501 ± 0.002, 0.300 bits below lstm." in text
    assert (
        "At half of the budget (30 seconds) lstm has the lowest mean of what is "
        in text
    )
    assert "trained, 2.201 ± 0.002, 0.300 bits below gpt." in text
    assert "gpt at a quarter, lstm at half, lstm at the end" in text
    assert "planned for the whole budget" in text
    assert "behind ngram, which counts (2.411)" in told(results())
    data["tuned"] = {"trials": 2, "share": 0.25, "sweeps": {}, "chosen": {}}
    assert "At half of the budget (22.5 seconds) gpt" in told(data)


def test_who_leads_on_the_way_is_not_claimed_where_it_is_not_shown() -> None:
    data = results(("gpt", "lstm"), seeds=(0, 0.2, 0.5))
    curves(data, "gpt", 2.3, 2.2, 2.1)
    curves(data, "lstm", 2.31, 2.21, 2.11)
    assert told(data).count("(the intervals overlap: not shown to lead)") == 2

    one = results(("gpt", "lstm"), seeds=(1,))
    assert told(one).count("(one seed: not shown to lead)") == 2
    for cell in one["cells"]:
        cell["curve"] = cell["curve"][-1:]  # no check before the end
    assert "of the budget" not in told(one)


def test_a_tie_has_no_winner() -> None:
    text = told(results(("ff", "gru")))

    assert "but no single model is shown to be best: " in text
    assert "is not told apart from it" in text
    assert "No difference was shown between ff and gru" in text
    assert " is best" not in text.replace("to be best", "")


def test_a_model_with_one_seed_left_qualifies_the_winner() -> None:
    data = results(("gpt", "lstm"), seeds=(1, 2))
    fail(data, "gpt-char-2", "failed", "out of memory")
    text = told(data)

    assert "lstm is best of the models with more than one finished seed" in text
    assert "on the one seed that both have" in text


def test_a_counted_winner_says_so() -> None:
    text = told(results(("ngram", "conv")))

    assert "ngram (counted, not trained) is best: 2.411 bits" in text
    assert "the same for every seed" in text


def test_the_context_is_what_a_prediction_sees() -> None:
    data = results(("ngram", "lstm"))
    for cell in data["cells"]:
        cell["context_length"] = 64  # of the training windows
    assert "64 tokens for lstm and 4 tokens for ngram" in told(data)


def test_one_seed_ranks_nothing() -> None:
    text = told(results(seeds=(1,)))

    assert "says nothing about training noise" in text
    assert " is best" not in text


def test_bits_per_byte_across_tokenizers() -> None:
    text = told(results(("gpt",), tokenizers=("char", "bpe")))

    assert "ranking is in bits per byte" in text
    assert "bits per character" not in text


def test_what_is_not_shown_is_said() -> None:
    data = results()
    fail(data, "gpt-char-1339", "failed", "out of memory")
    text = told(data)

    assert "Learning rates are each model's own defaults" in text
    assert "Sizes were not matched: from 234,402 to 620,160 parameters" in text
    assert "do not see the same context" in text
    assert "Of 18 runs, 1 failed" in text
    assert "gpt has fewer finished seeds" in text


def test_what_was_made_equal_is_not_called_a_limit() -> None:
    text = told(CASES["matched"]())

    assert "Sizes were matched to 800,000" in text
    assert "The best weights and the learning rates were chosen on the same" in text
    assert "20 trials each" in text
    assert "not matched" not in text
    assert "own defaults" not in text


def test_nothing_finished_yet() -> None:
    data = results(("gpt",), seeds=(1,))
    fail(data, "gpt-char-1", "waiting", "")

    assert told(data) == "No run has finished, so there is nothing to compare yet."
