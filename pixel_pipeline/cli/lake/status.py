"""`pixel status`: the contents of the lake by family."""

from typing import Any

from pixel_pipeline.cli.console import Json, out, print_json, say
from pixel_pipeline.cli.tables import Column, print_table
from pixel_pipeline.settings import get_settings

_COUNTS = ("files", "records", "converted", "quarantined", "dropped", "curated", "tokens")


def status(as_json: Json = False) -> None:
    """Show the contents of the lake by family.

    Counts raw files, records, converted, quarantined, dropped and curated conversations, and tokens.
    """
    if as_json:
        print_json(_status())
        return
    show_status()


def _status() -> dict[str, Any]:
    from pixel_pipeline.conversations.families.config import FamilyConfig
    from pixel_pipeline.curation.accounts import read_accounts
    from pixel_pipeline.lake.lake import Lake
    from pixel_pipeline.tokens.shards import ShardManifest, TokenShardsNotFoundError, current_manifest_key

    settings = get_settings()
    lake = Lake.open(settings)
    lake.check()
    accounts = read_accounts(lake, FamilyConfig.load(settings.families_file))
    tokens: dict[str, int] = {}
    try:
        manifest = ShardManifest.load(lake.data, current_manifest_key(lake.data))
        tokens = {name: family.tokens for name, family in manifest.families.items()}
    except TokenShardsNotFoundError:
        say("There are no token shards yet.", style="dim")
    families = [
        {
            "family": account.family,
            "objects": account.objects,
            "bytes": account.bytes,
            "records": account.records_in,
            "converted": account.converted,
            "quarantined": dict(account.quarantined),
            "dropped": dict(account.skipped + account.dropped),
            "curated": account.curated.total(),
            "tokens": tokens.get(account.family, 0),
        }
        for account in accounts.values()
    ]
    return {"bucket": lake.data.name, "endpoint": lake.target.endpoint, "families": families}


def show_status() -> None:
    """Print the table of `pixel status`."""
    report = _status()
    families = report["families"]
    if not families:
        say(
            "The lake is empty. `make demo` fills it with samples. For your own data, run `pixel ingest PATH`, then "
            "`dagster job execute -j prepare_data`."
        )
        return
    rows = [
        (
            family["family"],
            family["objects"],
            family["records"],
            family["converted"],
            sum(family["quarantined"].values()),
            sum(family["dropped"].values()),
            family["curated"],
            family["tokens"],
        )
        for family in families
    ]
    many = len(rows) > 1
    totals = [sum(row[number] for row in rows) for number in range(1, len(_COUNTS) + 1)]
    print_table(
        [
            Column("family", footer="all" if many else ""),
            *(
                Column(name, numeric=True, footer=f"{total:,}" if many else "")
                for name, total in zip(_COUNTS, totals, strict=True)
            ),
        ],
        [(name, *(f"{count:,}" for count in counts)) for name, *counts in rows],
        title=f"s3://{report['bucket']}",
    )
    for kind in ("quarantined", "dropped"):
        reasons: dict[str, int] = {}
        for family in families:
            for reason, n in family[kind].items():
                reasons[reason] = reasons.get(reason, 0) + n
        if reasons:
            counts = ", ".join(f"{reason} {n:,}" for reason, n in sorted(reasons.items()))
            out.print(f"{kind}: {counts}", markup=False, soft_wrap=True)
