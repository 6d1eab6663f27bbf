"""What is wrong is refused before anything is written, and what is half written is never seen."""

from collections.abc import Callable
import errno
import os
from pathlib import Path
import shutil
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from safetensors.torch import load_file, save_file
import torch

from pixel_pipeline.registry.base_models import BaseModelCorruptError
from pixel_pipeline.training.base.model import BaseModel, open_folder
from pixel_pipeline.training.export.adapter import DESCRIPTION, TENSORS, Adapter
from pixel_pipeline.training.export.errors import ExportCorruptError, ExportError
from pixel_pipeline.training.export.folder import ExportRecord
from pixel_pipeline.training.export.mixtral import export_adapter, export_mixtral
from pixel_pipeline.training.export.reference import reference_logits
from pixel_pipeline.training.export.verify import verify_export
from pixel_pipeline_tests.training.base.models import write_base
from pixel_pipeline_tests.training.export.adapters import write_adapter

ROWS = [torch.arange(30)]


@pytest.fixture
def base(tmp_path: Path) -> BaseModel:
    return open_folder(write_base(tmp_path / "base", shard=30_000))


@pytest.fixture
def adapter(tmp_path: Path, base: BaseModel) -> Adapter:
    return write_adapter(tmp_path / "adapter", base)


def test_adapters_of_another_base_are_refused(tmp_path: Path, adapter: Adapter) -> None:
    other = open_folder(write_base(tmp_path / "other", seed=1))
    with pytest.raises(ExportError, match=f"digest {adapter.description.base_digest[:12]}; .*/other has"):
        export_mixtral(other, adapter, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def edited(change: Callable[[dict[str, torch.Tensor]], Any]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        tensors = load_file(folder / TENSORS)
        change(tensors)
        save_file(tensors, folder / TENSORS)

    return edit


NAME = "layers.1.experts.up.lora_B"


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            edited(lambda tensors: tensors[NAME][2, 3].fill_(torch.nan)),
            rf"{NAME} has non-finite values",
        ),
        (
            edited(lambda tensors: tensors[NAME][0, 0].fill_(torch.inf)),
            rf"{NAME} has non-finite values",
        ),
        (edited(lambda tensors: tensors.pop(NAME)), f"{NAME} is missing"),
        (edited(lambda tensors: tensors.update(extra=torch.zeros(1))), "extra has no place"),
        (
            edited(lambda tensors: tensors.update({NAME: torch.zeros(4, 3, 48)})),
            rf"{NAME} is \[4, 3, 48\], not",
        ),
        (lambda folder: os.truncate(folder / TENSORS, 5_000), "truncated"),
    ],
    ids=["nan", "inf", "missing", "extra", "shape", "cut"],
)
def test_adapters_that_are_not_whole_are_refused(
    tmp_path: Path, base: BaseModel, adapter: Adapter, edit: Callable[[Path], None], message: str
) -> None:
    edit(adapter.folder)
    for export in (export_mixtral, export_adapter):
        with pytest.raises(ExportError, match=message):
            export(base, Adapter.open(adapter.folder), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rank": 0}, "rank"),
        ({"base_digest": None}, "base_digest"),
        ({"experts_per_token": 5}, "5 of 4 experts"),
        ({"layers": [0, 3]}, "experts in layer 3"),
    ],
    ids=str,
)
def test_descriptions_of_something_else_are_refused(
    tmp_path: Path, base: BaseModel, adapter: Adapter, change: dict[str, Any], message: str
) -> None:
    path = adapter.folder / DESCRIPTION
    path.write_bytes(orjson.dumps({**orjson.loads(path.read_bytes()), **change}))
    with pytest.raises(ExportError, match=message):
        Adapter.open(adapter.folder).check(base)


def test_a_disk_that_is_too_small_is_told_before_anything_is_written(
    tmp_path: Path, base: BaseModel, adapter: Adapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1_000))
    said: list[str] = []
    with pytest.raises(ExportError, match=r"takes [\d,]+ bytes; the disk of .* has 1,000 free"):
        export_mixtral(base, adapter, tmp_path / "out", report=said.append)
    assert len(said) == 1
    assert {path.name for path in tmp_path.iterdir()} == {"base", "adapter"}


def test_a_disk_that_fills_up_leaves_nothing_behind(
    tmp_path: Path, base: BaseModel, adapter: Adapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, written = os.write, 0

    def full(descriptor: int, data: Any) -> int:
        nonlocal written
        written += len(data)
        if written > 100_000:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(ExportError, match="is full"):
        export_mixtral(base, adapter, tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"base", "adapter"}


def test_a_target_that_is_taken_is_left_alone(tmp_path: Path, base: BaseModel, adapter: Adapter) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    with pytest.raises(ExportError, match="exists already"):
        export_mixtral(base, adapter, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]


def test_a_shard_of_the_base_that_is_lost_meanwhile_is_named(
    tmp_path: Path, base: BaseModel, adapter: Adapter
) -> None:
    lost = base.shards["model.layers.2.mlp.down_proj.weight"]
    (base.folder / lost).unlink()
    with pytest.raises(BaseModelCorruptError, match=lost):
        export_mixtral(base, adapter, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_flipped_byte_of_an_export_is_found(tmp_path: Path, base: BaseModel, adapter: Adapter) -> None:
    folder = tmp_path / "out"
    export_mixtral(base, adapter, folder, shard_bytes=50_000)
    path = sorted(folder.glob("model-*.safetensors"))[1]
    content = bytearray(path.read_bytes())
    content[-7] ^= 1
    path.write_bytes(content)
    with pytest.raises(ExportCorruptError, match="model-00002"):
        verify_export(folder, reference_logits(base, adapter), ROWS)
    path.unlink()
    with pytest.raises(ExportCorruptError, match=r"model-00002.* is missing"):
        ExportRecord.read(folder).check(folder)


def test_another_model_does_not_pass(tmp_path: Path, base: BaseModel, adapter: Adapter) -> None:
    export_mixtral(base, adapter, tmp_path / "out", dtype="fp32")
    other = reference_logits(base, write_adapter(tmp_path / "other", base, seed=1))
    assert not verify_export(tmp_path / "out", other, ROWS).passed
    # Logits that are no numbers are as far away as can be.
    nothing = verify_export(tmp_path / "out", lambda tokens: torch.full((1, 30, 300), torch.nan), ROWS)
    assert not nothing.passed


def test_adapters_alone_travel_with_their_tokenizer(
    tmp_path: Path, base: BaseModel, adapter: Adapter
) -> None:
    record = export_adapter(base, adapter, tmp_path / "out")
    again = Adapter.open(tmp_path / "out")
    again.check(base)
    assert again.sha256 == adapter.sha256 == record.adapter_sha256
    assert {"tokenizer.json", "chat_template.jinja", "config.json"} <= record.files.keys()
    record.check(tmp_path / "out")
    with pytest.raises(ExportError, match="only adapters"):
        verify_export(tmp_path / "out", reference_logits(base, adapter), ROWS)
