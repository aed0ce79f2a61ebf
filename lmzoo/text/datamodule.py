"""TextDataModule: any text as batches of next-token prediction."""

from typing import Any, Literal, get_args

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor

from lmzoo.errors import UsageError
from lmzoo.text.loader import PROTOCOLS, EvalLoader, WindowLoader, too_short
from lmzoo.text.preparation import SPLITS, Prepared, prepare
from lmzoo.text.settings import Settings, at_least, one_of, stored_samples
from lmzoo.text.sizes import BatchSizes
from lmzoo.text.spans import Spans
from lmzoo.text.tokenizers import Tokenizer

Order = Literal["random", "epoch", "stream"]


class TextDataModule(LightningDataModule):
    """A corpus, its tokenizer, and loaders over its splits.

    Nothing is read before the tokens are first needed; then they come from the cache,
    or are built into it under a lock, so that each process of a run may ask.

    Args:
        corpus: a named corpus: kjv (the default), pydoc, pysource, tinyshakespeare, or
            one in the folder that LMZOO_CORPORA names.
        path: a file, a folder, a glob, or a list of these: txt, md, any UTF-8; csv, tsv
            and jsonl, whose rows are documents; .gz of each.
        val_path: separate validation text; if empty, the split is cut automatically.
        test_path: separate test text; if empty, the split is cut automatically.
        text_column: the column of csv, tsv and jsonl files that holds the text.
        tokenizer: char, word, byte, bpe, or the path of a tokenizer.json.
        tokenizer_size: most tokens; by default 1,024 (bpe) and 10,000 (word).
        min_frequency: rarer words are unknown (word).
        split_digits: each digit is a token of its own (bpe).
        vocabulary: learn it from the training split, or from all text.
        unknown: symbols outside the vocabulary are read as <unk>, skipped, or refused.
        keep_linebreaks: false joins lines with a space.
        val_fraction: share of the text, after the training part, for validation.
        test_fraction: share of the text, at its end, for the final test.
        context_length: tokens in a training window.
        batch_size: windows in a training batch, over all processes.
        batch_size_schedule: optimizer steps -> windows in a batch from then on, as
            {50000: 1024, 115000: 2048} after a batch_size of 512 (PaLM's, Chowdhery et
            al. 2022, arXiv 2204.02311).
        eval_batch_size: windows in an evaluation batch, over all processes.
        order: random windows, each epoch every token once, or contiguous streams.
        max_train_tokens: use only the first tokens of the training split.
        max_val_tokens: use only the first tokens of the validation split.
        seed: decides the order of the windows.
        streams: rows of the evaluation with carried state.
        stride: tokens from one evaluation window to the next, where the model has no
            smaller window of its own; 1 gives every target the full context, at
            context_length times the work. By default windows stand side by side.
        tokenizer_state: a tokenizer as a checkpoint stores it, used as it is.
        extend_tokenizer: add the training text's new characters or words to it.

    Attributes:
        protocol: how to evaluate: ``windows``, or ``carried`` for models that keep a
            state from chunk to chunk.

    Raises:
        UsageError: an option outside its range.
    """

    def __init__(
        self,
        corpus: str | None = None,
        path: str | list[str] | None = None,
        val_path: str | list[str] | None = None,
        test_path: str | list[str] | None = None,
        text_column: str | None = None,
        tokenizer: str = "char",
        tokenizer_size: int | None = None,
        min_frequency: int = 1,
        split_digits: bool = False,
        vocabulary: Literal["train", "all"] = "train",
        unknown: Literal["unk", "skip", "error"] = "unk",
        keep_linebreaks: bool = True,
        val_fraction: float = 0.05,
        test_fraction: float = 0.05,
        context_length: int = 64,
        batch_size: int = 16,
        batch_size_schedule: dict[int, int] | None = None,
        eval_batch_size: int = 64,
        order: Order = "random",
        max_train_tokens: int | None = None,
        max_val_tokens: int | None = None,
        seed: int = 1337,
        streams: int = 16,
        stride: int | None = None,
        tokenizer_state: dict[str, str | int | bool | list[str]] | None = None,
        extend_tokenizer: bool = False,
    ) -> None:
        super().__init__()
        at_least(1, context_length=context_length, batch_size=batch_size)
        at_least(1, eval_batch_size=eval_batch_size, streams=streams)
        at_least(1, stride=stride)
        at_least(0, seed=seed)
        if seed >= 1 << 32:
            raise UsageError(f"--data.seed {seed}: give a number below 2**32")
        one_of(get_args(Order), order=order)
        BatchSizes(batch_size, batch_size_schedule)  # refused now
        self.settings = Settings(
            corpus=corpus,
            path=path,
            val_path=val_path,
            test_path=test_path,
            text_column=text_column,
            keep_linebreaks=keep_linebreaks,
            val_fraction=val_fraction,
            test_fraction=test_fraction,
            tokenizer=tokenizer,
            tokenizer_size=tokenizer_size,
            min_frequency=min_frequency,
            split_digits=split_digits,
            vocabulary=vocabulary,
            unknown=unknown,
            max_train_tokens=max_train_tokens,
            max_val_tokens=max_val_tokens,
            tokenizer_state=tokenizer_state,
            extend_tokenizer=extend_tokenizer,
        )
        self.context_length = context_length
        self.batch_size = batch_size
        self.batch_size_schedule = batch_size_schedule
        self.eval_batch_size = eval_batch_size
        self.order = order
        self.seed = seed
        self.streams = streams
        self.stride = stride
        self.protocol: str = "windows"
        self._position = 0
        self._left_out: tuple[int, int] = (0, 0)  # samples not trained on, [begin, end)
        self._train_loader: WindowLoader | None = None
        self._prepared: Prepared | None = None

    # what the text is

    @property
    def prepared(self) -> Prepared:
        """The tokens, read or built on first use."""
        if self._prepared is None:
            self._prepared = prepare(self.settings)
        return self._prepared

    @property
    def tokenizer(self) -> Tokenizer:
        """Given, or learned from the training split."""
        return self.prepared.tokenizer

    @property
    def vocab_size(self) -> int:
        """V, the number of token ids."""
        return self.tokenizer.vocab_size

    @property
    def corpus_name(self) -> str:
        """The main text's name, safe as a folder's."""
        return self.prepared.parts[0].corpus.name

    @property
    def notes(self) -> list[str]:
        """What was changed, left out or cut, one line each."""
        notes = list(self.prepared.notes)
        if self._train_loader and (unused := self._train_loader.unused):
            notes.append(
                f"train: {unused:,} tokens do not divide into {self.batch_size} "
                "streams: one epoch leaves them out at its end, the next at its start"
            )
        return notes

    @property
    def train_tokens(self) -> np.ndarray:
        """Ids of the training split, a memory map (n,)."""
        return self.prepared.tokens("train")

    @property
    def val_tokens(self) -> np.ndarray:
        """Ids of the validation split, a memory map (n,)."""
        return self.prepared.tokens("val")

    @property
    def test_tokens(self) -> np.ndarray:
        """Ids of the test split, a memory map (n,)."""
        return self.prepared.tokens("test")

    def has(self, split: str) -> bool:
        """Whether a split holds anything to predict."""
        return len(self.prepared.tokens(_known_split(split))) > 1

    def text(self, split: str) -> str:
        """The normalised text of a split, documents run together, all in memory."""
        return self.prepared.text(_known_split(split))

    def spans(self) -> Spans:
        """What is kept of the training text to tell later what was copied from it."""
        return self.prepared.spans()

    def lengths(self, split: str) -> tuple[Tensor, Tensor]:
        """Characters and UTF-8 bytes of each id in a split, each (V,) float64."""
        chars, sizes = self.prepared.lengths(_known_split(split))
        return torch.from_numpy(chars), torch.from_numpy(sizes)

    def describe(self) -> dict[str, Any]:
        """Where every number comes from, JSON-plain."""
        prepared, tokenizer = self.prepared, self.tokenizer
        splits = {}
        for name, stats in prepared.stats.items():
            skipped = stats.oov if self.settings.unknown == "skip" else 0
            splits[name] = {
                **vars(stats),
                "oov_share": stats.oov / max(1, stats.tokens + skipped),
            }
        separate = {
            f"{part.sizes[0][0]}_sha256": part.scan.sha256
            for part in prepared.parts[1:]
        }
        return {
            "name": self.corpus_name,
            "sha256": prepared.parts[0].scan.sha256,
            **separate,
            "tokens_sha256": prepared.store.sha256,
            "splits": splits,
            "tokenizer": {
                "kind": tokenizer.kind,
                "vocab_size": tokenizer.vocab_size,
                "sha256": tokenizer.sha256(),
            },
            "notes": self.notes,
        }

    # where training stands

    @property
    def position(self) -> int:
        """Samples trained on; set after every batch, stored in checkpoints."""
        return self._position

    @position.setter
    def position(self, samples: int) -> None:
        self._position = samples
        if self._train_loader is not None:
            self._train_loader.position = samples

    def size_at(self, position: int) -> int:
        """Windows in the training batch that begins at ``position``."""
        loader = self._train_loader
        return self.batch_size if loader is None else loader.sizes.at(position)

    def leave_out(self, begin: int, end: int) -> None:
        """Do not train on the samples [begin, end); what is fetched already stays."""
        self._left_out = (begin, end)
        if self._train_loader is not None:
            self._train_loader.left_out = self._left_out

    def state_dict(self) -> dict[str, Any]:
        """All that resuming needs: the position, and what is left out after it."""
        state: dict[str, Any] = {"position": self.position}
        if self.position < self._left_out[1]:
            state["left_out"] = list(self._left_out)
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a stored position.

        Raises:
            UsageError: what is stored is no place in a training text.
        """
        position = stored_samples(state_dict, "position")
        left_out = state_dict.get("left_out", [0, 0])
        ends = dict(enumerate(left_out)) if isinstance(left_out, list | tuple) else {}
        begin, end = (stored_samples(ends, at, "left_out") for at in range(2))
        self.position = position
        self.leave_out(begin, end)

    # loaders

    def transfer_batch_to_device(
        self, batch: Any, device: torch.device, dataloader_idx: int
    ) -> Any:
        """The batch where the model is; on the CPU it is there already."""
        if device.type == "cpu":
            return batch
        return super().transfer_batch_to_device(batch, device, dataloader_idx)

    def setup(self, stage: str | None = None) -> None:
        """Prepare the tokens, and refuse what could not be trained or measured on.

        Raises:
            UsageError: a split without room for one window, or a schedule of sizes for
                rows whose number is fixed.
        """
        if stage == "fit" and self.batch_size_schedule and self.order == "stream":
            raise UsageError(
                "--data.batch_size_schedule: the rows of a carried state do not change "
                "their number; leave it out"
            )
        if stage in (None, "fit"):
            self._require("training", "train", self.context_length + 1)
        if stage in (None, "fit", "validate") and self.settings.val_fraction:
            self._require("validation", "val", 2)
        if stage == "test":
            self._require("test", "test", 2)

    def train_dataloader(self) -> WindowLoader:
        """Endless batches from ``position`` on."""
        rank, world_size = self._rank()
        batches = getattr(self.trainer, "accumulate_grad_batches", 1)
        self._train_loader = WindowLoader(
            self.train_tokens,
            self.context_length,
            self.batch_size,
            self.order,
            self.seed,
            self.position,
            rank,
            world_size,
            BatchSizes(self.batch_size, self.batch_size_schedule, batches),
        )
        self._train_loader.left_out = self._left_out
        return self._train_loader

    def val_dataloader(self) -> EvalLoader | list[Any]:
        """A full pass over the validation split; an empty list if there is none."""
        return self.eval_loader("val")

    def test_dataloader(self) -> EvalLoader | list[Any]:
        """A full pass over the test split; an empty list if there is none."""
        return self.eval_loader("test")

    def eval_loader(self, split: str) -> EvalLoader | list[Any]:
        """A full pass over a split, each target counted once, under ``protocol``."""
        tokens = self.prepared.tokens(_known_split(split))
        if not len(tokens):
            return []
        if self.protocol not in PROTOCOLS:
            raise ValueError(
                f"protocol: expected one of {PROTOCOLS}, given {self.protocol!r}"
            )
        model = getattr(self.trainer, "lightning_module", None)
        window = getattr(model, "window", None)
        size, overlap = self.context_length, window - 1 if window else 0
        if self.stride is not None and not window:
            size, overlap = self.stride, max(0, self.context_length - self.stride)
        rank, world_size = self._rank()
        return EvalLoader(
            tokens,
            size,
            self.eval_batch_size,
            overlap=overlap,
            streams=self.streams if self.protocol == "carried" else None,
            rank=rank,
            world_size=world_size,
            lengths=self.lengths(split),
        )

    def _rank(self) -> tuple[int, int]:
        if self.trainer is None:
            return 0, 1
        return self.trainer.global_rank, self.trainer.world_size

    def _require(self, what: str, split: str, needed: int) -> None:
        given = len(self.prepared.tokens(split))
        if given < needed:
            raise UsageError(f"{self.corpus_name}: {too_short(what, given, needed)}")

    def __getstate__(self) -> dict[str, Any]:
        # another process maps the tokens itself; a pickled map would be a copy
        return self.__dict__ | {"_prepared": None, "_train_loader": None}


def _known_split(split: str) -> str:
    if split not in SPLITS:
        raise ValueError(f"split: expected one of {SPLITS}, given {split!r}")
    return split
