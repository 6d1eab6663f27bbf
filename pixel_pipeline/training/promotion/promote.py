"""Promotes a checkpoint whose gates hold. Torch-free until there is something to compute."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.tokens.shards import ShardManifest
from pixel_pipeline.training.checkpoints.store import CheckpointManifest, CheckpointRef, list_checkpoints
from pixel_pipeline.training.evaluation.evaluate import evaluate
from pixel_pipeline.training.evaluation.report import MOST_ROWS, EvaluationReport
from pixel_pipeline.training.evaluation.safety.smoke_test import SmokeTest
from pixel_pipeline.training.evaluation.store import evaluation_prefix, stored_evaluation
from pixel_pipeline.training.promotion.export_gate import export_verified
from pixel_pipeline.training.promotion.gates import no_dead_expert, no_regression, safety_not_worse
from pixel_pipeline.training.promotion.record import Gate, Promotion


@dataclass(frozen=True)
class Outcome:
    """How it came out.

    Attributes:
        promotion: That holds for the checkpoint now; None where a gate did not hold.
        reused: The checkpoint was promoted already; gates are those of then.
    """

    checkpoint: str
    gates: tuple[Gate, ...]
    promotion: Promotion | None
    reused: bool

    @property
    def refusal(self) -> str:
        """Why not, in a sentence for each gate that did not hold."""
        failed = [f"{gate.name}: {gate.description}" for gate in self.gates if not gate.passed]
        return f"{self.checkpoint} is not promoted. {' '.join(failed)}"


def promote(
    lake: Lake,
    checkpoint: CheckpointRef | str,
    manifest_key: str,
    report: Callable[[str], None],
    *,
    home: Path,
    tolerance: float,
    most_rows: int = MOST_ROWS,
) -> Outcome:
    """Look at every gate and, where all hold, let the checkpoint be the promoted one.

    Evaluations that exist are used; those that lack are made.

    Args:
        checkpoint: A reference, or what `CheckpointRef.resolve` understands.
        manifest_key: Of the token shards that losses are compared on.
        home: Folder of caches and of the export.
        tolerance: Share by which the test loss may be worse than the promoted checkpoint's.

    Raises:
        PromotionError: another checkpoint was promoted meanwhile.
        CheckpointNotFoundError, TrainingDataError: see their classes.
    """
    ref = CheckpointRef.resolve(lake, checkpoint) if isinstance(checkpoint, str) else checkpoint
    weights = CheckpointManifest.load(lake, ref).weights.sha256
    before = Promotion.current(lake.checkpoints)
    if before is not None and (before.ref, before.weights_sha256) == (ref, weights):
        before.copy(lake)
        report(f"{ref.uri(lake)} is promoted already, since {before.when} — unchanged")
        return Outcome(checkpoint=ref.uri(lake), gates=before.gates, promotion=before, reused=True)
    shards = ShardManifest.load(lake.data, manifest_key)
    not_compared = _why_not_compared(lake, before, shards)

    def evaluated(which: CheckpointRef, rows: int) -> EvaluationReport:
        return evaluate(lake, which, manifest_key, report, home=home, most_rows=rows)

    candidate, promoted = evaluated(ref, most_rows), None
    if before is not None and not_compared is None:
        promoted = evaluated(before.ref, most_rows)
        rows = min(candidate.row_limit, promoted.row_limit)
        if candidate.row_limit != promoted.row_limit:
            candidate, promoted = evaluated(ref, rows), evaluated(before.ref, rows)
    gates = (
        no_regression(candidate, promoted, tolerance=tolerance, not_compared=not_compared or ""),
        no_dead_expert(candidate),
        safety_not_worse(candidate, promoted.safety if promoted else _former_safety(lake, before)),
        export_verified(lake, ref, home=home, report=report),
    )
    for gate in gates:
        report(f"{'passed' if gate.passed else 'FAILED'}  {gate.name}: {gate.description}")
    if not all(gate.passed for gate in gates):
        return Outcome(checkpoint=ref.uri(lake), gates=gates, promotion=None, reused=False)
    promotion = Promotion(
        number=before.number + 1 if before else 1,
        checkpoint=ref.uri(lake),
        run=ref.run,
        step=ref.step,
        weights_sha256=weights,
        evaluation=lake.checkpoints.uri(evaluation_prefix(ref)),
        when=datetime.now(UTC).isoformat(timespec="seconds"),
        gates=gates,
    )
    promotion.store(lake)
    report(f"promoted: {promotion.checkpoint}")
    return Outcome(checkpoint=ref.uri(lake), gates=gates, promotion=promotion, reused=False)


def _former_safety(lake: Lake, before: Promotion | None) -> SmokeTest | None:
    """Of the promoted checkpoint's own evaluation, where it cannot be made anew."""
    known = stored_evaluation(lake, before.ref) if before else None
    return known.safety if known else None


def _why_not_compared(lake: Lake, before: Promotion | None, shards: ShardManifest) -> str | None:
    if before is None:
        return "nothing is promoted yet"
    if before.ref not in list_checkpoints(lake.checkpoints, before.run):
        return f"the promoted checkpoint {before.checkpoint} is gone"
    tokenizer = CheckpointManifest.load(lake, before.ref).files["tokenizer.json"].sha256
    if tokenizer != shards.tokenizer.sha256:
        return f"the promoted checkpoint {before.checkpoint} has another tokenizer"
    return None
