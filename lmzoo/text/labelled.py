"""LabelledDataModule: texts with labels as batches for a classifier."""

import hashlib
import json
from typing import Any, get_args

import numpy as np
from lightning.pytorch import LightningDataModule

from lmzoo.errors import UsageError
from lmzoo.text.corpora import END_OF_DOCUMENT
from lmzoo.text.labelled_files import Example, parts_of, read_examples
from lmzoo.text.labelled_loader import LabelledLoader, LabelledPass
from lmzoo.text.labelled_parts import (
    Part,
    Side,
    divided,
    encoded,
    label_names,
    name_of,
    places_of,
)
from lmzoo.text.readers import Notes
from lmzoo.text.settings import Settings, at_least, one_of, stored_samples
from lmzoo.text.symbols import ListedTokenizer
from lmzoo.text.tokenizers import (
    KINDS,
    Tokenizer,
    from_state,
    read_tokenizer_file,
    train_tokenizer,
)

SPLITS = ("train", "val", "test")


class LabelledDataModule(LightningDataModule):
    """Texts with labels, their tokenizer, and loaders over their parts.

    Args:
        path: a csv, tsv or jsonl file (also .gz), a folder with a folder of texts for
            each label, or a folder that holds such a train part, and perhaps dev and
            test. Columns are found by a header's names, or by place: the one with few
            distinct values is the label.
        val_path: the validation part; else a share of the training part.
        test_path: the test part.
        text_column: the column or field of the text: a name, or a number from 1 in a
            table without a header.
        label_column: the same of the label.
        labels: names of the labels: a list in the order of what stands in the file
            (numbers by size, words by alphabet), or a mapping from it.
        keep_breaks: leave HTML line breaks in the text.
        tokenizer: char, word, byte, bpe, or the path of a tokenizer.json.
        tokenizer_size: most tokens; by default 1,024 (bpe) and 10,000 (word).
        min_frequency: rarer words are unknown (word).
        split_digits: each digit is a token of its own (bpe).
        val_fraction: share of each label's training texts that validates, if there is
            no validation part; the same texts whatever the seed.
        max_train_texts: use only so many training texts, the labels in proportion.
        context_length: most tokens of a text.
        truncation: keep the head or the tail of a longer text.
        batch_size: texts in a training batch, over all processes.
        eval_batch_size: texts in an evaluation batch, over all processes.
        bucket: batches of texts of like length, so that little is padding.
        seed: decides the order of the texts.
        tokenizer_state: a tokenizer as a checkpoint stores it, as JSON text: parsers
            take minutes over the words of a vocabulary.
        extend_tokenizer: add the training texts' new characters or words to it.

    Raises:
        UsageError: an option outside its range.
    """

    stride: int | None = None
    protocol: str = "windows"

    def __init__(
        self,
        path: str | None = None,
        val_path: str | None = None,
        test_path: str | None = None,
        text_column: str | None = None,
        label_column: str | None = None,
        labels: dict[str, str] | list[str] | None = None,
        keep_breaks: bool = False,
        tokenizer: str = "word",
        tokenizer_size: int | None = None,
        min_frequency: int = 1,
        split_digits: bool = False,
        val_fraction: float = 0.1,
        max_train_texts: int | None = None,
        context_length: int = 128,
        truncation: Side = "head",
        batch_size: int = 32,
        eval_batch_size: int = 128,
        bucket: bool = True,
        seed: int = 1337,
        tokenizer_state: str | None = None,
        extend_tokenizer: bool = False,
    ) -> None:
        super().__init__()
        at_least(1, context_length=context_length, batch_size=batch_size)
        at_least(1, eval_batch_size=eval_batch_size, max_train_texts=max_train_texts)
        one_of(get_args(Side), truncation=truncation)
        self.settings = Settings(  # whose checks of the tokenizer's options these are
            path=path,
            val_path=val_path,
            test_path=test_path,
            val_fraction=val_fraction,
            test_fraction=0.0,
            tokenizer=tokenizer,
            tokenizer_size=tokenizer_size,
            min_frequency=min_frequency,
            split_digits=split_digits,
            tokenizer_state=json.loads(tokenizer_state) if tokenizer_state else None,
            extend_tokenizer=extend_tokenizer,
        )
        self.columns = text_column, label_column
        self.given_labels, self.keep_breaks = labels, keep_breaks
        self.max_train_texts = max_train_texts
        self.truncation: Side = truncation
        self.context_length, self.seed, self.bucket = context_length, seed, bucket
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self._position = 0
        self._train_loader: LabelledLoader | None = None
        self._parts: dict[str, Part] | None = None
        self._notes, self._said = Notes(), []

    # ---- what the data is -----------------------------------------------------------

    @property
    def parts(self) -> dict[str, Part]:
        """Train, val and test, read and encoded on first use."""
        return self._ready()

    @property
    def tokenizer(self) -> Tokenizer:
        """Given, or learned from the training texts."""
        self._ready()
        return self._tokenizer

    @property
    def vocab_size(self) -> int:
        """V, the number of token ids."""
        return self.tokenizer.vocab_size

    @property
    def labels(self) -> list[str]:
        """Names of the labels, in the order of the targets."""
        self._ready()
        return list(self._names.values())

    @property
    def notes(self) -> list[str]:
        """What was changed, left out or cut, one line each."""
        self._ready()
        return [*self._notes.lines(), *self._said]

    @property
    def context_rule(self) -> str:
        """How much of a text is read."""
        return f"the {self.truncation} of a text, up to {self.context_length} tokens"

    def has(self, split: str) -> bool:
        """Whether a part holds any text."""
        return bool(self.parts[split].texts)

    def describe(self) -> dict[str, Any]:
        """Where every number comes from, JSON-plain."""
        digest, hashed = hashlib.sha256(), hashlib.sha256()
        for part in self.parts.values():
            for text, ids, target in zip(
                part.texts, part.ids, part.targets, strict=True
            ):
                hashed.update(f"{target} {len(text)} {text}".encode("utf-8", "replace"))
                digest.update(ids.tobytes() + bytes([0, int(target) % 256]))
        splits = {name: self._described(part) for name, part in self.parts.items()}
        return {
            "name": self._name,
            "sha256": hashed.hexdigest(),
            "tokens_sha256": digest.hexdigest(),
            "labels": dict(self._names),
            "splits": splits,
            "tokenizer": {
                "kind": self.tokenizer.kind,
                "vocab_size": self.tokenizer.vocab_size,
                "sha256": self.tokenizer.sha256(),
            },
            "notes": self.notes,
        }

    def _described(self, part: Part) -> dict[str, Any]:
        tokens = sum(map(len, part.ids))
        counts = np.bincount(part.targets, minlength=len(self._names)).tolist()
        return {
            "texts": len(part.texts),
            "characters": sum(map(len, part.texts)),
            "tokens": tokens,
            "oov": part.unknown,
            "oov_share": part.unknown / max(1, tokens),
            "cut": part.cut,
            "labels": dict(zip(self._names.values(), counts, strict=True)),
        }

    # ---- where training stands ------------------------------------------------------

    @property
    def position(self) -> int:
        """Samples trained on; set after every batch, stored in checkpoints."""
        return self._position

    @position.setter
    def position(self, samples: int) -> None:
        self._position = samples
        if self._train_loader is not None:
            self._train_loader.position = samples

    def state_dict(self) -> dict[str, int]:
        """All that resuming needs: the position."""
        return {"position": self.position}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a stored position.

        Raises:
            UsageError: what is stored is no place in the training texts.
        """
        self.position = stored_samples(state_dict, "position")

    # ---- loaders --------------------------------------------------------------------

    def train_dataloader(self) -> LabelledLoader:
        """Endless batches from ``position`` on."""
        part, (rank, world_size) = self.parts["train"], self._rank()
        self._train_loader = LabelledLoader(
            part.ids,
            part.targets,
            self.batch_size,
            self.seed,
            self.position,
            self.bucket,
            rank,
            world_size,
        )
        return self._train_loader

    def val_dataloader(self) -> LabelledPass | list[Any]:
        """A full pass over the validation part; an empty list if there is none."""
        return self.eval_loader("val")

    def test_dataloader(self) -> LabelledPass | list[Any]:
        """A full pass over the test part; an empty list if there is none."""
        return self.eval_loader("test")

    def eval_loader(self, split: str) -> LabelledPass | list[Any]:
        """A full pass over a part, each text counted once."""
        part = self.parts[split]
        if not part.texts:
            return []
        return LabelledPass(part.ids, part.targets, self.eval_batch_size, *self._rank())

    def whole_pass(self, part: Part) -> LabelledPass:
        """Every text of a part once, whatever the number of processes."""
        return LabelledPass(part.ids, part.targets, self.eval_batch_size)

    def _rank(self) -> tuple[int, int]:
        if self.trainer is None:
            return 0, 1
        return self.trainer.global_rank, self.trainer.world_size

    # ---- reading --------------------------------------------------------------------

    def _ready(self) -> dict[str, Part]:
        if self._parts is None:
            self._parts = self._read()
        return self._parts

    def _read(self) -> dict[str, Part]:
        if self.settings.path is None:
            raise UsageError(
                "--data.path: name a csv, tsv or jsonl file of texts with labels, or a "
                "folder with a folder of texts for each label"
            )
        paths = parts_of(str(self.settings.path))
        for split in ("val", "test"):
            if given := getattr(self.settings, f"{split}_path"):
                paths[split] = parts_of(given)["train"]
        self._name = name_of(paths["train"])
        read = {
            split: read_examples(path, *self.columns, self.keep_breaks, self._notes)
            for split, path in paths.items()
        }
        self._names = label_names(read["train"], self.given_labels)
        parts = {split: self._part(read.get(split, []), split) for split in SPLITS}
        if self.max_train_texts and self.max_train_texts < len(parts["train"].texts):
            left_out = 1 - self.max_train_texts / len(parts["train"].texts)
            _, parts["train"] = divided(parts["train"], left_out)
        if not parts["val"].texts and self.settings.val_fraction:
            share = self.settings.val_fraction
            parts["val"], parts["train"] = divided(parts["train"], share)
            if not parts["val"].texts:
                self._said.append(
                    "no validation part: of each label there is only one text, and "
                    "equal texts stay together"
                )
        self._look_over(parts)
        self._tokenizer = self._fixed_or_learned(parts["train"].texts)
        for split, part in parts.items():
            self._encode(part, split)
        return parts

    def _part(self, examples: list[Example], split: str) -> Part:
        try:
            places = places_of((example.label for example in examples), self._names)
        except UsageError as error:
            raise UsageError(f"the {split} part: {error}") from error
        texts = [example.text for example in examples]
        return Part(texts, np.array(places, np.int64))

    def _look_over(self, parts: dict[str, Part]) -> None:
        """Refuse a label that nothing could be learned of; say what stands twice."""
        counts = np.bincount(parts["train"].targets, minlength=len(self._names))
        for name, count in zip(self._names.values(), counts, strict=True):
            if not count:
                raise UsageError(
                    f"the train part has no text with the label {name!r}; give more "
                    f"texts, or leave the label out of --data.labels"
                )
        known = set(parts["train"].texts)
        for split in SPLITS[1:]:
            texts = parts[split].texts
            if again := sum(text in known for text in texts):
                self._said.append(
                    f"{split}: {again:,} of {len(texts):,} texts also stand in the "
                    f"training part"
                )

    def _fixed_or_learned(self, texts: list[str]) -> Tokenizer:
        settings, state = self.settings, self.settings.tokenizer_state
        given = from_state(state) if state is not None else None
        if given is None and settings.tokenizer not in KINDS:
            return read_tokenizer_file(settings.tokenizer)
        grows = settings.extend_tokenizer and isinstance(given, ListedTokenizer)
        if given is not None and not grows:
            return given
        learned = train_tokenizer(
            given.kind if given else settings.tokenizer,
            (piece for text in texts for piece in (f" {text}", END_OF_DOCUMENT)),
            size=settings.tokenizer_size,
            min_frequency=settings.min_frequency,
            split_digits=settings.split_digits,
        )
        if isinstance(given, ListedTokenizer) and isinstance(learned, ListedTokenizer):
            return given.extended(learned)
        return learned

    def _encode(self, part: Part, split: str) -> None:
        part.ids, part.cut = encoded(
            self._tokenizer, part.texts, self.context_length, self.truncation
        )
        if (unknown := self._tokenizer.unk_id) is not None:
            part.unknown = int(sum((ids == unknown).sum() for ids in part.ids))
        if part.cut:
            self._said.append(
                f"{split}: {part.cut:,} of {len(part.texts):,} texts are longer than "
                f"{self.context_length} tokens; the {self.truncation} is read"
            )

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_train_loader": None}
