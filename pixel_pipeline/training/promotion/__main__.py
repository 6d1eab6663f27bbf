"""`python -m pixel_pipeline.training.promotion`: the process that Dagster starts through Pipes. `pixel promote` does the same in a terminal."""

from dataclasses import asdict
import sys

from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.settings import get_settings
from pixel_pipeline.training.promotion.export_gate import export_folder
from pixel_pipeline.training.promotion.promote import promote
from pixel_pipeline.training.runtime.hosting import Host, run_hosted

# Enough to compare by eye; the promotion's record has all 64 digits.
DIGEST_CHARACTERS = 12


def main() -> int:
    """The promotion process; returns its exit status."""
    return run_hosted(_run_task)


def _run_task(host: Host) -> None:
    task, settings = host.task(verb="pixel promote"), get_settings()
    outcome = promote(
        Lake.open(settings),
        task["checkpoint"],
        task["manifest_key"],
        host.report,
        home=settings.home,
        tolerance=settings.promotion_tolerance,
    )
    # Dagster reports each gate as a check before it fails the step; a process that fails could not report them.
    host.send(
        {
            "gates": [asdict(gate) for gate in outcome.gates],
            "refusal": None if outcome.promotion else outcome.refusal,
        }
    )
    promotion = outcome.promotion
    if promotion is None:
        return
    host.materialize(
        metadata={
            "status": "unchanged" if outcome.reused else "promoted",
            "checkpoint": {"raw_value": promotion.checkpoint, "type": "path"},
            "model card": {"raw_value": f"{promotion.evaluation}/README.md", "type": "path"},
            "export": {"raw_value": str(export_folder(promotion.ref, home=settings.home)), "type": "path"},
            "promotion": promotion.number,
            "promoted at": promotion.when,
            "weights SHA-256": promotion.weights_sha256[:DIGEST_CHARACTERS],
        },
        data_version=promotion.weights_sha256,
    )


if __name__ == "__main__":
    sys.exit(main())
