"""``--model.body``: the body of a classifier, by name, or out of a run or a folder."""

import inspect
import json
from typing import Any

import yaml

from lmzoo import runs
from lmzoo.cli.arguments import Request
from lmzoo.errors import UsageError
from lmzoo.models.classifier import (
    Classifier,
    PooledClassifier,
    can_be_body,
)
from lmzoo.models.classifier import bodies as names_of_bodies
from lmzoo.registry import models

FINE_TUNING: dict[str, Any] = {  # the recipe where the body's weights are given
    "optimizer.lr": 5e-5,
    "lr_scheduler.warmup_steps": 50,
}


def reads_body(cls: type) -> bool:
    """Whether a class is a classifier with a body of another model."""
    return issubclass(cls, Classifier) and "body" in inspect.signature(cls).parameters


def settle(request: Request, cls: type) -> tuple[dict[str, Any], runs.Run | None]:
    """The constructor arguments that describe the body, and the run it starts from.

    Raises:
        UsageError: no such model, run or folder, or options that its class lacks.
    """
    stated = request.section("model")
    name = request.body or stated.get("body")
    if name is None:
        name = inspect.signature(cls).parameters["body"].default
    typed = {**(stated.get("body_arguments") or {}), **_typed(request)}
    arguments: dict[str, Any] = {"body": name}
    run = None
    if name not in models.entries()[0]:
        run = _opened(name)
        if run.stored["model"] == "classifier":
            return _of_classifier(run, typed)
        kept = {k: v for k, v in run.stored["arguments"].items() if k != "vocab_size"}
        if changed := sorted(key for key in typed if typed[key] != kept.get(key)):
            raise UsageError(
                f"--model.body.{changed[0]}: the body is that of {name}, built as it "
                f"was; leave it out"
            )
        arguments["body"], typed = run.stored["model"], kept
    if not can_be_body(models.load(arguments["body"])):
        raise UsageError(
            f"--model.body {name}: no body for a classifier; choose a run, a folder, "
            f"or one of {names_of_bodies()}"
        )
    _require_known(arguments["body"], typed)
    arguments["body_arguments"] = typed or None
    return arguments, run


def _of_classifier(
    run: runs.Run, typed: dict[str, Any]
) -> tuple[dict[str, Any], runs.Run]:
    """The body of another classifier."""
    stored = run.stored["arguments"]
    if typed:
        raise UsageError(
            f"--model.body.{next(iter(typed))}: the body is that of {run.path}; leave "
            f"it out"
        )
    arguments = {key: stored.get(key) for key in ("body", "body_arguments")}
    kept = {"context_length": stored["context_length"]}
    arguments["body_arguments"] = {**kept, **(arguments["body_arguments"] or {})}
    return arguments, run


def load(model: Any, run: runs.Run) -> str:
    """Give the body of ``model`` the weights of ``run``; a line that says so."""
    body: Any = run.member
    if isinstance(body, PooledClassifier):
        body = body.body
    else:
        body.take_head()
    model.body.load_state_dict(body.state_dict())
    return f"the body starts from {run.path}"


def _opened(name: str) -> runs.Run:
    try:
        return runs.load(name)
    except UsageError as error:
        if "no such run folder" not in str(error):
            raise
        raise UsageError(
            f"--model.body {name}: no such model, run or folder; models: "
            f"{names_of_bodies()}"
        ) from error


def _typed(request: Request) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, text in request.body_arguments:
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise UsageError(f"--model.body.{key} {text}: cannot be read") from error
        if not key:
            if not isinstance(value, dict):
                raise UsageError("--model.body_arguments: give a JSON object")
            found.update(value)
        else:
            found[key] = value
    return json.loads(json.dumps(found, default=str))


def _require_known(name: str, arguments: dict[str, Any]) -> None:
    known = list(inspect.signature(models.load(name)).parameters)
    for key in arguments:
        if key not in known:
            raise UsageError(
                f"--model.body.{key}: {name} has no such argument; it has "
                f"{', '.join(known[1:])}"
            )
