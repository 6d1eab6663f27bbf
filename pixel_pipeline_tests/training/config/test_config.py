"""Configuration, profiles and names of runs."""

from pathlib import Path
import subprocess
import sys

import pytest

from pixel_pipeline import training
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.tokens.shards import ShardManifest
from pixel_pipeline.training.config.config import TrainingConfig
from pixel_pipeline.training.config.recipes import PROFILES
from pixel_pipeline.training.config.shapes import ModelShape
from pixel_pipeline.training.errors import TrainingConfigError
from pixel_pipeline.training.runtime.identity import run_name


def test_definitions_may_import_without_torch() -> None:
    folder = Path(training.__file__).parent
    torch_free = [
        path.relative_to(folder).with_suffix("").as_posix().replace("/", ".")
        for path in sorted(folder.rglob("*.py"))
        if "Torch-free" in path.read_text(encoding="utf-8").split("\n\n")[0]
    ]
    assert len(torch_free) > 20
    modules = ", ".join(f"pixel_pipeline.training.{name}" for name in torch_free)
    heavy = "{'torch', 'transformers', 'lightning', 'matplotlib'}"
    program = f"import sys, {modules}; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("model", [TrainingConfig, ModelShape])
def test_every_field_is_described(model: type[TrainingConfig] | type[ModelShape]) -> None:
    for name, field in model.model_fields.items():
        assert field.description, name


def test_profiles_have_their_device() -> None:
    assert PROFILES["demo"].device == "cpu"
    assert PROFILES["h100"].device == "h100"


@pytest.mark.parametrize(
    "change",
    [
        {"preset": "gigantic", "shape": None},
        {"preset": "a/b"},
        {"warmup_steps": 12},
        {"steps": 0},
        {"stepz": 1},
    ],
)
def test_bad_configurations_are_refused(config: TrainingConfig, change: dict[str, object]) -> None:
    with pytest.raises(TrainingConfigError, match=next(iter(change))):
        TrainingConfig.parse({**config.model_dump(), **change})


def test_a_configuration_survives_plain_types(config: TrainingConfig) -> None:
    assert TrainingConfig.parse(config.model_dump(mode="json")) == config


def test_validation_steps_include_both_ends(config: TrainingConfig) -> None:
    assert config.validation_steps() == (0, 6, 12)
    assert config.model_copy(update={"steps": 2, "validations": 50}).validation_steps() == (0, 1, 2)


def test_the_run_name_depends_on_the_inputs_of_the_weights(
    lake: Lake, manifest_key: str, config: TrainingConfig
) -> None:
    manifest = ShardManifest.load(lake.data, manifest_key)
    name = run_name(config, manifest, base_digest=None)
    assert name.startswith("tiny-")
    assert len(name) == len("tiny-") + 12
    assert run_name(config.model_copy(update={"log_every_seconds": 99.0}), manifest, base_digest=None) == name
    assert run_name(config.model_copy(update={"seed": 8}), manifest, base_digest=None) != name
