"""Beyond an object's error budget quarantine stops growing, and every count stays exact."""

import io
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import orjson
import pytest

from pixel_pipeline.conversations.containers.container import Opening
from pixel_pipeline.conversations.convert import conversion, refused
from pixel_pipeline.conversations.convert.conversion import convert_object
from pixel_pipeline.conversations.convert.ledger import merged_rows
from pixel_pipeline.conversations.convert.refused import OWN_ROWS, REST
from pixel_pipeline.conversations.model.bad_runs import BadRuns
from pixel_pipeline.conversations.model.options import ConversionOptions
from pixel_pipeline.conversations.model.source import SourceObject
from pixel_pipeline_tests.conversations.converted import Converted, convert, lines, sharegpt

GOOD = orjson.dumps(sharegpt("a", "b"))
ODD = b'{"odd": 1}'
# Refused only when its batch is settled.
ONE_SIDED = orjson.dumps({"conversations": [{"from": "human", "value": "a"}]})


def _own(converted: Converted) -> list[int]:
    return [row["position"] for row in converted.bad if row["position_kind"] != REST]


def _rest(converted: Converted) -> dict[str, int]:
    return {row["error_class"]: row["records"] for row in converted.bad if row["position_kind"] == REST}


def test_a_rotten_file_has_a_bounded_number_of_rows() -> None:
    got = convert(lines(*[ODD] * 5_000, *[ONE_SIDED] * 300))
    assert got.quarantine.num_rows == OWN_ROWS + 2
    assert got.ledger.errors == {"unrecognised_schema": 5_000, "one_sided": 300}
    assert _rest(got) == {"unrecognised_schema": 5_000 - OWN_ROWS, "one_sided": 300}
    assert got.ledger.unlisted == 5_300 - OWN_ROWS
    assert got.ledger.runs == BadRuns(records=5_300, longest=5_300, first=5_300, last=5_300)
    row = next(
        row for row in got.bad if row["error_class"] == "unrecognised_schema" and row["position_kind"] == REST
    )
    assert row["raw_bytes"] is None
    assert row["raw_size"] == (5_000 - OWN_ROWS) * len(ODD)
    assert (
        row["reason"]
        == "4800 further records beyond the error budget; their bytes are in the raw object alone"
    )


def test_within_the_budget_every_record_has_a_row() -> None:
    got = convert(lines(*[GOOD, ODD] * (2 * OWN_ROWS)))
    assert len(_own(got)) == 2 * OWN_ROWS
    assert _rest(got) == {}
    assert got.ledger.unlisted == 0
    assert got.ledger.runs == BadRuns(records=4 * OWN_ROWS, longest=1, first=0, last=1)


def test_too_many_in_a_row_are_beyond_the_budget_however_many_there_are() -> None:
    data = lines(*[GOOD] * 2_000, *[ODD] * 500, GOOD, ODD)
    got = convert(data, options=ConversionOptions(max_bad_run=300))
    assert _rest(got) == {"unrecognised_schema": 200}
    # A good record ends the run, and the share is within the budget.
    assert _own(got)[-1] == len(data) - len(ODD) - 1
    assert _rest(convert(data)) == {}


KINDS = {"good": GOOD, "odd": ODD, "one sided": ONE_SIDED}


@given(st.lists(st.sampled_from([*KINDS]), max_size=40), st.integers(1, 9), st.integers(1, 4))
def test_what_has_a_row_does_not_depend_on_batches(kinds: list[str], batch: int, run: int) -> None:
    """The same by hand, record by record."""
    # One line alone would be a document.
    kinds = ["good", "good", *kinds]
    records = [KINDS[kind] for kind in kinds]
    data = lines(*records)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(refused, "OWN_ROWS", 3)
        options = ConversionOptions(max_bad_run=run)
        whole = convert(data, options=options)
        patch.setattr(conversion, "BATCH_RECORDS", batch)
        cut = convert(data, options=options)
        array = convert(b"[" + b",".join(records) + b"]", options=options)
    assert whole.quarantine.equals(cut.quarantine)
    assert whole.ledger.to_row() == cut.ledger.to_row()
    assert array.ledger.runs == whole.ledger.runs
    expected, bad, in_a_row, position = [], 0, 0, 0
    for n, (kind, record) in enumerate(zip(kinds, records, strict=True), 1):
        if kind == "good":
            in_a_row = 0
        else:
            bad, in_a_row = bad + 1, in_a_row + 1
            if len(expected) < 3 or (bad <= 0.5 * n and in_a_row <= run):
                expected.append(position)
        position += len(record) + 1
    assert _own(whole) == expected
    assert sum(_rest(whole).values()) == whole.ledger.unlisted == bad - len(expected)
    assert whole.ledger.runs == BadRuns.of(np.array([kind != "good" for kind in kinds], np.bool_))


@given(st.lists(st.sampled_from([*KINDS]), min_size=2, max_size=30), st.sets(st.integers(1, 29), max_size=4))
def test_ranges_of_an_object_tell_what_the_whole_tells(kinds: list[str], cuts: set[int]) -> None:
    records = [KINDS[kind] for kind in kinds]
    edges = [0, *sorted(cut for cut in cuts if cut < len(records)), len(records)]
    data, rows, refused_records, start = lines(*records), [], 0, 0
    source = SourceObject(
        bucket="b", key="gdrive/raw/a", etag="e", size=len(data), family="f", category="c", dataset="d"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(refused, "OWN_ROWS", 2)
        for first, end in pairwise(edges):
            part = lines(*records[first:end])
            last = end == len(records)
            piece = convert_object(
                source, io.BytesIO(part), opening=Opening("json_lines", 0), start=start, last=last
            )
            refused_records += sum(sum(batch.quarantine["records"].to_pylist()) for batch in piece)
            rows.append(piece.ledger.to_row())
            start += len(part)
    (whole,) = merged_rows(rows)
    assert whole["quarantined"] == refused_records == sum(kind != "good" for kind in kinds)
    assert orjson.loads(whole["errors"]) == {
        name: n
        for name, n in (("one_sided", kinds.count("one sided")), ("unrecognised_schema", kinds.count("odd")))
        if n
    }
    assert BadRuns.of_row(whole) == BadRuns.of(np.array([kind != "good" for kind in kinds], np.bool_))
