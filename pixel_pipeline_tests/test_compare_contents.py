"""`scripts/compare_contents.py` finds one changed row, field or tensor, and ignores digests in names, times and row order."""

from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
import json
from pathlib import Path
from typing import Any

from deltalake import write_deltalake
import numpy as np
import pyarrow as pa
import pytest
from safetensors.numpy import save
from typer.testing import CliRunner

from pixel_pipeline.lake.lake import Lake

SCRIPT = Path(__file__).resolve().parent.parent / "scripts" / "compare_contents.py"
ROWS = [
    {
        "id": "a",
        "messages": [{"role": "user", "content": "one"}],
        "reason": "odd",
        "part": "1",
        "code_version": "1",
    },
    {
        "id": "b",
        "messages": [{"role": "user", "content": "two"}],
        "reason": "odd",
        "part": "2",
        "code_version": "1",
    },
]


@pytest.fixture(scope="module")
def script() -> Any:
    spec = spec_from_file_location("compare_contents", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def digest(script: Any, lake: Lake, tmp_path: Path) -> Callable[..., Any]:
    """Write a small lake with the given changes, and digest it."""
    options = lake.storage_options() | {"data": lake.data.name, "checkpoints": lake.checkpoints.name}

    def write(
        rows: list[dict[str, Any]] = ROWS,
        *,
        token: int = 5,
        weight: float = 0.5,
        recipe: str = "0" * 12,
        turns: int = 9,
    ) -> Any:
        write_deltalake(
            lake.data.uri("curated"),
            pa.Table.from_pylist(rows),
            mode="overwrite",
            partition_by=["part"],
            storage_options=lake.storage_options(),
        )
        lake.data.put_json("config/dataset_registry.json", {"datasets": {"crisis": {"turns": turns}}})
        folder = f"tokens/t/{recipe}"
        shard = {"key": f"{folder}/train-crisis-00000.safetensors", "sha256": recipe}
        lake.data.put(shard["key"], save({"tokens": np.array([[1, token]], np.int32)}))
        lake.data.put_json("tokens/t/tokenizer.json", {"model": {"type": "BPE"}})
        manifest = {
            "base": None,
            "sequence_length": 2,
            "tokenizer": {"key": "tokens/t/tokenizer.json"},
            "splits": {"train": {"shards": [shard]}},
        }
        lake.data.put_json(f"{folder}/manifest.json", manifest)
        run = f"nano-{recipe}"
        weights = {"head": np.array([weight], np.float32), "embedding": np.zeros(3, np.float32)}
        lake.checkpoints.put(f"{run}/step-000002/model.safetensors", save(weights))
        lake.checkpoints.put_json(
            f"{run}/step-000002/manifest.json",
            {"run": run, "final": True, "files": {"model.safetensors": {}}},
        )
        (tmp_path / "probe").mkdir(exist_ok=True)
        (tmp_path / "probe" / "model.safetensors").write_bytes(save({"head": np.array([weight])}))
        return script.digest_lake(options, tmp_path)

    return write


def test_digests_in_names_and_the_order_of_rows_are_no_difference(
    script: Any, digest: Callable[..., Any]
) -> None:
    before = digest()
    after = digest([row | {"part": "9", "code_version": "2"} for row in reversed(ROWS)], recipe="f" * 12)
    assert script.differences(before, after) == []
    assert len(before) == 9


def test_one_changed_row_is_found_by_its_id_and_column(script: Any, digest: Callable[..., Any]) -> None:
    before = digest()
    after = digest([ROWS[0], ROWS[1] | {"messages": [{"role": "user", "content": "two "}]}])
    assert script.differences(before, after) == ["curated columns: messages", "curated records: b"]
    assert script.differences(before, after, ignore=frozenset({"messages"})) == []


def test_a_row_that_is_repeated_or_missing_is_found(script: Any, digest: Callable[..., Any]) -> None:
    before = digest()
    twice, missing = digest([*ROWS, ROWS[0]]), digest(ROWS[:1])
    assert [line for line in script.differences(before, twice) if "columns" not in line] == [
        "curated records: a",
        "curated rows: number",
    ]
    assert "curated records: b (only before)" in script.differences(before, missing)


def test_wording_is_reported_as_a_column_alone(script: Any, digest: Callable[..., Any]) -> None:
    before = digest()
    after = digest([row | {"reason": "strange"} for row in ROWS])
    assert script.differences(before, after) == ["curated columns: reason"]


def test_one_changed_tensor_or_field_is_found(
    script: Any, digest: Callable[..., Any], tmp_path: Path
) -> None:
    before = digest()
    after = digest(token=6, weight=0.25, turns=10)
    lines = [
        "checkpoints/nano/step-000002/model.safetensors: head",
        "config/dataset_registry.json: datasets.crisis",
        "exports/probe/model.safetensors: head",
        "tokens/own-2/train-crisis-00000.safetensors: tokens",
    ]
    assert script.differences(before, after) == lines
    files = [str(tmp_path / "before.json"), str(tmp_path / "after.json")]
    for file, content in zip(files, (before, after), strict=True):
        Path(file).write_text(json.dumps(content))
    result = CliRunner().invoke(script.app, ["diff", *files])
    assert (result.exit_code, result.stdout.splitlines()) == (1, lines)
    result = CliRunner().invoke(script.app, ["diff", files[0], files[0]])
    assert (result.exit_code, result.stdout) == (0, "The contents are equal.\n")
