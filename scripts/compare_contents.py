"""Prove that two lakes hold the same contents, for instance before and after a change of the code.

    python scripts/compare_contents.py digest --home .pixel --json before.json
    python scripts/compare_contents.py digest --home /tmp/after --json after.json
    python scripts/compare_contents.py diff before.json after.json

`digest` covers the rows of every Delta table in the data bucket, the dataset registry, the token shards, the final checkpoint
of every run with its evaluation, and the folders under `<home>/exports`. `diff` lists the differences and exits with 1 if there
are any. Two homes filled by `pixel demo` with the same code on the same kind of machine have none.

Left out, because they change with a recipe, a run or the clock: VOLATILE_COLUMNS and VOLATILE_FIELDS, the order of rows and
files in a table, digests in keys and run names, the bookkeeping in `_pixel/conversion` and `_pixel/memo`, checkpoints before the
final one, pictures and Markdown. Of several runs or sets of shards with the same label, the newest counts.

`diff --ignore FIELD` accepts an intended change of a column or JSON field, such as `reason` when only its wording changed.

The demo's checkpoint cannot be exported, as it was trained from scratch. `export-probe --home HOME` trains adapters for two
steps on a tiny random base model and exports them; a `digest` of that home then covers adapters and an export as well.

A digest holds names, object keys and ids, and no text. It has an entry per record: the script is meant for the demo and for
test lakes. It relies on the `pixel` command and the stored formats alone, so it also reads the homes of older versions.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
import hashlib
import io
import json
import os
from pathlib import Path
import re
import shutil
import subprocess
import sys
from typing import Annotated, Any
from urllib.parse import unquote

from deltalake import DeltaTable
import obstore
from obstore.store import S3Store
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import typer
import xxhash

VOLATILE_COLUMNS = {"code_version", "part", "last_modified", "noticed_at", "at"}
VOLATILE_FIELDS = {"key", "manifest_key", "checkpoint", "adapter", "run"}
VOLATILE_FIELDS |= {"recipe", "identity", "code_version", "git_revision", "seconds", "libraries"}
# Of whole files, which are compared by their contents.
VOLATILE_FIELDS |= {"sha256", "model_sha256", "adapter_sha256", "bytes"}
WORDING = {"reason", "detection"}
"""Columns written for people: compared as columns, but not part of the digests of records."""
LABELS = ("id", "source_key", "key", "path")
"""The first of these columns that a table has identifies its records."""
REGISTRY = "config/dataset_registry.json"
RUN_DIGEST = re.compile(r"-[0-9a-f]{12}$")

Digest = dict[str, dict[str, str]]
"""Digests by subject (the rows, columns or records of a table, or a file) and by part of the subject."""

app = typer.Typer(help="Compare the contents of two lakes.", no_args_is_help=True, add_completion=False)
Home = Annotated[Path, typer.Option(help="PIXEL_HOME of a lake on the embedded server.")]
Target = Annotated[Path, typer.Option("--json", help="File to write.")]
Ignore = Annotated[list[str] | None, typer.Option(help="Column or JSON field to leave out; repeatable.")]


@app.command()
def digest(home: Home, target: Target) -> None:
    """Write the digest of a lake. Starts its embedded server if needed, and stops it again."""
    with _server(home.resolve()) as options:
        content = digest_lake(options, home.resolve() / "exports")
    target.write_text(json.dumps(content, indent=1, sort_keys=True))
    typer.echo(f"{target}: {len(content)} parts of the lake, {sum(map(len, content.values())):,} digests")


@app.command()
def diff(first: Path, second: Path, ignore: Ignore = None) -> None:
    """List the differences of two digests; exit with 1 if there are any."""
    before, after = json.loads(first.read_bytes()), json.loads(second.read_bytes())
    lines = differences(before, after, ignore=frozenset(ignore or ()))
    typer.echo("\n".join(lines) if lines else "The contents are equal.")
    raise typer.Exit(bool(lines))


@app.command()
def export_probe(home: Home) -> None:
    """Train two steps of adapters on a tiny random base model and export them to `<home>/exports/probe`."""
    home = home.resolve()
    work, target = home / "probe", home / "exports" / "probe"
    for folder in (work, target):
        shutil.rmtree(folder, ignore_errors=True)
    _write_tiny_base(work / "base")
    with _server(home):
        _pixel(home, "base", "add", f"{work}/base", "--name", "probe", "--licence", "Apache-2.0")
        _pixel(home, "sample", "--output", f"{work}/drive", "--conversations", "150")
        data = ("--dataset-path", f"{work}/drive")
        _pixel(home, "train", *data, "--base", "probe", "--steps", "2", "--run", "probe")
        _pixel(home, "export", "probe", "--output", str(target), "--dtype", "fp32")


def digest_lake(options: dict[str, str], exports: Path) -> Digest:
    """Digest both buckets of a lake, and a folder of exports.

    Args:
        options: S3 options by the names of delta-rs; the names of the buckets as `data` and `checkpoints`.
    """
    content: Digest = {}
    data, checkpoints = Objects(options["data"], options), Objects(options["checkpoints"], options)
    for key in sorted({key.split("/_delta_log/")[0] for key in data.times if "/_delta_log/" in key}):
        content |= _table(data, key)
    if REGISTRY in data.times:
        content |= _file(REGISTRY, data.get(REGISTRY))
    for key in data.newest_last(r"tokens/.*/manifest\.json"):
        manifest = orjson.loads(data.get(key))
        label = f"tokens/{manifest['base'] or 'own'}-{manifest['sequence_length']}"
        content |= _file(f"{label}/manifest.json", data.get(key))
        content |= _file(f"{label}/tokenizer.json", data.get(manifest["tokenizer"]["key"]))
        for shard in (shard for split in manifest["splits"].values() for shard in split["shards"]):
            content |= _file(f"{label}/{shard['key'].rsplit('/', 1)[1]}", data.get(shard["key"]))
    for key in checkpoints.newest_last(r"[^/]+/step-\d+/manifest\.json"):
        manifest = orjson.loads(checkpoints.get(key))
        run, step, _ = key.split("/")
        if manifest["final"]:
            label = f"checkpoints/{RUN_DIGEST.sub('', run)}/{step}"
            for name in manifest["files"]:
                content |= _file(f"{label}/{name}", checkpoints.get(f"{run}/{step}/{name}"))
            report = f"{run}/evaluation/{step}/evaluation.json"
            if report in checkpoints.times:
                content |= _file(f"{label}/evaluation.json", checkpoints.get(report))
    for path in sorted(path for path in exports.rglob("*") if path.is_file()):
        content |= _file(f"exports/{path.relative_to(exports)}", path.read_bytes())
    return content


def differences(before: Digest, after: Digest, *, ignore: frozenset[str] = frozenset()) -> list[str]:
    """One line per table, file and kind of difference; empty if the contents are equal."""
    lines = []
    for name in sorted({*before, *after}):
        one, other = before.get(name, {}), after.get(name, {})
        table = name.removesuffix(" records")
        if table != name and (ignore - WORDING) & {*before.get(f"{table} columns", ())}:
            # The digest of a record covers the ignored column as well.
            continue
        parts = [
            part
            + ("" if part in one and part in other else f" (only {'before' if part in one else 'after'})")
            for part in sorted({*one, *other})
            if one.get(part) != other.get(part) and not ignore & {*part.split(".")}
        ]
        if parts:
            more = f" and {len(parts) - 5:,} more" if len(parts) > 5 else ""
            lines.append(f"{name}: {', '.join(parts[:5])}{more}")
    return lines


class Objects:
    """The objects of one bucket, and when each was written."""

    def __init__(self, bucket: str, options: dict[str, str]) -> None:
        self.bucket, self.options = bucket, options
        config: Any = {name: value for name, value in options.items() if name.startswith("AWS_")}
        self.store = S3Store(bucket=bucket, config=config, client_options={"allow_http": True})
        self.times = {
            item["path"]: item["last_modified"] for page in obstore.list(self.store) for item in page
        }

    def get(self, key: str) -> bytes:
        """The whole object."""
        return obstore.get(self.store, key).bytes().to_bytes()

    def newest_last(self, pattern: str) -> list[str]:
        """Keys that match a pattern, in the order in which they were written."""
        found = [key for key in self.times if re.fullmatch(pattern, key)]
        return sorted(found, key=lambda key: (self.times[key], key))


def _table(objects: Objects, key: str) -> Digest:
    """Number of rows, a digest of each column, and one of each record. They are sums: the order of rows does not matter."""
    table = DeltaTable(f"s3://{objects.bucket}/{key}", storage_options=objects.options)
    names = [field.name for field in table.schema().fields if field.name not in VOLATILE_COLUMNS]
    label = next((name for name in LABELS if name in names), names[0])
    rows, columns, records = 0, Counter(dict.fromkeys(names, 0)), Counter[str]()
    for file in pa.table(table.get_add_actions(flatten=True)).to_pylist():
        partition = {name[10:]: value for name, value in file.items() if name.startswith("partition.")}
        parquet = pq.ParquetFile(io.BytesIO(objects.get(f"{key}/{unquote(file['path'])}")))
        for row in (partition | row for batch in parquet.iter_batches() for row in batch.to_pylist()):
            cells = {
                name: xxhash.xxh3_128_hexdigest(_bytes([row.get(label), row.get(name)])) for name in names
            }
            for name, cell in cells.items():
                columns[name] += int(cell, 16)
            record = {name: cell for name, cell in cells.items() if name not in WORDING}
            records[str(row.get(label))] += xxhash.xxh3_128_intdigest(_bytes(record))
            rows += 1
    digests = {f"{key} {kind}": sums for kind, sums in (("columns", columns), ("records", records))}
    return {f"{key} rows": {"number": str(rows)}} | {
        name: {part: f"{value % 2**128:032x}" for part, value in sums.items()}
        for name, sums in digests.items()
    }


def _file(name: str, data: bytes) -> Digest:
    """A file by its tensors or JSON fields, a chat template as a whole; nothing for other kinds of files."""
    if name.endswith(".safetensors"):
        return {name: dict(_tensors(data))}
    if name.endswith(".json"):
        return {name: dict(_fields(orjson.loads(data)))}
    return {name: {"text": hashlib.sha256(data).hexdigest()}} if name.endswith(".jinja") else {}


def _tensors(data: bytes) -> Iterator[tuple[str, str]]:
    """SHA-256 of dtype, shape and bytes of each tensor. Layout: the safetensors README, section "Format"."""
    start = 8 + int.from_bytes(data[:8], "little")
    for name, tensor in orjson.loads(data[8:start]).items():
        if name != "__metadata__":
            first, last = tensor.pop("data_offsets")
            content = data[start + first : start + last]
            yield name, hashlib.sha256(_bytes(tensor) + content).hexdigest()


def _fields(document: Any, prefix: str = "", depth: int = 2) -> Iterator[tuple[str, str]]:
    """Digest of each field, named by its path of at most two names."""
    if isinstance(document, dict) and document and depth:
        for name in document.keys() - VOLATILE_FIELDS:
            yield from _fields(document[name], f"{prefix}.{name}".strip("."), depth - 1)
    else:
        yield prefix, hashlib.sha256(_bytes(_stable(document))).hexdigest()


def _stable(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _stable(value[name]) for name in value.keys() - VOLATILE_FIELDS}
    return [_stable(item) for item in value] if isinstance(value, list) else value


def _bytes(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS, default=bytes.hex)


@contextmanager
def _server(home: Path) -> Iterator[dict[str, str]]:
    """Options for the embedded server of a home, which is left running or stopped as it was found."""
    was_running = _pixel(home, "s3", "status", check=False) == 0
    _pixel(home, "s3", "up")
    try:
        ports = json.loads((home / "s3" / "server.json").read_bytes())["ports"]
        credentials = json.loads((home / "s3" / "credentials.json").read_bytes())
        yield {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{ports['s3.port']}",
            "AWS_ACCESS_KEY_ID": credentials["access_key"],
            "AWS_SECRET_ACCESS_KEY": credentials["secret_key"],
            "AWS_REGION": "us-east-1",
            "AWS_ALLOW_HTTP": "true",
            "data": os.environ.get("PIXEL_BUCKET", "pixel-data"),
            "checkpoints": os.environ.get("PIXEL_CHECKPOINT_BUCKET", "pixel-checkpoints"),
        }
    finally:
        if not was_running:
            _pixel(home, "s3", "down")


def _pixel(home: Path, *arguments: str, check: bool = True) -> int:
    command = [sys.executable, "-m", "pixel_pipeline.cli", *arguments]
    environment = {**os.environ, "PIXEL_HOME": str(home)}
    return subprocess.run(command, cwd=Path(__file__).parent.parent, env=environment, check=check).returncode


def _write_tiny_base(folder: Path) -> None:
    """A random Llama with a byte-level tokenizer and ChatML, stored as its publisher would."""
    from tokenizers import ByteLevelBPETokenizer
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    special = {"pad_token": "<|pad|>", "bos_token": "<|im_start|>", "eos_token": "<|im_end|>"}
    tokenizer = ByteLevelBPETokenizer()
    text = "I feel calm and tired, and I sleep better after a walk."
    tokenizer.train_from_iterator([text], vocab_size=300, special_tokens=[*special.values()])
    template = (
        "{% for message in messages %}"
        "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, chat_template=template, **special)
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    sizes |= {"num_key_value_heads": 2, "vocab_size": len(fast), "max_position_embeddings": 512}
    sizes |= {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    LlamaForCausalLM(LlamaConfig(**sizes)).save_pretrained(folder)


if __name__ == "__main__":
    app()
