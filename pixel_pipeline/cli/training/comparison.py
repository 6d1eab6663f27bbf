"""Two or more checkpoints side by side, for `pixel runs compare` and `pixel checkpoints compare`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
import json
from typing import Any, Final

from pixel_pipeline.cli.console import out, print_json, say
from pixel_pipeline.cli.tables import Column, print_table
from pixel_pipeline.cli.training.summaries import CheckpointSummary

_Figure = Callable[[CheckpointSummary], str]


@dataclass(frozen=True)
class Difference:
    """A setting or input whose values differ; one value for each checkpoint."""

    name: str
    values: tuple[Any, ...]


def differences(summaries: Sequence[CheckpointSummary]) -> list[Difference]:
    """Settings and inputs that are not the same for all, by name."""
    names = sorted({name for summary in summaries for name in summary.identity})
    rows = [Difference(name, tuple(summary.identity.get(name) for summary in summaries)) for name in names]
    return [row for row in rows if any(value != row.values[0] for value in row.values)]


def show_comparison(summaries: Sequence[CheckpointSummary], *, as_json: bool) -> None:
    """Print figures and differences."""
    found = differences(summaries)
    if as_json:
        print_json(
            {
                "checkpoints": [summary.to_json() for summary in summaries],
                "differences": [{"name": row.name, "values": row.values} for row in found],
            }
        )
        return
    columns = [Column(""), *(Column(summary.name) for summary in summaries)]
    print_table(columns, figure_rows(summaries))
    if found:
        out.print()
        columns[0] = Column("differs in")
        print_table(columns, [(row.name, *map(value_text, row.values)) for row in found])
    else:
        say("Settings and inputs are the same.")
    if len({(summary.identity.get("tokenizer"), summary.dataset_version) for summary in summaries}) > 1:
        say(
            "The runs used different token shards, so their losses were not measured on the same text.",
            style="yellow",
        )


def figure_rows(summaries: Sequence[CheckpointSummary]) -> list[tuple[str, ...]]:
    """The figures that at least one of the checkpoints has, as rows of text."""
    rows = [(name, *(figure(summary) for summary in summaries)) for name, figure in _FIGURES.items()]
    return [row for row in rows if any(row[1:])]


def value_text(value: Any) -> str:
    """A setting's value on one line."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def loss_text(loss: float | None) -> str:
    """A loss to three decimals."""
    return "" if loss is None else f"{loss:.3f}"


def count_text(count: int | None) -> str:
    """A count with separators."""
    return "" if count is None else f"{count:,}"


def saved_text(summary: CheckpointSummary) -> str:
    """`2026-12-01 03:05`, in UTC."""
    return f"{datetime.fromisoformat(summary.saved).astimezone(UTC):%Y-%m-%d %H:%M}"


def duration_text(seconds: float | None) -> str:
    """`2 min 39 s` or `5 h 03 min`."""
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours:,} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def _validation(summary: CheckpointSummary) -> str:
    if summary.first_validation_loss is None:
        return loss_text(summary.validation_loss)
    return f"{loss_text(summary.first_validation_loss)} → {loss_text(summary.validation_loss)}"


def _best(summary: CheckpointSummary) -> str:
    if summary.best_validation_loss is None:
        return ""
    return f"{loss_text(summary.best_validation_loss)} after step {count_text(summary.best_validation_step)}"


def _parameters(summary: CheckpointSummary) -> str:
    if summary.parameters_total is None or summary.parameters_active is None:
        return ""
    return (
        f"{summary.parameters_total / 1e6:,.1f} M, {summary.parameters_active / 1e6:,.1f} M active per token"
    )


_FIGURES: Final[dict[str, _Figure]] = {
    "names": lambda summary: ", ".join(summary.names),
    "model": lambda summary: summary.kind or "",
    "parameters": _parameters,
    "first weights": lambda summary: summary.init_from or "",
    "steps": lambda summary: summary.progress,
    "tokens": lambda summary: count_text(summary.tokens),
    "training time": lambda summary: duration_text(summary.seconds),
    "tokens per second": lambda summary: (
        "" if summary.tokens_per_second is None else f"{summary.tokens_per_second:,.0f}"
    ),
    "skipped steps": lambda summary: count_text(summary.skipped_steps),
    "rewinds": lambda summary: count_text(summary.rewinds),
    "training loss": lambda summary: loss_text(summary.training_loss),
    "validation loss": _validation,
    "best validation loss": _best,
    "test loss": lambda summary: loss_text(summary.evaluation.loss) if summary.evaluation else "",
    "perplexity": lambda summary: f"{summary.evaluation.perplexity:,.1f}" if summary.evaluation else "",
    "dead experts": lambda summary: count_text(summary.evaluation.dead_experts) if summary.evaluation else "",
    "broken safety rules": lambda summary: (
        count_text(summary.evaluation.broken_safety_rules) if summary.evaluation else ""
    ),
    "size": lambda summary: "" if summary.bytes is None else f"{summary.bytes / 1e6:,.1f} MB",
    "saved (UTC)": saved_text,
    "dataset version": lambda summary: summary.dataset_version or "",
    "git revision": lambda summary: (summary.git_revision or "")[:12],
    "problem": lambda summary: summary.problem or "",
}
