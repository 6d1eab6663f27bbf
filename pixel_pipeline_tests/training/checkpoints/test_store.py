"""Commit, verification, lookup and pruning of checkpoints; no torch needed."""

from pathlib import Path
from time import sleep

import pytest

from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.training.checkpoints.store import (
    CheckpointRef,
    download,
    list_checkpoints,
    point_to,
    prune,
    publish,
)
from pixel_pipeline.training.errors import CheckpointCorruptError, CheckpointNotFoundError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "files"
    path.mkdir()
    (path / "model.safetensors").write_bytes(b"weights")
    (path / "state.json").write_bytes(b"{}")
    return path


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    path = tmp_path / "empty"
    path.mkdir()
    return path


def test_round_trip_and_pointer(lake: Lake, folder: Path, empty: Path) -> None:
    ref = CheckpointRef(run="nano-1", step=200)
    publish(lake, ref, folder=folder, final=True)
    manifest = download(lake, ref, folder=empty)
    assert {path.name: path.read_bytes() for path in empty.iterdir()} == {
        "model.safetensors": b"weights",
        "state.json": b"{}",
    }
    assert manifest.final
    assert lake.checkpoints.get_json("nano-1/latest.json")["checkpoint"] == ref.uri(lake)
    assert ref.uri(lake).endswith("/nano-1/step-000200")


def test_a_folder_without_a_manifest_is_not_a_checkpoint(lake: Lake, folder: Path) -> None:
    publish(lake, CheckpointRef(run="nano-1", step=1), folder=folder, final=False)
    lake.checkpoints.put("nano-1/step-000002/model.safetensors", b"half")
    assert list_checkpoints(lake.checkpoints, "nano-1") == [CheckpointRef(run="nano-1", step=1)]


def test_resolve(lake: Lake, folder: Path) -> None:
    refs = [CheckpointRef(run="nano-1", step=step) for step in (5, 10)]
    for ref in refs:
        publish(lake, ref, folder=folder, final=False)
    newest = CheckpointRef(run="nano-2", step=1)
    publish(lake, newest, folder=folder, final=False)
    assert CheckpointRef.resolve(lake, "latest") == newest
    assert CheckpointRef.resolve(lake, "nano-1") == refs[1]
    assert CheckpointRef.resolve(lake, "nano-1/step-000005") == refs[0]
    assert CheckpointRef.resolve(lake, refs[0].uri(lake) + "/") == refs[0]
    assert CheckpointRef.resolve(lake, lake.checkpoints.uri("nano-1")) == refs[1]
    for wanted in ("nano-3", "nano-1/step-000007"):
        with pytest.raises(CheckpointNotFoundError, match="nano-1, nano-2"):
            CheckpointRef.resolve(lake, wanted)
    with pytest.raises(CheckpointNotFoundError, match="PIXEL_CHECKPOINT_BUCKET"):
        CheckpointRef.resolve(lake, "s3://elsewhere/nano-1")


def test_a_run_found_complete_is_the_latest_again(lake: Lake, folder: Path) -> None:
    first, second = CheckpointRef(run="nano-1", step=1), CheckpointRef(run="nano-2", step=1)
    for ref in (first, second):
        publish(lake, ref, folder=folder, final=True)
    written = {item.key: item.last_modified for item in lake.checkpoints.list("nano-2")}["nano-2/latest.json"]

    def renewed() -> bool:
        point_to(lake, first, final=True)
        (pointer,) = (item for item in lake.checkpoints.list("nano-1") if item.key == "nano-1/latest.json")
        return pointer.last_modified > written

    while not renewed():
        sleep(0.1)
    assert CheckpointRef.resolve(lake, "latest") == first


def test_an_empty_bucket_hints_how_to_train(lake: Lake) -> None:
    with pytest.raises(CheckpointNotFoundError, match="train_moe"):
        CheckpointRef.resolve(lake, "latest")


def test_changed_bytes_are_refused(lake: Lake, folder: Path, empty: Path) -> None:
    ref = CheckpointRef(run="nano-1", step=1)
    publish(lake, ref, folder=folder, final=False)
    lake.checkpoints.put(f"{ref.prefix}/model.safetensors", b"Weights")
    with pytest.raises(CheckpointCorruptError, match=r"model\.safetensors has SHA-256"):
        download(lake, ref, folder=empty)
    assert not (empty / "model.safetensors").exists()


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/b", "..", ".hidden", "", "a\nb"])
def test_names_outside_the_folder_are_refused(lake: Lake, folder: Path, empty: Path, name: str) -> None:
    ref = CheckpointRef(run="nano-1", step=1)
    publish(lake, ref, folder=folder, final=False)
    manifest = lake.checkpoints.get_json(f"{ref.prefix}/manifest.json")
    manifest["files"][name] = {"sha256": "0" * 64, "bytes": 1}
    lake.checkpoints.put_json(f"{ref.prefix}/manifest.json", manifest)
    with pytest.raises(CheckpointCorruptError, match="outside"):
        download(lake, ref, folder=empty)
    assert not any(empty.iterdir())


@pytest.mark.parametrize("change", [{"step": 2}, {"format": "other"}, {"files": 3}])
def test_wrong_manifests_are_refused(
    lake: Lake, folder: Path, empty: Path, change: dict[str, object]
) -> None:
    ref = CheckpointRef(run="nano-1", step=1)
    publish(lake, ref, folder=folder, final=False)
    key = f"{ref.prefix}/manifest.json"
    lake.checkpoints.put_json(key, {**lake.checkpoints.get_json(key), **change})
    with pytest.raises(CheckpointCorruptError, match="manifest"):
        download(lake, ref, folder=empty)


def test_prune_keeps_the_newest_and_other_runs(lake: Lake, folder: Path) -> None:
    refs = [CheckpointRef(run="nano-1", step=step) for step in (1, 2, 3)]
    other = CheckpointRef(run="nano-10", step=1)
    for ref in (*refs, other):
        publish(lake, ref, folder=folder, final=False)
    assert prune(lake, "nano-1", keep=2) == refs[:1]
    assert list_checkpoints(lake.checkpoints, "nano-1") == refs[1:]
    assert not [*lake.checkpoints.list(refs[0].prefix)]
    assert list_checkpoints(lake.checkpoints, "nano-10") == [other]
    assert prune(lake, "nano-1", keep=2) == []
