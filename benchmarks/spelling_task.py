"""Writes configs/tasks/spelling.jsonl: a word, and three with two letters exchanged.

Usage: python benchmarks/spelling_task.py > configs/tasks/spelling.jsonl

The words are common ones of six letters and more; the four choices of an item have the
same letters, so nothing but their order tells them apart.
"""

import json

HEADER = {
    "task": "spelling",
    "what": "Which of four spellings of a common word comes next: one is right, in "
    "three two letters that stand side by side have changed places.",
    "metric": "choice",
    "template": "{prompt}{answer}",
    "separator": "\n",
}
PROMPTS = ("And this is the", "There was a", "He spoke of the", "They saw no")
COMMON = """
people mountain children brother father mother garden daughter servant morning
evening against before between because strength spirit number letter temple silver
golden window winter summer bottle leaves island stranger kingdom harvest journey
covenant chamber candle answer question wisdom knowledge shepherd soldier captain
company country village prophet priest judgment counsel burden branch blessing
builder carpenter danger desert dwelling famine fortress foundation
"""


def items() -> list[dict[str, object]]:
    """One for each word with three different exchanges inside it."""
    made: list[dict[str, object]] = []
    for word in COMMON.split():
        wrong = list(dict.fromkeys(exchanged(word)))[:3]
        if len(wrong) < 3:
            continue
        place = 7 * len(made) % 4  # the right one stands everywhere equally often
        choices = [*wrong[:place], word, *wrong[place:]]
        prompt = PROMPTS[len(made) // 4 % len(PROMPTS)]
        spaced = [f" {choice}" for choice in choices]
        made.append({"prompt": prompt, "choices": spaced, "answer": place})
    return made


def exchanged(word: str) -> list[str]:
    """The word with two inner neighbours exchanged, where they differ."""
    return [
        word[:i] + word[i + 1] + word[i] + word[i + 2 :]
        for i in range(1, len(word) - 2)
        if word[i] != word[i + 1]
    ]


if __name__ == "__main__":
    for line in (HEADER, *items()):
        print(json.dumps(line))
