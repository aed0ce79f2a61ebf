"""Names of the zoo by task, for tests that go through all of one kind."""

from lmzoo.registry import models

LANGUAGE_MODELS = [
    name for name in models.entries()[0] if models.load(name).task == "language model"
]
BUILTINS = [name for name in LANGUAGE_MODELS if name in models._builtins]
