"""Invariants for any bytes: `check` converts them and checks all results.

A fuzzer's input is two bytes and the rest: the first byte chooses the kind of file (KINDS); the second decides whether the rest is
the file, or chooses records that are written in that kind and then damaged (`structured`).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
import csv
import gzip
import io
import json
import signal
from typing import Any, NamedTuple

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from pixel_pipeline_tests.conversations.containers.packed.test_archives import tarred, zipped, zstd
from pixel_pipeline_tests.conversations.converted import convert
from pixel_pipeline_tests.fuzz.choices import Choices
from pixel_pipeline_tests.fuzz.records import record

CPU_SECONDS = 20
"""Time limit of one input. Most take milliseconds; an input that takes seconds for some kilobytes would hang on a large file."""


class Kind(NamedTuple):
    """One kind of file: its name, and how records are written in it."""

    name: str
    write: Callable[[list[Any], Choices], bytes]


def _lines(records: list[Any], choices: Choices) -> bytes:
    return choices.one_of((b"\n", b"\r\n", b"\n\n", b" ", b"")).join(map(_json, records))


def _array(records: list[Any], choices: Choices) -> bytes:
    key = choices.one_of((None, "data", "conversations", "x"))
    return _json(records if key is None else {"about": "x", key: records, "more": [1]})


def _keyed(records: list[Any], choices: Choices) -> bytes:
    return _json({f"id{number}": value for number, value in enumerate(records)})


def _table(delimiter: str) -> Callable[[list[Any], Choices], bytes]:
    def write(records: list[Any], choices: Choices) -> bytes:
        sink = io.StringIO()
        rows = [value for value in records if isinstance(value, dict)] or [{"prompt": "a", "response": "b"}]
        writer = csv.writer(sink, delimiter=delimiter)
        writer.writerow(rows[0])
        writer.writerows([_cell(value) for value in row.values()] for row in rows)
        return sink.getvalue().encode("utf-8", "surrogatepass")

    return write


def _text(records: list[Any], choices: Choices) -> bytes:
    encoding = choices.one_of(("utf-8", "utf-8-sig", "utf-16", "utf-16-be", "cp1252", "gb18030", "latin-1"))
    return "\n".join(map(_cell, records)).encode(encoding, "replace")


def _subtitles(records: list[Any], choices: Choices) -> bytes:
    cues = (f"00:0{number % 10}.000 --> 00:09.000\n{_cell(value)}" for number, value in enumerate(records))
    return "\n\n".join(["WEBVTT", *cues]).encode("utf-8", "replace")


def _columns(records: list[Any], choices: Choices) -> pa.Table:
    rows = [value for value in records if isinstance(value, dict)] or [{"prompt": "a", "response": "b"}]
    try:
        return pa.Table.from_pylist([{str(key): value for key, value in row.items()} for row in rows])
    except (pa.ArrowException, UnicodeError, OverflowError):
        return pa.table({"prompt": ["a"], "response": ["b"]})


def _parquet(records: list[Any], choices: Choices) -> bytes:
    sink = io.BytesIO()
    try:
        pq.write_table(_columns(records, choices), sink)
    except pa.ArrowException:
        pq.write_table(pa.table({"prompt": ["a"], "response": ["b"]}), sink)
    return sink.getvalue()


def _arrow(records: list[Any], choices: Choices) -> bytes:
    sink = io.BytesIO()
    table = _columns(records, choices)
    new = choices.one_of((pa.ipc.new_file, pa.ipc.new_stream))
    with new(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def _yaml(records: list[Any], choices: Choices) -> bytes:
    return yaml.safe_dump({"conversations": records}, allow_unicode=True).encode("utf-8", "replace")


def _members(records: list[Any], choices: Choices) -> dict[str, bytes]:
    names = ("a.json", "b/c.jsonl", "../x.txt", "n.csv", "README.md", "z.zip")
    return {f"{number}{choices.one_of(names)}": _json(value) for number, value in enumerate(records)}


KINDS = {
    "jsonl": Kind("x.jsonl", _lines),
    "json": Kind("x.json", _array),
    "keyed": Kind("x.json", _keyed),
    "csv": Kind("x.csv", _table(",")),
    "tsv": Kind("x.tsv", _table("\t")),
    "txt": Kind("x.txt", _text),
    "vtt": Kind("x.vtt", _subtitles),
    "parquet": Kind("x.parquet", _parquet),
    "arrow": Kind("x.arrow", _arrow),
    "yaml": Kind("x.yml", _yaml),
    "zip": Kind("x.zip", lambda records, choices: zipped(_members(records, choices))),
    "tar": Kind("x.tar", lambda records, choices: tarred(_members(records, choices))),
    "gz": Kind("x.jsonl.gz", lambda records, choices: gzip.compress(_lines(records, choices), mtime=0)),
    "zst": Kind("x.jsonl.zst", lambda records, choices: zstd(_lines(records, choices))),
    "xlsx": Kind("x.xlsx", lambda records, choices: zipped(_members(records, choices))),
    "none": Kind("x", _lines),
}


def check(data: bytes, only: str | None = None) -> None:
    """Convert an input in bounded CPU time and check the results.

    Args:
        only: Name of a kind; the input's own choice by default.

    Raises:
        AssertionError: A record is lost, a row contradicts the schema, or the conversion takes too long.
    """
    if len(data) < 2:
        return
    kind = KINDS[only or list(KINDS)[data[0] % len(KINDS)]]
    body = data[2:] if data[1] % 2 == 0 else structured(data[2:], kind)
    with bounded():
        convert(body, f"gdrive/raw/F/{kind.name}")


def structured(data: bytes, kind: Kind) -> bytes:
    """Return the records that `data` chooses, written in a kind and perhaps damaged in a few places."""
    choices = Choices(data)
    written = kind.write([record(choices) for _ in range(choices.below(6))], choices)
    for _ in range(choices.below(4)):
        at = choices.below(len(written) + 1)
        piece = choices.one_of(
            (b"", b'"', b"\n", b"\0", b"\xff", b"{", b"]", b",", b"\\", b"\r", b"\xf0\x28")
        )
        written = written[:at] + piece + written[at + choices.below(6) :]
    return written[: choices.below(len(written) + 1)] if choices.below(8) == 7 else written


def _json(value: Any) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError:  # a lone surrogate, or an integer that is too large
        return json.dumps(value).encode()


def _cell(value: Any) -> str:
    return value if isinstance(value, str) else _json(value).decode()


@contextmanager
def bounded() -> Iterator[None]:
    """Raise AssertionError if a block takes more than CPU_SECONDS."""

    def too_long(number: int, frame: Any) -> None:
        raise AssertionError(f"more than {CPU_SECONDS} CPU seconds")

    before = signal.signal(signal.SIGPROF, too_long)
    signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
