"""Arrow schemas of the tables a conversion writes: conversations, quarantine, ledger.

CONVERSATION_SCHEMA, one row a conversation. Not null unless marked otherwise.
    id             xxh3-128, 32 hex digits, of `<raw key>[#!<member>]#<position>[#<sub index>]` (`identity.record_id`): stable
                   when the same object is uploaded again.
    messages       turns in order; `role` is system, user, assistant or tool; `content` is text, never blank. Only the first
                   turn may be a system turn; two neighbours never have the same role; user and assistant both occur, or one
                   of them if the rule in families.yaml sets `one_sided: keep`.
    category, family, dataset   slugs.
    source         its origin:
        bucket, key, etag   the raw object's version.
        position            its place in the object, counted from 0, in the unit named by `position_kind`.
        position_kind       "byte": offset of the first byte of a line, an array element or a table row, after decompression
                            and, for an object that is not UTF-8, after transcoding to UTF-8; 0 if a whole array is one
                            conversation. "row": data row of a table that is not text. "record": index in a JSON or YAML
                            document. "object": the whole object is the record.
        format              name of the source format (`formats.known.FORMATS`).
        member              nullable; the archive member or workbook sheet in which position counts.
    content_hash   xxh3-128, 32 hex digits, over roles and contents, the contents in NFC (`identity.content_hash`).
    language       nullable; BCP 47 tag in lower case, only if the source names it.
    tags           may be empty; filled by curation.
    reasoning      nullable; the chain of thought, if the source has one, separated from the answer. Null if the rule sets
                   `reasoning: think`: it is then part of the last answer.
    metadata       JSON object: the rest of the record; "{}" if there is none.

QUARANTINE_SCHEMA, one row a record that did not become a conversation. Not null unless marked otherwise.
    source_key, etag   the raw object's version.
    position           as above; 0 if `position_kind` is "object".
    position_kind      as above; or "rest": the row stands for all further records of the object with this error class that
                       are beyond its error budget and have no row of their own (`refused`). `position` is 0, `raw_size`
                       their sum.
    member             as above.
    raw_bytes          nullable; the record's bytes, at most QUARANTINE_RAW_BYTES of them. Null for a whole object. Records of
                       JSON objects and Parquet are written back as JSON; other records are as stored in the source.
    raw_size           full size of the record in bytes; of the whole object as stored if `position_kind` is "object".
    records            nullable, then 1; number of records the row stands for.
    error_class        short identifier to count by.
    reason             for a person; never contains conversation text.
    family             slug.
    code_version       version of the conversion recipe (`recipe.RECIPE_VERSION`).

LEDGER_SCHEMA, one row an object. Not null unless marked otherwise.
    source_key, etag, family, code_version   as above.
    container      name of the container (`containers.known.CONTAINERS`) or archive; "other" if there is none.
    formats        JSON object: conversations by format name.
    encoding       Python's name of it (`text.cleaning.detect_encoding`); "binary" for an object that is not text.
    bytes          size as stored, bytes.
    records_in     = records_out + quarantined + the sum of `dropped`. Always.
    records_out    conversations.
    quarantined    the sum of `records` of its quarantine rows.
    errors         nullable; JSON object: quarantined records by error class.
    unlisted       nullable; number of them without a quarantine row of their own.
    longest_bad_run, first_bad_run, last_bad_run   nullable; number of records quarantined in a row: the longest run, the run
                   at the beginning, the run at the end (`bad_runs.BadRuns`).
    dropped        JSON object: records by reason that are neither converted nor quarantined.
    repaired       JSON object: changes made by kind (turns joined, characters removed …).
    detection      nullable (rows from before it was recorded); JSON object: how the object was identified and why
                   (`detection.Detection.to_json`).
"""

import pyarrow as pa

QUARANTINE_RAW_BYTES = 1 << 20


def _required(name: str, kind: pa.DataType) -> pa.Field:
    return pa.field(name, kind, nullable=False)


MESSAGE_TYPE = pa.struct([_required("role", pa.string()), _required("content", pa.string())])
# Delta Lake names a list's field "element"; the same name here keeps schemas equal after a round trip.
MESSAGES_TYPE = pa.list_(_required("element", MESSAGE_TYPE))
TAGS_TYPE = pa.list_(_required("element", pa.string()))
SOURCE_TYPE = pa.struct(
    [
        _required("bucket", pa.string()),
        _required("key", pa.string()),
        _required("etag", pa.string()),
        _required("position", pa.int64()),
        _required("position_kind", pa.string()),
        _required("format", pa.string()),
        pa.field("member", pa.string()),
    ]
)

CONVERSATION_SCHEMA = pa.schema(
    [
        _required("id", pa.string()),
        _required("messages", MESSAGES_TYPE),
        _required("category", pa.string()),
        _required("family", pa.string()),
        _required("dataset", pa.string()),
        _required("source", SOURCE_TYPE),
        _required("content_hash", pa.string()),
        pa.field("language", pa.string()),
        _required("tags", TAGS_TYPE),
        pa.field("reasoning", pa.string()),
        _required("metadata", pa.string()),
    ]
)

QUARANTINE_SCHEMA = pa.schema(
    [
        _required("source_key", pa.string()),
        _required("etag", pa.string()),
        _required("position", pa.int64()),
        _required("position_kind", pa.string()),
        pa.field("member", pa.string()),
        pa.field("raw_bytes", pa.binary()),
        _required("raw_size", pa.int64()),
        _required("error_class", pa.string()),
        _required("reason", pa.string()),
        _required("family", pa.string()),
        _required("code_version", pa.string()),
        # An existing table accepts new columns only if they are nullable.
        pa.field("records", pa.int64()),
    ]
)

LEDGER_SCHEMA = pa.schema(
    [
        _required("source_key", pa.string()),
        _required("etag", pa.string()),
        _required("family", pa.string()),
        _required("container", pa.string()),
        _required("formats", pa.string()),
        _required("encoding", pa.string()),
        _required("bytes", pa.int64()),
        _required("records_in", pa.int64()),
        _required("records_out", pa.int64()),
        _required("quarantined", pa.int64()),
        _required("dropped", pa.string()),
        _required("repaired", pa.string()),
        _required("code_version", pa.string()),
        pa.field("errors", pa.string()),
        pa.field("unlisted", pa.int64()),
        pa.field("longest_bad_run", pa.int64()),
        pa.field("first_bad_run", pa.int64()),
        pa.field("last_bad_run", pa.int64()),
        pa.field("detection", pa.string()),
    ]
)
