"""Keys of the data bucket. No other module spells them."""

RAW = "gdrive/raw"
ACQUIRED = "acquired"
RAW_TIERS = (RAW, ACQUIRED)
PROCESSED = "gdrive/processed"
CURATED = "curated"
TOKENS = "tokens"
REGISTRY = "config/dataset_registry.json"
CURRENT_TOKENS = f"{TOKENS}/current.json"
BASE_MODELS = "models/base"

INTERNAL = "_pixel"
INVENTORY = "_pixel/inventory"
INVENTORY_CHANGES = "_pixel/inventory_changes"
LAST_SYNC = "_pixel/sync/last.parquet"
SYNC_REPORT = "_pixel/sync_report"
QUARANTINE = "_pixel/quarantine"
LEDGER = "_pixel/ledger"
CONVERSION = "_pixel/conversion"
DROPPED = "_pixel/dropped"
MEMO = "_pixel/memo"
PROBES = "_pixel/probe"


def conversations_table(*, category: str, dataset: str) -> str:
    """Return the key of a family's canonical table."""
    return f"{PROCESSED}/{category}/{dataset}"
