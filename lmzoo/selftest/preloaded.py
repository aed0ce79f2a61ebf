"""What the fork server imports before its first fork, so that no fork has to.

Nothing here runs an operation or starts a thread: a fork is as a fresh process.
"""

import contextlib
import importlib
import os

from lmzoo.selftest.forks import own

HEAVY = (
    "lmzoo.cli.trainer",
    "lmzoo.models.gpt",
    "lightning.pytorch.loggers",
    "safetensors.torch",
    "tokenizers",
    "torch.utils.tensorboard",
    "transformers",
    "lmzoo.analysis.sensitivity",
    "lmzoo.compare.report",
    "lmzoo.export",
    "lmzoo.testing",
    "lmzoo.text.labelled",
    "lmzoo.training.telemetry",
)

for name in set(os.environ) - set(own(os.environ)):
    del os.environ[name]  # Lightning asks for its rank as it is imported
os.environ["HF_HUB_OFFLINE"] = "1"  # read as it is imported; see lab.Case.fresh
for name in HEAVY:
    with contextlib.suppress(ImportError):  # some are optional
        importlib.import_module(name)
