"""Accounts balance on an untouched lake, and every kind of tampering is reported."""

from collections.abc import Callable, Iterator
from pathlib import Path
import re
import uuid

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pytest

from pixel_pipeline.compute.local import LocalExecutor
from pixel_pipeline.conversations.families.config import FamilyConfig
from pixel_pipeline.conversations.work.build import convert_family, families_of
from pixel_pipeline.curation.accounts import read_accounts, unaccounted_objects
from pixel_pipeline.curation.curate import curated_batches, decide
from pixel_pipeline.lake import keys
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.lake.raw import list_raw
from pixel_pipeline.lake.tables.table import Table
from pixel_pipeline.settings import get_settings
from pixel_pipeline_tests.conversations.converted import lines, sharegpt
from pixel_pipeline_tests.curation.rows import dialogue

CONFIG = FamilyConfig()
CALM = f"{keys.PROCESSED}/calm/calm"
TABLES = (keys.INVENTORY, keys.LEDGER, keys.QUARANTINE, keys.DROPPED, keys.CURATED, CALM)


def conversation(seed: int) -> dict[str, object]:
    return sharegpt(*dialogue(seed))


RAW = {
    "gdrive/raw/Calm/a.jsonl": lines(conversation(1), b'{"broken', conversation(2), {"odd": 1}),
    "gdrive/raw/Calm/b.jsonl": lines(conversation(1), conversation(3)),
    "gdrive/raw/Calm/notes.bin": bytes(range(256)),
    "gdrive/raw/Sleep/c.jsonl": lines(conversation(4), conversation(2), conversation(5)),
}


def take_inventory(lake: Lake) -> pa.Table:
    inventory = list_raw(lake).objects
    Table(lake, keys.INVENTORY).overwrite(inventory)
    return inventory


@pytest.fixture(scope="module")
def curated_lake(session_home: Path) -> Iterator[Lake]:
    """A lake processed from raw to curated, built once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIXEL_HOME", str(session_home))
        for variable in ("PIXEL_BUCKET", "PIXEL_CHECKPOINT_BUCKET"):
            patch.setenv(variable, f"accounts-{uuid.uuid4().hex[:12]}")
        lake = Lake.open(get_settings())
        for key, content in RAW.items():
            lake.data.put(key, content)
        families = families_of(take_inventory(lake), config=CONFIG, bucket=lake.data.name)
        with LocalExecutor(workers=1) as executor:
            for rule, objects in families.values():
                convert_family(lake, rule=rule, objects=objects, executor=executor)
        conversations = ds.dataset(
            [Table(lake, f"{keys.PROCESSED}/{name}/{name}").dataset() for name in families]
        )
        decision = decide(conversations)
        Table(lake, keys.DROPPED).overwrite(decision.dropped)
        Table(lake, keys.CURATED).overwrite(curated_batches(conversations, decision), partition_by="family")
        yield lake


@pytest.fixture
def accounted(curated_lake: Lake) -> Iterator[Lake]:
    """The same lake; changes to its tables and raw objects are undone after the test."""
    before = {key: Table(curated_lake, key).open().version() for key in TABLES}
    yield curated_lake
    for key, version in before.items():
        if Table(curated_lake, key).version() != version:
            Table(curated_lake, key).open().restore(version)
    for key, content in RAW.items():
        curated_lake.data.put(key, content)
    curated_lake.data.delete([item.key for item in curated_lake.data.list(keys.RAW) if item.key not in RAW])


def problems(lake: Lake) -> list[str]:
    accounts = read_accounts(lake, CONFIG)
    return [problem for account in accounts.values() for problem in account.imbalances()]


def test_accounts_of_an_untouched_lake_balance(accounted: Lake) -> None:
    accounts = read_accounts(accounted, CONFIG)
    assert problems(accounted) == []
    assert unaccounted_objects(accounted) == []
    assert [*accounts] == ["calm", "sleep"]
    calm = accounts["calm"]
    assert calm.objects == 3
    assert calm.bytes == sum(len(data) for key, data in RAW.items() if "/Calm/" in key)
    assert calm.records_in == calm.converted + calm.quarantined.total() + calm.skipped.total()
    assert calm.converted == 4
    assert calm.quarantined.total() + calm.skipped.total() == 3
    assert calm.dropped == {"exact_duplicate": 1}
    assert accounts["sleep"].dropped == {"exact_duplicate": 1}
    assert accounts["sleep"].curated.total() == 2


def without_first(lake: Lake, key: str, *, family: str = "calm") -> None:
    """Rewrite a table without one of a family's rows."""
    table = Table(lake, key)
    rows = table.dataset().to_table()
    place = pc.index(rows["family"], family).as_py()
    table.overwrite(pa.concat_tables([rows.slice(0, place), rows.slice(place + 1)]))


