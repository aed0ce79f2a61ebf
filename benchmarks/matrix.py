r"""Three models of the lab's size on each other's texts: 3 x 3 losses.

cd corpora   # the folder that holds enwiki, math and tinyshakespeare
for text in enwiki/train.txt math/hardy_pure_mathematics.tex.txt \
        tinyshakespeare/input.txt; do
    lmzoo fit --model gpt --model.num_layers 2 --model.num_heads 2 \
        --model.d_model 128 --model.context_length 64 --data.batch_size 12 \
        --data.max_val_tokens 100000 --trainer.max_steps 5000 \
        --early_stopping.enabled false --data.path $text
done
python benchmarks/matrix.py RUN RUN RUN

Writes ``results/matrix.md``. Exit code 1 if a text is not read best by the model that
was trained on it.
"""

import sys
from pathlib import Path

from lmzoo.analysis.history import open_history
from lmzoo.analysis.transfer.matrix import matrix
from lmzoo.report.page import markdown
from lmzoo.training.checkpoints import versions

PAGE = Path(__file__).resolve().parent / "results" / "matrix.md"


def main(folders: list[str]) -> int:
    """Measure, write the page, judge the diagonal."""
    if len(folders) < 2:
        print(__doc__, file=sys.stderr)
        return 2
    found = matrix(folders, split="both", max_tokens=200_000, checkpoints="last")
    section = found.section()
    for folder in folders:
        run = open_history(folder)
        size = sum(p.numel() for p in run.at(run.last).parameters())
        section.notes.append(
            f"{run.name}: {size:,} parameters, {run.last:,} steps, torch "
            f"{versions()['torch']}, {Path(__file__).name} on the run's own tokenizer"
        )
    under = "models in rows, texts in columns; lower is better"
    text = markdown("Each model on each text", under, [section], "the report")
    PAGE.write_text(text, encoding="utf-8")
    print(text)
    lost = [row for row in found.rows if not row["own_corpus"]]
    best = [row for row in found.rows if row["own_corpus"]]
    worse = [
        f"{row['model']} on {row['corpus']} ({row['split']})"
        for row in lost
        for own in best
        if (own["corpus"], own["split"]) == (row["corpus"], row["split"])
        and row["nats_per_token"] <= own["nats_per_token"]
    ]
    print(f"better than the text's own model: {', '.join(worse) or 'none'}")
    return int(bool(worse))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
