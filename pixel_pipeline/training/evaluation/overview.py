"""Metadata of a run and of an evaluation for Dagster's overview: rounded, with units, in few and narrow columns.

The model card in the lake has every figure. Numbers are plotted over time; those of a reused result are text, so that plots skip them.
Imports matplotlib, not torch.
"""

from collections.abc import Mapping
from math import exp, log
from typing import Any

from pixel_pipeline.training.checkpoints.result import TrainingResult
from pixel_pipeline.training.evaluation.plots import (
    expert_load_map,
    loss_curve,
    markdown_image,
    perplexity_bars,
    routing_map,
)
from pixel_pipeline.training.evaluation.report import EvaluationReport, Losses, SplitResult
from pixel_pipeline.training.evaluation.tables import markdown

DIGEST_CHARACTERS = 12
NOTE = "A smoke test, no safety assurance. The model card explains the rules and lists the probes."


def run_metadata(result: TrainingResult) -> dict[str, Any]:
    """Metadata of a training run."""
    history = result.history
    first, last = history.validations[0].loss, history.validations[-1].loss
    total, active = result.parameters
    return {
        "status": result.status,
        "checkpoint": _path(result.uri),
        "weights SHA-256": result.model_sha256[:DIGEST_CHARACTERS],
        "dataset version": result.dataset_version,
        "git revision": _revision(result.git_revision),
        **_figures(
            {
                "steps": result.checkpoint.step,
                "validation loss (nats)": _rounded(last),
                "training loss (nats)": _rounded(history.losses[-1]),
                "tokens": history.tokens,
                "tokens per second": round(history.tokens_per_second),
                "skipped steps": len(history.skipped),
                "rewinds": len(history.rewinds),
            },
            reused=result.reused,
        ),
        "validation loss": f"{first:.3f} → {last:.3f} nats ({result.validation_ratio:.0%})",
        "parameters": f"{total:,}, {active:,} active per token",
        "plot: loss by step": _markdown(markdown_image(loss_curve(history), title="Loss by step")),
    }


def evaluation_metadata(report: EvaluationReport, *, uri: str, reused: bool) -> dict[str, Any]:
    """Metadata of an evaluation. The answers to the probes are in the lake; here are counts only.

    Args:
        uri: Folder of the evaluation.
    """
    total = report.test.total
    optional = {
        "base model loss (nats)": total.base,
        "dense baseline loss (nats)": total.dense,
    }
    shown: dict[str, Any] = {
        "checkpoint": _path(report.checkpoint),
        "evaluation": _path(uri),
        "model card": _path(f"{uri}/README.md"),
        "samples": _path(f"{uri}/samples.md"),
        "weights SHA-256": report.model_sha256[:DIGEST_CHARACTERS],
        "dataset version": report.dataset_version,
        **_figures(
            {
                "test loss (nats)": _rounded(report.loss),
                "test perplexity": _rounded(report.perplexity),
                **{name: _rounded(loss) for name, loss in optional.items() if loss is not None},
                "dead experts": len(report.dead_experts),
                "largest expert load (of even)": _rounded(report.load_ratio),
            },
            reused=reused,
        ),
        "perplexity by family": _markdown(_perplexities(report, "family")),
    }
    if report.test.categorised:
        shown["perplexity by category"] = _markdown(_perplexities(report, "category"))
    stages = [
        losses
        for name, families in report.stages.items()
        if (losses := report.test.of_families(name, families)) is not None
    ]
    if stages:
        rows = [[losses.name, f"{losses.perplexity:.1f}"] for losses in stages]
        shown["perplexity by stage"] = _markdown(markdown(["stage", "test"], rows))
    if report.layers:
        shown["expert load by layer"] = _markdown(_layers(report))
    shown["safety smoke test"] = _markdown(f"{report.safety.count_table(base=report.base_safety)}\n\n{NOTE}")
    for name, png in pictures(report).items():
        title = TITLES[name]
        shown[f"plot: {title.lower()}"] = _markdown(markdown_image(png, title=title))
    return shown


TITLES = {
    "perplexity.png": "Perplexity by family",
    "expert-load.png": "Expert load by layer",
    "routing.png": "Routing by family",
}


def pictures(report: EvaluationReport) -> dict[str, bytes]:
    """PNG files by name. Those of the routing need a router."""
    drawn = {"perplexity.png": perplexity_bars(report.test.families)}
    if report.layers:
        drawn["expert-load.png"] = expert_load_map(report.expert_load, layers=report.layers)
        drawn["routing.png"] = routing_map(report)
    return drawn


def _perplexities(report: EvaluationReport, kind: str) -> str:
    """Perplexity on each held-out split, and that of the base model alone on the test split."""
    splits = sorted(report.splits, key=lambda split: split is not report.test)
    by_split = [{losses.name: losses for losses in _parts(split, kind)} for split in splits]
    has_base = report.test.total.base is not None
    names = sorted({name for losses in by_split for name in losses})
    rows = [[name, *(_perplexity(losses.get(name)) for losses in by_split)] for name in names]
    rows.append(["**all**", *(_perplexity(split.total) for split in splits)])
    if has_base:
        base = [*(by_split[0].get(name) for name in names), report.test.total]
        rows = [[*row, _base_perplexity(losses)] for row, losses in zip(rows, base, strict=True)]
    return markdown([kind, *(split.split for split in splits), *(["base"] if has_base else [])], rows)


def _parts(split: SplitResult, kind: str) -> list[Losses]:
    return [*split.families] if kind == "family" else split.categories


def _perplexity(losses: Losses | None) -> str:
    return "–" if losses is None else f"{losses.perplexity:.1f}"


def _base_perplexity(losses: Losses | None) -> str:
    return "–" if losses is None or losses.base is None else f"{exp(losses.base):.1f}"


def _layers(report: EvaluationReport) -> str:
    return markdown(
        ["layer", "least", "largest", f"entropy (of {log(report.experts):.2f})"],
        [
            [str(layer), f"{min(load):.1%}", f"{max(load):.1%}", f"{entropy:.2f}"]
            for layer, load, entropy in zip(
                report.layers, report.expert_load, report.router_entropy, strict=True
            )
        ],
    )


def _figures(values: Mapping[str, float | int], *, reused: bool) -> dict[str, float | int | str]:
    return {name: f"{value:,}" for name, value in values.items()} if reused else dict(values)


def _rounded(value: float) -> float:
    """Four significant digits."""
    return float(f"{value:.4g}")


def _revision(revision: str) -> str:
    commit, dirty, _ = revision.partition("-dirty")
    return commit[:DIGEST_CHARACTERS] + dirty


def _path(uri: str) -> dict[str, str]:
    return {"raw_value": uri, "type": "path"}


def _markdown(text: str) -> dict[str, str]:
    return {"raw_value": text, "type": "md"}
