"""Arrow schemas of what a conversion writes: conversations, quarantine, ledger.

CONVERSATION_SCHEMA, one row a conversation. Not null unless said otherwise.
    id             xxh3-128, 32 hex digits, of `<raw key>[#!<member>]#<position>[#<sub index>]` (`identity.record_id`):
    stable when the
                   same object is uploaded again.
    messages       turns in order; `role` is system, user, assistant or tool; `content` is text, never blank.
    A system turn is
                   only ever the first; two neighbours never have the same role; user and assistant both
                   occur, or one of them where the rule in families.yaml says `one_sided: keep`.
    category       slug.
    family         slug.
    dataset        slug.
    source         where it came from:
        bucket, key, etag   the raw object's version.
        position            where in the object, counted from 0, in the unit that `position_kind` names.
        position_kind       "byte": offset of the first byte of a line, of an array's element or of a table's row, after
                            decompression and, for an object that is not UTF-8, after transcoding to UTF-8; 0 where an
                            array as a whole is one conversation. "row": data row of a table that is not text.
                            "record": index in a JSON document. "object": the whole object is the record.
        format              name of the source format (`formats.FORMATS`).
        member              nullable; name of the archive's member, or of the workbook's sheet, that position counts in.
    content_hash   xxh3-128, 32 hex digits, over roles and contents, the contents in NFC (`identity.content_hash`).
    language       nullable; BCP 47 tag in lower case, only where the source says it.
    tags           may be empty; filled by curation.
    reasoning      nullable; the chain of thought, where the source has one, kept apart from the answer. Null
                   where the rule says `reasoning: think`: it stands in the last answer then.
    metadata       JSON object: what the source had besides; "{}" for nothing.

QUARANTINE_SCHEMA, one row a record that did not become a conversation. Not null unless said otherwise.
    source_key, etag   the raw object's version.
    position           as above; 0 where `position_kind` is "object".
    position_kind      as above; or "rest": the row stands for all further records of the object with this error
    class, which are
                       beyond its error budget and have no row of their own (`refused`). `position` is 0, `raw_size` their sum.
    member             as above.
    raw_bytes          nullable; the record's bytes, at most QUARANTINE_RAW_BYTES of them. Null for a whole
    object. Records of
                       JSON objects and Parquet are written back as JSON; other records are as they stand in
                       the source.
    raw_size           full size of the record in bytes; of the whole object as stored where `position_kind`
    is "object". records            nullable, then 1; how many records the row stands for. error_class        short identifier to count by. reason             for a person; never has
    conversation text. family             slug. code_version       version of the conversion
    recipe.

LEDGER_SCHEMA, one row an object. Not null unless said otherwise.
    source_key, etag, family, code_version   as above.
    container      name of the container (`containers.CONTAINERS`), or "other" for what is none.
    formats        JSON object: conversations by format name.
    encoding       Python's name of it (`text.detect_encoding`); "binary" where text is no question.
    bytes          size as stored, bytes.
    records_in     = records_out + quarantined + the sum of `dropped`. Always.
    records_out    conversations.
    quarantined    the sum of `records` of its quarantine rows.
    errors         nullable; JSON object: these records by error class.
    unlisted       nullable; those of them that have no quarantine row of their own.
    longest_bad_run, first_bad_run, last_bad_run   nullable; how many records in a row were quarantined: at most,
    at the beginning,
                   at the end (`bad_runs.BadRuns`).
    dropped        JSON object: records by reason that are neither.
    repaired       JSON object: changes made by kind (turns joined, characters removed …).
    detection      nullable (of rows from before it was recorded); JSON object: what the object was taken for and why
                   (`detection.Detection.to_json`).
"""

import pyarrow as pa

QUARANTINE_RAW_BYTES = 1 << 20


def _required(name: str, kind: pa.DataType) -> pa.Field:
    return pa.field(name, kind, nullable=False)


MESSAGE_TYPE = pa.struct([_required("role", pa.string()), _required("content", pa.string())])
# Delta Lake calls a list's field "element"; the same name here lets a schema survive the round trip.
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
        # A table that is there already takes new columns only if they may be null.
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
