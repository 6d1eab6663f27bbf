"""The gates of promotion, as checks of `promoted_model`. They are looked at where the model is; here they are shown."""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from pixel_pipeline.training.promotion.gates import GATES

ASSET = dg.AssetKey("promoted_model")
PROMOTION_GATES = [
    dg.AssetCheckSpec(name, asset=ASSET, blocking=True, description=description)
    for name, description in GATES.items()
]


def gate_result(gate: Mapping[str, Any]) -> dg.AssetCheckResult:
    """A gate as the process of promotion tells it."""
    return dg.AssetCheckResult(
        asset_key=ASSET,
        check_name=gate["name"],
        passed=gate["passed"],
        severity=dg.AssetCheckSeverity.ERROR,
        description=gate["description"],
        metadata={**gate["figures"]},
    )
