"""The check that no record is lost between raw and curated."""

import dagster as dg

from pixel_pipeline.curation.accounts import read_accounts, unaccounted_objects
from pixel_pipeline.defs import metadata
from pixel_pipeline.defs.failures import readable_failure
from pixel_pipeline.defs.resources import LakeResource

SHOWN_PROBLEMS = 20


@dg.asset_check(
    asset="curated",
    blocking=True,
    description=(
        "For every raw object and every stage: records in = records out + quarantined + dropped by reason, recounted in the tables."
    ),
)
def conservation(context: dg.AssetCheckExecutionContext, lake: LakeResource) -> dg.AssetCheckResult:
    """Recount, and name every family and object that does not add up."""
    with readable_failure(context):
        store = lake.open()
        accounts = read_accounts(store, lake.families())
        problems = [problem for account in accounts.values() for problem in account.imbalances()]
        problems += [f"{key}: its current version is not accounted for" for key in unaccounted_objects(store)]
    rows = [
        {
            "family": account.family,
            "raw": account.records_in,
            "quarantined": account.quarantined.total(),
            "not data": account.skipped.total(),
            "dropped": account.dropped.total(),
            "curated": account.curated.total(),
        }
        for account in accounts.values()
    ]
    return dg.AssetCheckResult(
        passed=not problems and bool(accounts),
        severity=dg.AssetCheckSeverity.ERROR,
        description="; ".join(problems[:SHOWN_PROBLEMS]) or "Every record is accounted for.",
        metadata={"accounts": metadata.table(rows), "problems": len(problems)},
    )
