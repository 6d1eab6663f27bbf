"""An evaluation as Markdown tables, for Dagster and the model card. Torch-free."""

from collections.abc import Sequence
from math import exp, log

from pixel_pipeline.training.evaluation.report import EvaluationReport, Losses, SplitResult, shares


def losses_table(what: str, results: Sequence[Losses], *, total: Losses | None = None) -> str:
    """Loss and perplexity by family, category or stage; beside them what the base and the dense baseline have."""
    rows = [*results, *([total] if total else [])]
    has_base, has_dense = (any(getattr(r, name) is not None for r in rows) for name in ("base", "dense"))
    header = [what, "rows", "target tokens", "loss", "perplexity"]
    header += ["base loss", "base perplexity", "loss below base"] if has_base else []
    header += ["dense loss", "loss below dense"] if has_dense else []
    lines = []
    for result in rows:
        cells = [
            f"**{result.name}**" if result is total else result.name,
            f"{result.rows:,}",
            f"{result.target_tokens:,}",
            f"{result.loss:.3f}",
            f"{result.perplexity:.1f}",
        ]
        if has_base:
            cells += (
                ["–"] * 3
                if result.base is None
                else [f"{result.base:.3f}", f"{exp(result.base):.1f}", f"{result.base - result.loss:+.3f}"]
            )
        if has_dense:
            cells += (
                ["–"] * 2
                if result.dense is None
                else [f"{result.dense:.3f}", f"{result.dense - result.loss:+.3f}"]
            )
        lines.append(cells)
    return markdown(header, lines)


def family_table(split: SplitResult) -> str:
    """Losses by family."""
    return losses_table("family", split.families, total=split.total)


def category_table(split: SplitResult) -> str:
    """Losses by category."""
    return losses_table("category", split.categories, total=split.total)


def stage_table(report: EvaluationReport) -> str | None:
    """Losses over the families of each stage of the curriculum; None where it has only one."""
    found = [report.test.of_families(name, families) for name, families in report.stages.items()]
    rows = [losses for losses in found if losses is not None]
    return losses_table("stage", rows) if rows else None


def routing_table(report: EvaluationReport) -> str | None:
    """Share of each expert over all layers, by family of the test split; None without a router."""
    if not report.layers:
        return None
    rows = []
    for family in report.test.families:
        load = [shares([*counts]) for counts in family.expert_counts]
        rows.append([family.name, *(f"{sum(column) / len(load):.1%}" for column in zip(*load, strict=True))])
    return markdown(["family", *(f"expert {number}" for number in range(report.experts))], rows)


def layer_table(report: EvaluationReport) -> str | None:
    """Load, entropy and specialisation by layer; None without a router."""
    if not report.layers:
        return None
    header = [
        "layer",
        "least load",
        "largest load",
        f"router entropy (of {log(report.experts):.2f})",
        "category, nats",
        "family, nats",
    ]
    columns = (
        report.layers,
        report.expert_load,
        report.router_entropy,
        report.category_information,
        report.family_information,
    )
    return markdown(
        header,
        [
            [
                str(layer),
                f"{min(load):.1%}",
                f"{max(load):.1%}",
                f"{entropy:.3f}",
                f"{by_category:.4f}",
                f"{by_family:.4f}",
            ]
            for layer, load, entropy, by_category, by_family in zip(*columns, strict=True)
        ],
    )


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose first column is text and whose others are numbers."""
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [header, rule, *rows])