def with_first_twice(lake: Lake, key: str) -> None:
    rows = Table(lake, key).dataset().to_table()
    Table(lake, key).overwrite(pa.concat_tables([rows, rows.slice(0, 1)]))


def with_unknown_family(lake: Lake, key: str) -> None:
    rows = Table(lake, key).dataset().to_table()
    place = rows.schema.get_field_index("family")
    names = pa.array(["unknown", *rows["family"].to_pylist()[1:]], pa.string())
    Table(lake, key).overwrite(rows.set_column(place, rows.schema.field(place), names))


@pytest.mark.parametrize(
    ("tamper", "problem"),
    [
        (lambda lake: without_first(lake, keys.CURATED), "calm: 4 conversations, but 3 curated"),
        (lambda lake: without_first(lake, keys.DROPPED), "calm: 4 conversations, but 3 curated"),
        (lambda lake: without_first(lake, keys.QUARANTINE), "calm: .* quarantined by the ledger"),
        (lambda lake: without_first(lake, CALM), "calm: 4 conversations by the ledger, but 3 rows"),
        (lambda lake: without_first(lake, keys.LEDGER), "calm: .* raw records"),
        (lambda lake: with_first_twice(lake, keys.CURATED), "conversations, but"),
        (lambda lake: with_first_twice(lake, keys.LEDGER), "raw records"),
        (lambda lake: with_first_twice(lake, keys.QUARANTINE), "quarantined by the ledger"),
        (lambda lake: with_unknown_family(lake, keys.CURATED), "unknown: 0 conversations, but 1 curated"),
        (lambda lake: with_unknown_family(lake, keys.DROPPED), "unknown: 0 conversations, but 1 curated"),
        (lambda lake: with_unknown_family(lake, keys.QUARANTINE), "unknown: 0 raw records"),
    ],
    ids=[
        "curated row lost",
        "dropped row lost",
        "quarantine row lost",
        "canonical row lost",
        "ledger row lost",
        "curated row twice",
        "ledger row twice",
        "quarantine row twice",
        "curated row of an unknown family",
        "dropped row of an unknown family",
        "quarantine row of an unknown family",
    ],
)
def test_tampering_is_reported(accounted: Lake, tamper: Callable[[Lake], None], problem: str) -> None:
    tamper(accounted)
    found = problems(accounted)
    assert found
    assert re.search(problem, "\n".join(found)), found


def test_objects_missing_from_the_ledger_are_unaccounted(accounted: Lake) -> None:
    accounted.data.put("gdrive/raw/Calm/new.jsonl", b"x")
    take_inventory(accounted)
    assert unaccounted_objects(accounted) == ["gdrive/raw/Calm/new.jsonl"]


def test_an_object_changed_since_its_conversion_is_unaccounted(accounted: Lake) -> None:
    accounted.data.put("gdrive/raw/Sleep/c.jsonl", b"other")
    take_inventory(accounted)
    assert unaccounted_objects(accounted) == ["gdrive/raw/Sleep/c.jsonl"]


def test_a_ledger_entry_without_its_object_is_unaccounted(accounted: Lake) -> None:
    accounted.data.delete(["gdrive/raw/Calm/b.jsonl"])
    take_inventory(accounted)
    assert unaccounted_objects(accounted) == ["gdrive/raw/Calm/b.jsonl"]


def test_an_empty_lake_has_no_accounts(lake: Lake) -> None:
    assert read_accounts(lake, CONFIG) == {}
