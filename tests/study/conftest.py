"""A tiny study from end to end, made once."""

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cli.runner import Result, lmzoo

RECIPE = """
corpora: {{bells: {0}/bells.txt, math: {0}/math.txt}}
models: [gpt]
fit:
  model: {{num_layers: 1, num_heads: 2, d_model: 16, context_length: 16}}
  data: {{batch_size: 4}}
  trainer: {{max_steps: 20}}
  checkpoints: {{every_n_steps: 10}}
  samples: {{length: 8}}
early: 10
prompts:
  - {{prompt: "the x^2 is", target: b, home: [math]}}
  - {{prompt: "the bells", target: "%", home: [shakespeare, bells]}}
options:
  samples: {{num_samples: {1}, max_new_tokens: 30}}
  outputs: {{max_new_tokens: 30}}
  curve: {{max_tokens: 500}}
  matrix: {{max_tokens: 500}}
  fewshot: {{at: "0,2,4", seeds: 1, max_tokens: 500, length: 10}}
"""


@dataclass(frozen=True)
class Tiny:
    """A study's inputs, and its own folder."""

    folder: Path
    place: Path

    def write(self, samples: int) -> None:
        """The recipe, with so many samples."""
        (self.folder / "tiny.yaml").write_text(RECIPE.format(self.folder, samples))

    def study(self, more: str = "", code: int = 0) -> Result:
        """Conduct it, or go on with it."""
        line = f"study {self.folder / 'tiny.yaml'} --out {self.place} {more}"
        result = lmzoo(line)
        assert result.code == code, result.err
        return result

    @staticmethod
    def counts(result: Result) -> tuple[int, int]:
        """Steps done, steps kept."""
        found = re.search(r"(\d+) steps done, (\d+) kept", result.out)
        assert found, result.out
        return int(found[1]), int(found[2])


@pytest.fixture(scope="package")
def begun(tmp_path_factory: pytest.TempPathFactory) -> tuple[Tiny, Result]:
    """The study and what it said when it was made."""
    made = tmp_path_factory.mktemp("study")
    (made / "bells.txt").write_text("the bells ring over a town by the sea\n" * 300)
    (made / "math.txt").write_text(
        "the sum of x^2 over a set is bounded by x^3\n" * 300
    )
    tiny = Tiny(made, made / "study")
    tiny.write(2)
    return tiny, tiny.study()


@pytest.fixture
def tiny(begun: tuple[Tiny, Result]) -> Tiny:
    """The study, made."""
    return begun[0]


@pytest.fixture
def first(begun: tuple[Tiny, Result]) -> Result:
    """What it said when it was made."""
    return begun[1]
