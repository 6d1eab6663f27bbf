"""No record is lost between raw and curated."""

import dagster as dg

from pixel_pipeline.curation.accounts import read_accounts, unaccounted_objects
from pixel_pipeline.defs import metadata
from pixel_pipeline.defs.assets.curation import curated
from pixel_pipeline.defs.resources import LakeResource, readable_failure

SHOWN_PROBLEMS = 20


@dg.asset_check(
    asset=curated,
    blocking=True,
    description=(
        "For every raw object and every stage: records in = records out + quarantined + dropped by reason, recounted in "
        "the tables themselves."
    ),
)
def conservation(context: dg.AssetCheckExecutionContext, lake: LakeResource) -> dg.AssetCheckResult:
    """Recount, and name every family and object that does not add up."""
    with readable_failure(context):
        store = lake.open()
        accounts = read_accounts(store, lake.families())
        problems = [problem for account in accounts.values() for problem in account.imbalances()]
        problems += [f"{key}: not accounted for in its present version" for key in unaccounted_objects(store)]
    rows = [
        {
            "family": account.family,
            "objects": account.objects,
            "raw records": account.records_in,
            "quarantined": account.quarantined.total(),
            "not data": account.skipped.total(),
            "conversations": account.converted,
            "dropped": account.dropped.total(),
            "curated": account.curated.total(),
        }
        for account in accounts.values()
    ]
    return dg.AssetCheckResult(
        passed=not problems and bool(accounts),
        severity=dg.AssetCheckSeverity.ERROR,
        description="Every record is accounted for."
        if not problems
        else "; ".join(problems[:SHOWN_PROBLEMS]),
        metadata={"accounts": metadata.table(rows), "problems": len(problems)},
    )
