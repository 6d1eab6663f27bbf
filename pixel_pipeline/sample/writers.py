"""Encode the records of one file as a tool or a person would export them: one function per format."""

from collections.abc import Callable, Iterable
import csv
from datetime import date, timedelta
import gzip
import io
from random import Random
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from pixel_pipeline.sample import dirt
from pixel_pipeline.sample.dialogue import Conversation
from pixel_pipeline.sample.layout import FileSpec
from pixel_pipeline.sample.records import Record

_SHAREGPT_ROLES = {"user": "human", "assistant": "gpt", "system": "system"}
_SESSION_ROLES = {"user": "client", "assistant": "therapist", "system": "system"}
_TRANSCRIPT_ROLES = {"user": "Client", "assistant": "Therapist"}
_FIRST_DAY = date(2021, 3, 1)
_MAX_INSTRUCTION = 140


def encode(spec: FileSpec, records: list[Record], *, seed: int) -> bytes:
    """Encode a file.

    Args:
        spec: The file.
        records: Its records, in order.
        seed: Source of everything except the conversations: ids, dates, ratings, broken bytes.
    """
    rng = Random(f"{seed}:{spec.path}:metadata")
    data = _WRITERS[spec.format](spec, records, rng)
    return gzip.compress(data, compresslevel=6, mtime=0) if spec.path.endswith(".gz") else data


def _chain_of_thought(spec: FileSpec, records: list[Record], rng: Random) -> bytes:
    rows = []
    for record in records:
        (_, question), (_, answer) = record.conversation.messages
        rows.append({"Question": question, "Complex_CoT": record.conversation.reasoning, "Response": answer})
    return orjson.dumps(rows, option=orjson.OPT_INDENT_2)


def _alpaca(spec: FileSpec, records: list[Record], rng: Random) -> bytes:
    rows = []
    for record in records:
        (_, question), (_, answer) = record.conversation.messages
        instruction, gap, letter = question.partition("\n\n")
        if not gap or len(instruction) > _MAX_INSTRUCTION:
            instruction, letter = question, ""
        rows.append({"instruction": instruction, "input": letter, "output": answer})
    return orjson.dumps(rows, option=orjson.OPT_INDENT_2 if rng.random() < 0.5 else None)


def _sessions(spec: FileSpec, records: list[Record], rng: Random) -> bytes:
    document = {
        "dataset": spec.path.rpartition("/")[2].removesuffix(".json"),
        "version": "0.3",
        "exported_by": "notes export tool",
        "exported_at": f"{_day(rng)}T09:14:00Z",
        "language": "en",
        "anonymised": True,
        "conversations": [_turns(record.conversation, "from", "value", _SESSION_ROLES) for record in records],
    }
    return orjson.dumps(document, option=orjson.OPT_INDENT_2)


def _sharegpt(spec: FileSpec, records: list[Record], rng: Random) -> bytes:
    rows = (
        {
            "id": f"{spec.family}_{record.index}",
            "conversations": _turns(record.conversation, "from", "value", _SHAREGPT_ROLES),
        }
        for record in records
    )
    return _json_lines(spec, records, rows, rng)


def _chatml(spec: FileSpec, records: list[Record], rng: Random) -> bytes:
    rows = (
        {
            "messages": _turns(record.conversation, "role", "content", None),
            "source": rng.choice(("role play", "supervision", "written by staff", "forum, rewritten")),
            "created": _day(rng),
            "rating": rng.randint(2, 5),
            "tags": [spec.family, rng.choice(("reviewed", "draft", "gold"))],
        }
        for record in records
    )
    return _json_lines(spec, records, rows, rng)


def _csv(spec: FileSpec, records: list[Record], rng: Random) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator=spec.newline)
    writer.writerow(("Context", "Response"))
    writer.writerows([content for _, content in record.conversation.messages] for record in records)
    return text.getvalue().encode(spec.encoding)


def _transcript(spec: FileSpec, records: list[Record], rng: Random) -> bytes:
    (record,) = records
    number = spec.path.partition("Session ")[2][:2]
    lines = [
        f"Session No. {int(number)}",
        f"Date: {spec.path.partition(' - ')[2][:10]}",
        f"({rng.choice(('in person', 'video', 'telephone'))}, 50 minutes)",
        "",
    ]
    for role, content in record.conversation.messages:
        lines.append(f"{_TRANSCRIPT_ROLES[role]}: {' '.join(content.split())}")
    return (spec.newline.join(lines) + spec.newline).encode(spec.encoding)


def _parquet_messages(spec: FileSpec, records: list[Record], rng: Random) -> bytes:
    messages = [_turns(record.conversation, "role", "content", None) for record in records]
    turn = pa.struct([("role", pa.string()), ("content", pa.string())])
    return _parquet(
        {
            "conversation_id": pa.array([f"{spec.family}-{record.index:05d}" for record in records]),
            "messages": pa.array(messages, type=pa.list_(turn)),
            "n_turns": pa.array([len(turns) for turns in messages], type=pa.int32()),
        }
    )


def _parquet_pairs(spec: FileSpec, records: list[Record], rng: Random) -> bytes:
    prompts, responses = zip(
        *([content for _, content in record.conversation.messages] for record in records), strict=True
    )
    return _parquet(
        {
            "prompt": pa.array(prompts),
            "response": pa.array(responses),
            "split": pa.array([rng.choice(("train", "train", "train", "test")) for _ in records]),
        }
    )


def _parquet(columns: dict[str, pa.Array]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink, compression="zstd", row_group_size=512)
    return sink.getvalue()


def _json_lines(spec: FileSpec, records: list[Record], rows: Iterable[Any], rng: Random) -> bytes:
    lines = []
    for record, row in zip(records, rows, strict=True):
        line = orjson.dumps(row)
        lines.append(dirt.bad_line(line, rng) if record.kind == "bad_line" else line)
    end = spec.newline.encode()
    return end.join(lines) + end


def _turns(
    conversation: Conversation, role_key: str, content_key: str, roles: dict[str, str] | None
) -> list[dict[str, str]]:
    return [
        {role_key: roles[role] if roles else role, content_key: content}
        for role, content in conversation.messages
    ]


def _day(rng: Random) -> str:
    return (_FIRST_DAY + timedelta(days=rng.randrange(1200))).isoformat()


_WRITERS: dict[str, Callable[[FileSpec, list[Record], Random], bytes]] = {
    "chain_of_thought": _chain_of_thought,
    "alpaca": _alpaca,
    "sessions": _sessions,
    "sharegpt": _sharegpt,
    "chatml": _chatml,
    "csv": _csv,
    "transcript": _transcript,
    "parquet_messages": _parquet_messages,
    "parquet_pairs": _parquet_pairs,
}
