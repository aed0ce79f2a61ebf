"""What ``lmzoo params`` prints: the table for people, the same as JSON."""

from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lmzoo.analysis.anatomy.architecture import facts
from lmzoo.analysis.anatomy.closed_forms import closed_form
from lmzoo.analysis.anatomy.parameters import BYTES, Component, ParameterTable
from lmzoo.models.base import LanguageModel


def show(
    name: str, model: LanguageModel, table: ParameterTable, notes: list[str]
) -> None:
    """Print the table and what it costs."""
    console = Console(highlight=False)
    console.print(Text(f"{name}: ", "bold") + Text(", ".join(facts(model))))
    for note in notes:
        console.print(note, markup=False)
    grid = Table(box=None, pad_edge=False, show_footer=True, header_style="bold")
    frozen = table.parameters - table.trainable
    grid.add_column("component", footer="total")
    grid.add_column("parameters", f"{table.parameters:,}", justify="right")
    if frozen:
        grid.add_column("frozen", f"{frozen:,}", justify="right")
    grid.add_column("share", "100.0%" if table.parameters else "", justify="right")
    for dtype in BYTES:
        grid.add_column(dtype, readable(table.bytes(dtype)), justify="right")
    for row in table.rows:
        cells = [_label(row), f"{row.parameters:,}"]
        cells += [f"{row.parameters - row.trainable:,}"] if frozen else []
        sizes = [readable(row.parameters * size) for size in BYTES.values()]
        grid.add_row(*cells, f"{table.share(row):.1f}%", *sizes)
    console.print()
    console.print(grid)
    console.print()
    costs = Table.grid(padding=(0, 3))
    for label, text in _costs(name, model, table):
        costs.add_row(label, Text(text))
    console.print(costs)


def _label(row: Component) -> str:
    return f"{row.name} (shared)" if row.shared else row.name


def _costs(
    name: str, model: LanguageModel, table: ParameterTable
) -> list[tuple[str, str]]:
    lines = [
        ("shared", f"{row.shared:,} of the {row.name} are the {row.shared_with}'s")
        for row in table.rows
        if row.shared
    ]
    lines += [
        ("trainable", f"{table.trainable:,} of {table.parameters:,}"),
        (
            "optimizer state",
            f"{readable(table.optimizer_bytes)} (AdamW, two fp32 numbers for each "
            f"trainable parameter)",
        ),
    ]
    if table.buffer_bytes:
        lines.append(("tables", f"{readable(table.buffer_bytes)} that are not trained"))
    if table.training_flops is None or table.inference_flops is None:
        lines.append(("FLOPs per token", "not known: the model has no closed form"))
    else:
        lines.append(
            (
                "FLOPs per token",
                f"{table.training_flops:,} training, {table.inference_flops:,} "
                f"inference, at {table.length:,} tokens",
            )
        )
        lines.append(("", "products with weights and attention; no norms, no softmax"))
    lines.append(("decoding state", _state(model, table)))
    formula = closed_form(name, **model.arguments)
    if formula is not None:
        same = "equal" if formula == table.parameters else "NOT equal"
        lines.append(("closed form", f"{formula:,} parameters, {same}"))
    return lines


def _state(model: LanguageModel, table: ParameterTable) -> str:
    if table.state is None:
        return "not measured: the model does not run without numbers"
    after = f"for one sequence of {model.context_length:,} tokens"
    if not table.state.numbers:
        return f"{readable(table.state.other_bytes)} {after}: token ids alone"
    sizes = ", ".join(f"{readable(table.state.bytes(d))} in {d}" for d in BYTES)
    return f"{sizes} {after}{_shared_heads(model)}"


def _shared_heads(model: LanguageModel) -> str:
    """How much smaller keys and values are for being shared by several heads."""
    heads, kept = (getattr(model, key, None) for key in ("num_heads", "num_kv_heads"))
    if not isinstance(heads, int) or not isinstance(kept, int) or heads == kept:
        return ""
    plural = "s" if kept > 1 else ""
    return f"; {kept} head{plural} of keys and values for {heads}: 1/{heads // kept}"


def as_json(
    name: str, model: LanguageModel, table: ParameterTable, notes: list[str]
) -> dict[str, Any]:
    """The same for programs, bytes and FLOPs as numbers."""
    state = table.state
    return {
        "model": name,
        "arguments": model.arguments,
        "notes": notes,
        "components": [
            {**asdict(row), "share_percent": table.share(row)} for row in table.rows
        ],
        "parameters": table.parameters,
        "trainable": table.trainable,
        "closed_form": closed_form(name, **model.arguments),
        "bytes": {dtype: table.bytes(dtype) for dtype in BYTES},
        "optimizer_bytes": table.optimizer_bytes,
        "buffer_bytes": table.buffer_bytes,
        "length": table.length,
        "flops_per_token": {
            "training": table.training_flops,
            "inference": table.inference_flops,
        },
        "state_bytes": state and {dtype: state.bytes(dtype) for dtype in BYTES},
    }


def readable(size: int) -> str:
    """Bytes in the unit that leaves one to four digits before the point."""
    value = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{size} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:,.1f} TB"
