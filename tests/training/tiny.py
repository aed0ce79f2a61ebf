"""The smallest model and data that the base's training step accepts."""

from typing import NamedTuple

import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn

from lmzoo.models.base import LanguageModel


class Batch(NamedTuple):
    tokens: Tensor
    targets: Tensor
    position: int
    first: bool


class Tiny(LanguageModel):
    """Embedding and head."""

    def __init__(self, vocab_size: int, context_length: int = 4) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, 6)
        self.head = nn.Linear(6, vocab_size)
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, T) -> (B, T, V)."""
        return self.head(self.embedding(tokens))


class Successors:
    """Batches of a cycle: each token's successor is the next number."""

    def __init__(self, count: int, vocab_size: int = 5) -> None:
        self.count, self.vocab_size = count, vocab_size

    def __len__(self) -> int:
        return self.count

    def __iter__(self):
        for index in range(self.count):
            row = torch.arange(index, index + 5) % self.vocab_size
            rows = torch.stack([row, (row + 1) % self.vocab_size])
            yield Batch(rows[:, :-1], rows[:, 1:], 2 * index, True)

    def state_dict(self) -> dict:
        return {}

    def load_state_dict(self, state: dict) -> None:
        pass


def trainer(tmp_path, **options) -> Trainer:
    """A quiet Trainer that validates every second step."""
    defaults = {
        "max_steps": 20,
        "val_check_interval": 2,
        "check_val_every_n_epoch": None,
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 1,
        "default_root_dir": tmp_path,
        "use_distributed_sampler": False,
    }
    return Trainer(**{**defaults, **options})
