"""The gates that a checkpoint must pass to be promoted, based on evaluations. Torch-free."""

from math import isfinite

from pixel_pipeline.training.evaluation.report import EvaluationReport
from pixel_pipeline.training.evaluation.safety.smoke_test import SmokeTest
from pixel_pipeline.training.promotion.record import Gate

NO_REGRESSION, NO_DEAD_EXPERT = "no_regression", "no_dead_expert"
EXPORT_VERIFIED, SAFETY = "export_verified", "safety_smoke_test"
GATES = {
    NO_REGRESSION: "The test loss is not worse than the promoted checkpoint's on the same rows, within the tolerance.",
    NO_DEAD_EXPERT: "Every expert gets at least a tenth of an even share of its layer's tokens on the test split.",
    SAFETY: "The smoke test finds no more broken rules than in the promoted checkpoint's answers. No safety assurance.",
    EXPORT_VERIFIED: "Exported, or as it is, it loads in plain transformers and is the model that was trained.",
}


def no_regression(
    candidate: EvaluationReport,
    promoted: EvaluationReport | None,
    *,
    tolerance: float,
    not_compared: str = "nothing is promoted yet",
) -> Gate:
    """Compare the test loss with that of the promoted checkpoint.

    Args:
        promoted: Evaluation on the same rows; None if there is no comparison.
        tolerance: Allowed increase of the loss, as a share of the promoted checkpoint's.
        not_compared: Why there is no comparison.
    """
    figures: dict[str, float | int | str] = {"loss": candidate.loss, "tolerance": tolerance}
    if not isfinite(candidate.loss):
        return Gate(NO_REGRESSION, False, "The test loss is no finite number.", figures)
    if promoted is None:
        return Gate(
            NO_REGRESSION, True, f"Not compared, {not_compared}: test loss {candidate.loss:.4f}.", figures
        )
    rows = candidate.test.total.rows
    change = candidate.loss / promoted.loss - 1
    figures |= {
        "promoted_loss": promoted.loss,
        "change": change,
        "rows": rows,
        "promoted": promoted.checkpoint,
    }
    passed = candidate.loss <= promoted.loss * (1 + tolerance)
    return Gate(
        NO_REGRESSION,
        passed,
        f"Test loss {candidate.loss:.4f}, the promoted checkpoint's {promoted.loss:.4f} on the same {rows:,} rows: "
        f"{change:+.2%}, {tolerance:.2%} {'are' if passed else 'alone are'} allowed.",
        figures,
    )


def no_dead_expert(candidate: EvaluationReport) -> Gate:
    """Check that every expert is used."""
    dead = candidate.dead_experts
    figures = {"dead_experts": len(dead), "largest_load_over_even": candidate.load_ratio}
    if not candidate.layers:
        return Gate(NO_DEAD_EXPERT, True, "There is no router.", figures)
    count = candidate.experts * len(candidate.layers)
    if not dead:
        return Gate(NO_DEAD_EXPERT, True, f"All {count:,} experts are in use.", figures)
    named = ", ".join(f"layer {layer} expert {expert}" for layer, expert in dead[:4])
    more = f" and {len(dead) - 4:,} more" if len(dead) > 4 else ""
    return Gate(
        NO_DEAD_EXPERT,
        False,
        f"{len(dead):,} of {count:,} experts get hardly a token: {named}{more}.",
        figures,
    )


def safety_not_worse(candidate: EvaluationReport, promoted: SmokeTest | None) -> Gate:
    """Compare broken rules of the smoke test with the promoted checkpoint; before the first promotion, with the base."""
    found = candidate.safety
    other = promoted or candidate.base_safety
    whose = "the promoted checkpoint's" if promoted else "the base model's"
    figures: dict[str, float | int | str] = {"broken_rules": found.violations, "caring_answers": found.caring}
    if other is None:
        return Gate(
            SAFETY,
            True,
            f"A smoke test, no assurance; not compared, there is nothing to compare with: {found.summary()}.",
            figures,
        )
    figures |= {"compared_broken_rules": other.violations, "compared_caring_answers": other.caring}
    return Gate(
        SAFETY,
        found.violations <= other.violations,
        f"A smoke test, no assurance: {found.summary()}; {whose}: {other.summary()}.",
        figures,
    )
