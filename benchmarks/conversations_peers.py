"""The peers' side of `conversations.py`: columns as they are, without detection, roles or hashes.

Each peer runs in two ways: as its documentation shows for an unknown file, which is also this project's situation; and `tuned`
with a known schema and the best size of row groups, the fastest way known to us.

Runs in `.venv-peers`; imports only the harness from this project.
"""

from collections.abc import Callable
import os
from pathlib import Path
from typing import Any

from benchmarks.harness import serve

LIBRARIES = ("daft", "datasets", "datatrove", "duckdb", "polars", "pyarrow")
TEXT_COLUMNS = {
    "thoughts.jsonl": ("Question", "Complex_CoT", "Response"),
    "answers.csv": ("question", "answer"),
}
ROLES = {"system": "system", "human": "user", "gpt": "assistant"}
Work = Callable[[], int]

os.environ |= {
    "DAFT_ANALYTICS_ENABLED": "0",
    "DAFT_PROGRESS_BAR": "0",
    "DO_NOT_TRACK": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
}


def convert_duckdb(path: str, out: str, kind: str, tuned: bool) -> Work:
    """Count rows, like all jobs here."""
    import duckdb

    columns = dict.fromkeys(TEXT_COLUMNS.get(kind, ()), "VARCHAR") or {
        "id": "VARCHAR",
        "conversations": 'STRUCT("from" VARCHAR, "value" VARCHAR)[]',
    }
    lines = "newline_delimited" if kind.endswith(".jsonl") else "array"
    read, known = ("csv", "header = true") if kind.endswith(".csv") else ("json", f"format = '{lines}'")
    source = f"read_{read}('{path}'{f', {known}, columns = {columns}' if tuned else ''})"
    # With the default row groups of 122,880 rows, one thread writes most of the file.
    groups = ", ROW_GROUP_SIZE 16384" if tuned else ""
    # Its default is all cores of the machine, even if this process is limited to fewer.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    database = duckdb.connect(config={"threads": cores})

    def work() -> int:
        copied = database.execute(
            f"COPY (FROM {source}) TO '{out}/rows.parquet' (FORMAT parquet, COMPRESSION zstd{groups})"
        ).fetchall()
        return int(copied[0][0])

    return work


def convert_polars(path: str, out: str, kind: str, tuned: bool) -> Work:
    import polars as pl

    turns = pl.List(pl.Struct({"from": pl.String, "value": pl.String}))
    schema: dict[str, Any] = dict.fromkeys(TEXT_COLUMNS.get(kind, ()), pl.String) or {
        "id": pl.String,
        "conversations": turns,
    }
    target = f"{out}/rows.parquet"
    known: dict[str, Any] = {"schema": schema} if tuned else {}
    written: dict[str, Any] = {"compression": "zstd"} | ({"row_group_size": 16_384} if tuned else {})

    def work() -> int:
        if kind.endswith(".json"):
            pl.read_json(path, **known).write_parquet(target, **written)
        else:
            scan = pl.scan_csv if kind.endswith(".csv") else pl.scan_ndjson
            scan(path, **known).sink_parquet(target, **written)
        return int(pl.scan_parquet(target).select(pl.len()).collect().item())

    return work


def convert_daft(path: str, out: str, kind: str, tuned: bool) -> Work:
    import daft

    text = daft.DataType.string()
    turns = daft.DataType.list(daft.DataType.struct({"from": text, "value": text}))
    schema = dict.fromkeys(TEXT_COLUMNS.get(kind, ()), text) or {"id": text, "conversations": turns}
    read: Any = daft.read_csv if kind.endswith(".csv") else daft.read_json
    known = {"infer_schema": False, "schema": schema} if tuned else {}

    def work() -> int:
        read(path, **known).write_parquet(out, compression="zstd")
        return int(daft.read_parquet(f"{out}/*.parquet").count_rows())

    return work


