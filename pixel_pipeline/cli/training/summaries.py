"""Figures of checkpoints and runs for `pixel runs` and `pixel checkpoints`, read from the checkpoint bucket."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from math import isfinite
from typing import TYPE_CHECKING, Any, Literal, Self

from pixel_pipeline.errors import PixelError

if TYPE_CHECKING:
    from pixel_pipeline.lake.lake import Lake
    from pixel_pipeline.training.checkpoints.run_state import RunState
    from pixel_pipeline.training.checkpoints.store import CheckpointRef

Kind = Literal["mixture", "adapters", "dense baseline"]


@dataclass(frozen=True)
class Evaluated:
    """Test figures of a checkpoint's last evaluation; losses in nats for a token."""

    loss: float
    perplexity: float
    dead_experts: int
    broken_safety_rules: int


@dataclass(frozen=True)
class CheckpointSummary:
    """One checkpoint. A figure is None if the checkpoint does not record it.

    Attributes:
        names: Those of `latest`, `best of the run` and `promoted` that point to it.
        saved: When its manifest was written, ISO 8601.
        final: The run's last step is done.
        steps: Steps that the run was configured for.
        init_from: Checkpoint that the run took its first weights from.
        identity: Everything that the run's weights depend on, flattened.
        problem: Why the checkpoint cannot be read.
    """

    run: str
    step: int
    uri: str
    names: tuple[str, ...]
    saved: str
    final: bool = False
    bytes: int | None = None
    kind: Kind | None = None
    steps: int | None = None
    tokens: int | None = None
    seconds: float | None = None
    tokens_per_second: float | None = None
    parameters_total: int | None = None
    parameters_active: int | None = None
    training_loss: float | None = None
    first_validation_loss: float | None = None
    validation_loss: float | None = None
    best_validation_loss: float | None = None
    best_validation_step: int | None = None
    skipped_steps: int | None = None
    rewinds: int | None = None
    evaluation: Evaluated | None = None
    dataset_version: str | None = None
    git_revision: str | None = None
    init_from: str | None = None
    identity: Mapping[str, Any] = field(default_factory=dict)
    problem: str | None = None

    @property
    def name(self) -> str:
        """`RUN/step-000200`, as every verb accepts it."""
        return f"{self.run}/step-{self.step:06d}"

    @property
    def progress(self) -> str:
        """Where the run stood."""
        if self.problem is not None:
            return "damaged"
        if self.steps is None:
            return "not recorded"
        done = f"{self.step:,} of {self.steps:,}"
        return f"{done}, complete" if self.final else done

    def to_json(self) -> dict[str, Any]:
        """Plain types."""
        return asdict(self)


@dataclass(frozen=True)
class Checkpoints:
    """The complete checkpoints of the bucket, or of one run, and the names that point to them."""

    lake: "Lake"
    refs: tuple["CheckpointRef", ...]
    saved: Mapping[str, datetime]
    latest: "CheckpointRef | None"
    promoted: "CheckpointRef | None"

    @classmethod
    def find(cls, lake: "Lake", *, run: str | None = None) -> Self:
        """List the bucket; nothing else is read.

        Args:
            run: Anything that `CheckpointRef.resolve` accepts; None lists all runs.
        """
        from pixel_pipeline.training.checkpoints.promotions import promoted_step
        from pixel_pipeline.training.checkpoints.store import CheckpointRef, list_checkpoints
        from pixel_pipeline.training.errors import CheckpointNotFoundError

        bucket = lake.checkpoints
        bucket.check()
        name = CheckpointRef.resolve(lake, run).run if run else ""
        refs = list_checkpoints(bucket, name)
        promoted = promoted_step(bucket)
        try:
            latest = CheckpointRef.resolve(lake, "latest")
        except CheckpointNotFoundError:
            latest = None
        return cls(
            lake=lake,
            refs=tuple(refs),
            saved={item.key: item.last_modified for item in bucket.list(name)},
            latest=latest,
            promoted=CheckpointRef(*promoted) if promoted else None,
        )

    def newest_of_runs(self) -> list["CheckpointRef"]:
        """The newest checkpoint of each run, the run that was saved last first."""
        newest = {ref.run: ref for ref in self.refs}
        return sorted(newest.values(), key=lambda ref: (self._saved(ref), ref.run), reverse=True)

    def summary(self, ref: "CheckpointRef") -> CheckpointSummary:
        """Read the figures of one checkpoint; a damaged one is reported in `problem`."""
        from pixel_pipeline.training.checkpoints.store import best_step

        pointers = (
            ("latest", self.latest == ref),
            ("best of the run", best_step(self.lake.checkpoints, ref.run) == ref.step),
            ("promoted", self.promoted == ref),
        )
        place: dict[str, Any] = {
            "run": ref.run,
            "step": ref.step,
            "uri": ref.uri(self.lake),
            "names": tuple(name for name, points in pointers if points),
            "saved": self._saved(ref).isoformat(timespec="seconds"),
        }
        try:
            return CheckpointSummary(**place, **_figures(self.lake, ref))
        except PixelError as error:
            return CheckpointSummary(**place, problem=error.message)

    def _saved(self, ref: "CheckpointRef") -> datetime:
        from pixel_pipeline.training.checkpoints.store import MANIFEST

        return self.saved[f"{ref.prefix}/{MANIFEST}"]


def _figures(lake: "Lake", ref: "CheckpointRef") -> dict[str, Any]:
    from pixel_pipeline.training.checkpoints.queries import read_state
    from pixel_pipeline.training.checkpoints.run_state import ADAPTER_FILE
    from pixel_pipeline.training.checkpoints.store import CheckpointManifest
    from pixel_pipeline.training.evaluation.store import stored_evaluation

    manifest = CheckpointManifest.load(lake, ref)
    report = stored_evaluation(lake, ref)
    figures: dict[str, Any] = {
        "final": manifest.final,
        "bytes": sum(file.bytes for file in manifest.files.values()),
        "kind": "adapters" if ADAPTER_FILE in manifest.files else "mixture",
        "evaluation": report
        and Evaluated(
            loss=report.loss,
            perplexity=report.perplexity,
            dead_experts=len(report.dead_experts),
            broken_safety_rules=report.safety.violations,
        ),
    }
    state = read_state(lake, ref)
    return figures if state is None else figures | _of_state(state)


def _of_state(state: "RunState") -> dict[str, Any]:
    history, identity = state.history, state.identity
    config = identity["config"]
    best = history.best
    dense = {"kind": "dense baseline"} if config.get("dense_baseline") else {}
    return dense | {
        "steps": config["steps"],
        "tokens": history.tokens,
        "seconds": history.seconds,
        "tokens_per_second": history.tokens_per_second,
        "parameters_total": state.parameters[0],
        "parameters_active": state.parameters[1],
        "training_loss": _finite(history.losses[-1]) if history.losses else None,
        "first_validation_loss": _finite(history.validations[0].loss) if history.validations else None,
        "validation_loss": _finite(history.validations[-1].loss) if history.validations else None,
        "best_validation_loss": best.loss if best else None,
        "best_validation_step": best.step if best else None,
        "skipped_steps": len(history.skipped),
        "rewinds": len(history.rewinds),
        "dataset_version": identity["dataset_version"],
        "git_revision": state.git_revision,
        "init_from": identity.get("init_from", {}).get("checkpoint"),
        "identity": flatten(identity),
    }


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, with dotted names; `config.` is left out."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, "" if f"{prefix}{name}" == "config" else f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def _finite(loss: float) -> float | None:
    return loss if isfinite(loss) else None
