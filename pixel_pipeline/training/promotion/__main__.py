"""`python -m pixel_pipeline.training.promotion`: the process that Dagster starts through Pipes; by hand it needs no Dagster."""

import argparse
from dataclasses import asdict
import sys
from typing import cast

from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.settings import get_settings
from pixel_pipeline.tokens.shards import current_manifest_key
from pixel_pipeline.training.errors import PromotionError
from pixel_pipeline.training.promotion.export_gate import export_folder
from pixel_pipeline.training.promotion.promote import promote
from pixel_pipeline.training.runtime.hosting import Host, run_hosted

# Enough to compare by eye; the record of the promotion has all 64.
DIGEST_CHARACTERS = 12


def main(arguments: list[str] | None = None) -> int:
    """The promotion process; returns its exit status."""
    return run_hosted(lambda host: _body(host, arguments))


def _body(host: Host, arguments: list[str] | None) -> None:
    settings = get_settings()
    lake = Lake.open(settings)
    if host.extras is not None:
        checkpoint, manifest_key = (
            cast(str, host.extras["checkpoint"]),
            cast(str, host.extras["manifest_key"]),
        )
    else:
        parser = argparse.ArgumentParser(
            prog="python -m pixel_pipeline.training.promotion", description=promote.__doc__
        )
        parser.add_argument("checkpoint", nargs="?", default="latest", help="latest, a run, or an s3:// URI")
        parser.add_argument("--manifest", help="key of a shard manifest (default: the current one)")
        options = parser.parse_args(arguments)
        checkpoint, manifest_key = options.checkpoint, options.manifest or current_manifest_key(lake.data)
    outcome = promote(
        lake,
        checkpoint,
        manifest_key,
        host.report,
        home=settings.home,
        tolerance=settings.promotion_tolerance,
    )
    # Dagster shows each gate as a check before it fails the step; a process that ends in error could not tell it.
    host.tell(
        {
            "gates": [asdict(gate) for gate in outcome.gates],
            "refusal": None if outcome.promotion else outcome.refusal,
        }
    )
    promotion = outcome.promotion
    if promotion is None:
        if host.extras is None:
            raise PromotionError(
                outcome.refusal,
                hint="Train on, or choose another checkpoint; what was promoted before still is.",
            )
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