def convert_pyarrow(path: str, out: str, kind: str, tuned: bool) -> Work:
    """When tuned, a separate thread parses blocks while earlier ones are written."""
    import pyarrow as pa
    from pyarrow import csv, json
    import pyarrow.parquet as pq

    turns = pa.list_(pa.struct({"from": pa.string(), "value": pa.string()}))
    columns = dict.fromkeys(TEXT_COLUMNS.get(kind, ()), pa.string()) or {
        "id": pa.string(),
        "conversations": turns,
    }

    # By default, a cell must not contain line breaks.
    cells = csv.ParseOptions(newlines_in_values=True)

    def opened() -> Any:
        if kind.endswith(".csv"):
            return csv.open_csv(
                path,
                parse_options=cells,
                convert_options=csv.ConvertOptions(column_types=columns),
            )
        return json.open_json(path, parse_options=json.ParseOptions(explicit_schema=pa.schema(columns)))

    def work() -> int:
        if not tuned:
            is_table = kind.endswith(".csv")
            rows = csv.read_csv(path, parse_options=cells) if is_table else json.read_json(path)
            pq.write_table(rows, f"{out}/rows.parquet", compression="zstd")
            return int(rows.num_rows)
        count = 0
        with (
            opened() as reader,
            pq.ParquetWriter(f"{out}/rows.parquet", reader.schema, compression="zstd") as writer,
        ):
            for batch in reader:
                writer.write_batch(batch)
                count += batch.num_rows
        return count

    return work


def map_datatrove(paths: list[str], out: str) -> Work:
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.writers import ParquetWriter
    import pyarrow as pa

    roles = ROLES

    def read(self: Any, data: dict[str, Any], path: str, id_in_file: int | str) -> dict[str, Any]:
        messages = [{"role": roles[turn["from"]], "content": turn["value"]} for turn in data["conversations"]]
        # datatrove drops documents without text.
        return {"text": messages[0]["content"], "id": data["id"], "metadata": {"messages": messages}}

    def written(self: Any, document: Any) -> dict[str, Any]:
        return {"id": document.id, "messages": document.metadata["messages"]}

    names = Path(out, "paths.txt")
    names.write_text("".join(f"{Path(path).name}\n" for path in paths))
    message = pa.struct({"role": pa.string(), "content": pa.string()})
    executor = LocalPipelineExecutor(
        pipeline=[
            JsonlReader(str(Path(paths[0]).parent), str(names), adapter=read, add_file_path=False),
            ParquetWriter(
                f"{out}/rows",
                compression="zstd",
                adapter=written,
                schema=pa.schema({"id": pa.string(), "messages": pa.list_(message)}),
                use_content_defined_chunking=False,
            ),
        ],
        tasks=len(paths),
        workers=len(paths),
        logging_dir=f"{out}/logs",
    )

    def work() -> int:
        executor.run()
        return _rows(f"{out}/rows")

    return work


def map_datasets(paths: list[str], out: str) -> Work:
    import datasets

    datasets.disable_progress_bars()
    roles = ROLES

    def mapped(rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
        return {
            "messages": [
                [{"role": roles[turn["from"]], "content": turn["value"]} for turn in turns]
                for turns in rows["conversations"]
            ]
        }

    def work() -> int:
        read = datasets.load_dataset(
            "json", data_files=paths, split="train", num_proc=len(paths), cache_dir=f"{out}/cache"
        )
        rows = read.map(mapped, batched=True, num_proc=len(paths), remove_columns=["conversations"])
        # datasets always chooses the compression itself, here snappy.
        rows.to_parquet(f"{out}/rows.parquet", use_content_defined_chunking=False)
        return int(rows.num_rows)

    return work


def _rows(folder: str) -> int:
    import pyarrow.parquet as pq

    return sum(pq.read_metadata(path).num_rows for path in Path(folder).glob("*.parquet"))


if __name__ == "__main__":
    jobs: list[Callable[..., Work]] = [
        convert_duckdb,
        convert_polars,
        convert_daft,
        convert_pyarrow,
        map_datatrove,
        map_datasets,
    ]
    serve({job.__name__: job for job in jobs}, libraries=LIBRARIES)
