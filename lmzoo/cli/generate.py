"""``lmzoo generate``: continue a text with a run, the tokens shown as they are made."""

import contextlib
import sys
import time
from dataclasses import asdict
from json import dumps
from pathlib import Path
from typing import Any, Literal

import torch

from lmzoo import runs
from lmzoo.cli.command import call
from lmzoo.errors import UsageError
from lmzoo.generation import Continuation, continue_text
from lmzoo.text.readers import Notes, read_stream, read_text

LONGEST_PROMPT = 1 << 24  # characters
Precision = Literal[
    "32-true", "bf16-mixed", "bf16-true", "16-mixed", "16-true", "64-true"
]
TRUE = {
    "16-true": torch.float16,
    "bf16-true": torch.bfloat16,
    "32-true": torch.float32,
    "64-true": torch.float64,
}
MIXED = {"16-mixed": torch.float16, "bf16-mixed": torch.bfloat16}


def run(argv: list[str]) -> int:
    """Print continuations of a prompt; returns the exit code."""
    return call("generate", generate, argv)


def generate(
    run: str,
    *,
    prompt: str = "",
    prompt_file: str = "",
    num_samples: int = 1,
    max_new_tokens: int = 200,
    temperature: float = 0.8,
    top_k: int = 0,
    top_p: float = 1.0,
    repetition_penalty: float = 1.0,
    stop: str = "",
    seed: int = 42,
    cache: bool = True,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    precision: Precision = "32-true",
    json: bool = False,
) -> int:
    """Continue a text with a trained model, token by token.

    Args:
        run: run folder, or one checkpoint file
        prompt: text to continue; without one the model begins a text of its own
        prompt_file: read the prompt from this UTF-8 file, or with - from standard
            input; its last line break belongs to it
        num_samples: continuations; the seed of each is one more than that before it
        max_new_tokens: length of each in tokens, at most
        temperature: 0 takes the likeliest token, 1 samples the model's distribution
        top_k: sample among the k likeliest tokens; 0 among all
        top_p: sample among the likeliest tokens that hold this probability
        repetition_penalty: above 1 makes tokens of the text so far less likely
        stop: end a sample before this string
        seed: same seed, same text
        cache: keep the decoding state; false computes every token anew, for the same
        device: auto takes a GPU if there is one
        precision: as in fit
        json: print one JSON object, on one line, and no text
    """
    settings: dict[str, Any] = {
        "num_samples": num_samples,
        "max_new_tokens": max_new_tokens,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "repetition_penalty": repetition_penalty,
        "stop": stop or None,
        "seed": seed,
        "cache": cache,
    }
    place = _place(device, precision)
    loaded = runs.load(run)
    text = _prompt(prompt, prompt_file)
    model = loaded.model.to(device=place, dtype=TRUE.get(precision))
    made = continue_text(model, loaded.tokenizer, text, **settings)
    for note in made.notes:
        print(f"note: {note}", file=sys.stderr)
    with _mixed(place, precision):
        seconds = _silently(made) if json else _aloud(made, text)
    total = sum(len(sample.tokens) for sample in made.samples)
    speed = {"tokens": total, "seconds": seconds, "tokens_per_second": total / seconds}
    if json:
        settings |= {"device": place, "precision": precision}
        print(dumps(_report(loaded, made, text, settings) | speed))
    elif sys.stdout.isatty():
        print(f"{total:,} tokens, {total / seconds:,.0f} a second", file=sys.stderr)
    return 0


def _aloud(made: Continuation, prompt: str) -> float:
    """Print the first sample while it is made, then the others; seconds of making."""
    with contextlib.suppress(AttributeError):  # a terminal that lacks a character
        sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
    started = time.perf_counter()
    _say(_heading(made, 0) + prompt)
    for number, piece in made:
        if number == 0:
            _say(piece)
    seconds = time.perf_counter() - started
    _say("\n")
    for number in range(1, len(made.samples)):
        text = made.samples[number].text
        _say(f"\n{_heading(made, number)}{prompt}{text}\n")
    return seconds


def _silently(made: Continuation) -> float:
    started = time.perf_counter()
    for _ in made:
        pass
    return time.perf_counter() - started


def _heading(made: Continuation, number: int) -> str:
    """A line above each sample, if there are several."""
    count, seed = len(made.samples), made.samples[number].seed
    return f"--- sample {number + 1} of {count}, seed {seed}\n" if count > 1 else ""


def _say(text: str) -> None:
    print(text, end="", flush=True)


def _report(
    loaded: runs.Run, made: Continuation, prompt: str, settings: dict[str, Any]
) -> dict[str, Any]:
    return {
        "checkpoint": str(loaded.path),
        "model": loaded.stored["model"],
        "step": loaded.step,
        "settings": settings,
        "prompt": prompt,
        "prompt_tokens": made.prompt,
        "notes": made.notes,
        "samples": [asdict(sample) for sample in made.samples],
    }


def _prompt(text: str, file: str) -> str:
    """The prompt from where it stands.

    Raises:
        UsageError: given twice, too long, or a file that is not UTF-8 text.
    """
    if not file:
        return text
    if text:
        raise UsageError("--prompt and --prompt_file are both given; give one")
    stdin = file == "-"
    if stdin and sys.stdin is None:
        raise UsageError("--prompt_file -: standard input is closed")
    pieces = (
        read_stream(sys.stdin.buffer, "standard input", Notes())
        if stdin
        else read_text(Path(file), Notes())
    )
    read = ""
    for piece in pieces:
        read += piece
        if len(read) > LONGEST_PROMPT:
            raise UsageError(
                f"{'standard input' if stdin else file}: a prompt has at most "
                f"{LONGEST_PROMPT:,} characters; give its end"
            )
    return read


def _place(device: str, precision: str) -> str:
    """The device's name for torch.

    Raises:
        UsageError: the device is not there, or cannot compute so.
    """
    present = torch.cuda.is_available()
    if device == "cuda" and not present:
        raise UsageError(
            "--device cuda: torch finds no CUDA device here; give --device cpu"
        )
    place = "cuda" if device != "cpu" and present else "cpu"
    if (place, precision) == ("cpu", "16-mixed"):
        raise UsageError(
            "--precision 16-mixed needs a GPU; on a CPU give bf16-mixed or 32-true"
        )
    return place


def _mixed(place: str, precision: str) -> contextlib.AbstractContextManager[Any]:
    dtype = MIXED.get(precision)
    return torch.autocast(place, dtype) if dtype else contextlib.nullcontext()
