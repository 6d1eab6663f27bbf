"""Records of the quarantine, converted again where they stand: after a fix nothing else of their object is read."""

from collections import Counter
import io
from itertools import chain
from typing import Any, BinaryIO, NamedTuple, cast

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from pixel_pipeline.conversations.containers.csv import table as csv_table
from pixel_pipeline.conversations.containers.json import array as json_array
from pixel_pipeline.conversations.containers.opened import Opening
from pixel_pipeline.conversations.containers.opening import open_container
from pixel_pipeline.conversations.convert.conversion import UnalignedRange, convert_object
from pixel_pipeline.conversations.convert.ledger import json_counts
from pixel_pipeline.conversations.model.bad_runs import BadRuns
from pixel_pipeline.conversations.model.records import MAX_RECORD_BYTES
from pixel_pipeline.conversations.model.schema import CONVERSATION_SCHEMA, QUARANTINE_SCHEMA
from pixel_pipeline.conversations.quarantine.reading import Wanted
from pixel_pipeline.conversations.work.plan import Piece
from pixel_pipeline.lake.loader.json_elements import json_elements
from pixel_pipeline.lake.s3.bucket import Bucket

WINDOW_BYTES = 64 << 10


class Outcome(NamedTuple):
    """What became of a piece: rows of CONVERSATION_SCHEMA, of QUARANTINE_SCHEMA, and its row of LEDGER_SCHEMA."""

    conversations: pa.Table
    quarantine: pa.Table
    ledger: dict[str, Any]


def replayed(bucket: Bucket, piece: Piece, before: Outcome, *, wanted: Wanted) -> Outcome | None:
    """Converts the records of a piece again that lie in quarantine and are wanted.

    Args:
        before: What became of the piece so far.
        wanted: Its error class and key decide.

    Returns:
        The outcome, in the order of the piece; `before` itself where nothing is wanted. None where the records cannot be read
        alone, such as those of an archive: the piece has to be converted as a whole.
    """
    chosen = before.quarantine.filter(wanted.mask(before.quarantine))
    if chosen.num_rows == 0:
        return before
    alone = pc.and_(pc.equal(chosen["position_kind"], "byte"), pc.is_null(chosen["member"]))
    if not pc.all(alone).as_py():
        return None
    source = piece.source
    with bucket.open(source.key, etag=source.etag) as stream:
        opening = piece.opening or open_container(source, stream, repaired=Counter()).opening
        if opening is None:
            return None
        # A mark stands before the first record.
        opening = opening._replace(marked=False)
        good: list[pa.RecordBatch] = []
        bad: list[pa.RecordBatch] = []
        repaired = Counter(orjson.loads(before.ledger["repaired"]))
        places = {row["position"]: row for row in chosen.to_pylist()}
        for position, row in sorted(places.items()):
            data = _record_at(row, stream, opening)
            if data is None:
                return None
            conversion = convert_object(
                source,
                io.BytesIO(data),
                opening=opening,
                start=position,
                last=opening.container != json_array.NAME,
            )
            try:
                for batch in conversion:
                    good.append(batch.conversations)
                    bad.append(batch.quarantine)
            except UnalignedRange:
                return None
            repaired.update(conversion.ledger.repaired)
    # A record may have given conversations besides what was refused of it: all of it is made anew.
    done = pa.array(sorted(places), pa.int64())
    stay = pc.invert(pc.is_in(pc.struct_field(before.conversations["source"], "position"), value_set=done))
    refused = pc.invert(pc.is_in(before.quarantine["position"], value_set=done))
    return _settled(
        [*before.conversations.filter(stay).to_batches(), *good],
        [*before.quarantine.filter(refused).to_batches(), *bad],
        before.ledger | {"repaired": json_counts(repaired)},
    )


def _record_at(row: dict[str, Any], stream: BinaryIO, opening: Opening) -> bytes | None:
    """The bytes of the record that a row is of, as a range is to end; None where there is no such record of bounded size.

    What the row keeps may be only the beginning of it, or one session of several.
    """
    # Not through the buffer, which fetches megabytes around each place.
    raw = cast(io.RawIOBase, cast(io.BufferedReader, stream).raw)
    raw.seek(row["position"])
    windows = iter(lambda: raw.read(max(WINDOW_BYTES, row["raw_size"] + 1)), b"")
    if opening.container == csv_table.NAME:
        return (next(windows, b"") or b"")[: row["raw_size"]] + b"\n"
    if opening.container == json_array.NAME:
        elements = json_elements(chain([b"["], windows), max_element_bytes=MAX_RECORD_BYTES)
        element = next(elements, None)
        return None if element is None or not element.data else element.data + b","
    line = b""
    for window in windows:
        line += window
        if b"\n" in window or len(line) > MAX_RECORD_BYTES:
            break
    line = line.split(b"\n", 1)[0]
    return line + b"\n" if len(line) <= MAX_RECORD_BYTES else None


def _settled(good: list[pa.RecordBatch], bad: list[pa.RecordBatch], ledger: dict[str, Any]) -> Outcome:
    """Rows in the order of the object, and a ledger that says what they say."""
    conversations = pa.Table.from_batches(good, CONVERSATION_SCHEMA)
    conversations = conversations.take(
        pc.sort_indices(pc.struct_field(conversations["source"], "position").combine_chunks())
    )
    quarantine = pa.Table.from_batches(bad, QUARANTINE_SCHEMA)
    quarantine = quarantine.take(pc.sort_indices(quarantine["position"].combine_chunks()))
    errors: Counter[str] = Counter()
    for name, n in zip(quarantine["error_class"].to_pylist(), quarantine["records"].to_pylist(), strict=True):
        errors[name] += n or 1
    formats = Counter(pc.struct_field(conversations["source"], "format").to_pylist())
    dropped = sum(orjson.loads(ledger["dropped"]).values())
    counts = {
        "records_in": conversations.num_rows + errors.total() + dropped,
        "records_out": conversations.num_rows,
        "quarantined": errors.total(),
        "errors": json_counts(errors),
        "formats": json_counts(formats),
    }
    # Where something is still bad, as many in a row may be bad as were before.
    runs = {} if errors else BadRuns.none(conversations.num_rows).columns()
    return Outcome(conversations, quarantine, ledger | counts | runs)
