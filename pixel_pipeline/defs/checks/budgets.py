"""A rotten file is told of, and stops nobody."""

import dagster as dg

from pixel_pipeline.conversations.quarantine.budgets import SourceErrors, beyond_budget
from pixel_pipeline.defs import metadata
from pixel_pipeline.defs.assets.conversations import conversations
from pixel_pipeline.defs.resources import LakeResource, readable_failure

TOLD_SOURCES = 3
SHOWN_SOURCES = 20
SHOWN_CLASSES = 5


@dg.asset_check(
    asset=conversations,
    description=(
        "No raw object sent more of its records to quarantine, or more in a row, than its rule in families.yaml allows. It does "
        "not block: what was converted is sound, and one bad file is not to keep the others from training."
    ),
)
def error_budget(context: dg.AssetCheckExecutionContext, lake: LakeResource) -> dg.AssetCheckResult:
    """Name every source that is beyond its budget, and what is wrong with it."""
    with readable_failure(context):
        found = beyond_budget(lake.open(), lake.families())
    return dg.AssetCheckResult(
        passed=not found,
        severity=dg.AssetCheckSeverity.ERROR,
        description=_verdict(found),
        metadata={
            "sources": len(found),
            "records": sum(source.bad for source in found),
            "beyond_budget": metadata.table([_row(source) for source in found[:SHOWN_SOURCES]]),
        },
    )


def _verdict(found: list[SourceErrors]) -> str:
    if not found:
        return "Every source is within its error budget."
    told = [
        f"{source.source}: {source.bad:,} of {source.runs.records:,} records are bad ({source.excess()}): {_errors(source)}"
        for source in found[:TOLD_SOURCES]
    ]
    if len(found) > TOLD_SOURCES:
        told.append(f"and {len(found) - TOLD_SOURCES:,} more")
    many = "1 source is" if len(found) == 1 else f"{len(found):,} sources are"
    return f"{many} beyond the error budget. {'; '.join(told)}. `pixel quarantine list` shows the reasons."


def _errors(source: SourceErrors) -> str:
    return metadata.counts(dict(source.errors.most_common(SHOWN_CLASSES)))


def _row(source: SourceErrors) -> dict[str, object]:
    return {
        "source": source.source,
        "family": source.family,
        "objects": source.objects,
        "records": source.runs.records,
        "bad": source.bad,
        "share": source.share,
        "in a row": source.runs.longest,
        "not listed": source.unlisted,
        "errors": _errors(source),
        "beyond": source.excess() or "",
    }
