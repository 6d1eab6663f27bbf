"""The check that names sources over their error budget."""

import dagster as dg

from pixel_pipeline.conversations.quarantine.budgets import SourceErrors, beyond_budget
from pixel_pipeline.defs import metadata
from pixel_pipeline.defs.failures import readable_failure
from pixel_pipeline.defs.resources import LakeResource

SOURCES_IN_VERDICT = 3
SOURCES_IN_TABLE = 20
SHOWN_CLASSES = 5


@dg.asset_check(
    asset="conversations",
    description=(
        "No raw object has more quarantined records, in total or in a row, than its rule in families.yaml allows. The check does not "
        "block: converted records are sound, and one bad file must not keep the others from training."
    ),
)
def error_budget(context: dg.AssetCheckExecutionContext, lake: LakeResource) -> dg.AssetCheckResult:
    """Name every source over its budget, with its errors."""
    with readable_failure(context):
        found = beyond_budget(lake.open(), lake.families())
    return dg.AssetCheckResult(
        passed=not found,
        severity=dg.AssetCheckSeverity.ERROR,
        description=_verdict(found),
        metadata={
            "sources": len(found),
            "records": sum(source.bad for source in found),
            "over budget": metadata.table([_row(source) for source in found[:SOURCES_IN_TABLE]]),
        },
    )


def _verdict(found: list[SourceErrors]) -> str:
    if not found:
        return "Every source is within its error budget."
    sources = [
        f"{source.source}: {source.bad:,} of {source.runs.records:,} records are bad ({source.excess()}): {_errors(source)}"
        for source in found[:SOURCES_IN_VERDICT]
    ]
    if len(found) > SOURCES_IN_VERDICT:
        sources.append(f"and {len(found) - SOURCES_IN_VERDICT:,} more")
    many = "1 source is" if len(found) == 1 else f"{len(found):,} sources are"
    return f"{many} over the error budget. {'; '.join(sources)}. `pixel quarantine list` shows the reasons."


def _errors(source: SourceErrors) -> str:
    return metadata.counts(dict(source.errors.most_common(SHOWN_CLASSES)))


def _row(source: SourceErrors) -> dict[str, object]:
    return {
        "source": source.source,
        "bad": f"{source.bad:,} of {source.runs.records:,} ({source.share:.1%})",
        "in a row": source.runs.longest,
        "not listed": source.unlisted,
        "errors": _errors(source),
    }
