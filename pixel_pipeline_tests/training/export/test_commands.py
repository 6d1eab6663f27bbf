"""`pixel export` and `pixel verify-export` as they are typed, on checkpoints in the lake and in folders."""

import json
from pathlib import Path
import shutil

import pytest
from typer.testing import CliRunner, Result

from pixel_pipeline.cli import app
from pixel_pipeline.errors import PixelError
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.registry.base_models import BaseModelNotFoundError
from pixel_pipeline.training.base.add import add_base
from pixel_pipeline.training.base.opening import open_base
from pixel_pipeline.training.checkpoints.store import CheckpointRef, publish
from pixel_pipeline.training.errors import CheckpointNotFoundError
from pixel_pipeline.training.export.commands import conversation_rows
from pixel_pipeline.training.export.errors import ExportCorruptError, ExportError
from pixel_pipeline_tests.training.base.models import write_base
from pixel_pipeline_tests.training.export.adapters import write_adapter


def pixel(*arguments: str) -> Result:
    result = CliRunner().invoke(app, [*arguments])
    if isinstance(result.exception, PixelError):
        raise result.exception
    return result


@pytest.fixture
def checkpoint(lake: Lake, tmp_path: Path) -> CheckpointRef:
    """Adapters of a base in the lake, as a checkpoint with other files beside them."""
    home = tmp_path / "home"
    add_base(
        lake,
        str(write_base(tmp_path / "tiny", max_position_embeddings=4096)),
        home=home,
        report=lambda line: None,
    )
    write_adapter(tmp_path / "adapter", open_base(lake, "tiny", home=home))
    (tmp_path / "adapter" / "optimizer.safetensors").write_bytes(b"not needed")
    ref = CheckpointRef(run="mixture-1", step=30)
    publish(lake, ref, folder=tmp_path / "adapter", final=True)
    return ref


def test_a_checkpoint_of_the_lake_is_exported_and_verified(
    lake: Lake, checkpoint: CheckpointRef, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    result = pixel("export", "mixture-1", "--output", str(folder), "--dtype", "fp32")
    assert result.exit_code == 0
    lines = result.stderr.splitlines()
    assert lines[0].startswith("writing ")
    assert f"Next: pixel verify-export {folder}" in lines
    record = json.loads((folder / "export.json").read_bytes())
    assert (record["base"], record["adapter"]) == ("tiny", checkpoint.uri(lake))
    result = pixel("verify-export", str(folder), "--rows", "3", "--length", "50")
    assert result.exit_code == 0
    assert result.stderr.startswith("the same model (fp32, 150 tokens)")
    document = json.loads(pixel("verify-export", str(folder), "--rows", "2", "--json").stdout)
    assert document["passed"]
    assert document["max_logit_difference"] <= 2e-5
    assert json.loads((folder / "verification.json").read_bytes()) == document


def test_a_folder_is_exported_in_bf16_and_alone(
    lake: Lake, checkpoint: CheckpointRef, tmp_path: Path
) -> None:
    source = str(tmp_path / "adapter")
    document = json.loads(pixel("export", source, "--output", str(tmp_path / "out"), "--json").stdout)
    assert (document["kind"], document["dtype"]) == ("mixtral", "bf16")
    assert pixel("verify-export", str(tmp_path / "out")).exit_code == 0
    pixel("export", source, "--output", str(tmp_path / "alone"), "--format", "adapter")
    again = pixel("export", str(tmp_path / "alone"), "--output", str(tmp_path / "again"), "--json")
    assert json.loads(again.stdout)["files"] == document["files"]


def test_verification_wants_the_adapters_that_were_exported(
    lake: Lake, checkpoint: CheckpointRef, tmp_path: Path
) -> None:
    folder, base = str(tmp_path / "out"), open_base(lake, "tiny", home=tmp_path / "home")
    pixel("export", str(tmp_path / "adapter"), "--output", folder)
    shutil.rmtree(tmp_path / "adapter")
    with pytest.raises(ExportError, match=r"has no adapter\.json"):
        pixel("verify-export", folder)
    assert pixel("verify-export", folder, "--checkpoint", "latest").exit_code == 0
    write_adapter(tmp_path / "adapter", base, seed=1)
    with pytest.raises(ExportError, match="--checkpoint"):
        pixel("verify-export", folder)


def test_another_model_ends_with_an_error(
    lake: Lake, checkpoint: CheckpointRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pixel_pipeline.training.export.verify.LARGEST_KL_BF16", 0.0)
    pixel("export", "latest", "--output", str(tmp_path / "out"))
    result = pixel("verify-export", str(tmp_path / "out"))
    assert result.exit_code == 1
    assert result.stderr.startswith("NOT the same model")


def test_what_is_not_there_is_told(lake: Lake, checkpoint: CheckpointRef, tmp_path: Path) -> None:
    target = str(tmp_path / "out")
    with pytest.raises(CheckpointNotFoundError, match="mixture-1"):
        pixel("export", "mixture-2", "--output", target)
    with pytest.raises(ExportError, match=r"has no adapter\.json"):
        pixel("export", str(tmp_path), "--output", target)
    with pytest.raises(BaseModelNotFoundError, match="There are: tiny"):
        pixel("export", "latest", "--output", target, "--base", "other")
    with pytest.raises(ExportCorruptError, match="pixel export"):
        pixel("verify-export", target)
    assert not Path(target).exists()


def test_rows_are_conversations_in_the_template_of_the_export(
    lake: Lake, checkpoint: CheckpointRef, tmp_path: Path
) -> None:
    rows = conversation_rows(tmp_path / "tiny", rows=12, length=64)
    assert len(rows) == 12
    assert {len(row) for row in rows} == {64}
    assert all(row[0] == 1 for row in rows)
    assert len({tuple(row.tolist()) for row in rows}) == 12
