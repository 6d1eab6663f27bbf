"""The model recipe: the losses of short runs, from scratch and with adapters."""

from pathlib import Path

from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.training.config.config import TrainingConfig
from pixel_pipeline.training.runtime.identity import LIBRARIES, RECIPE_VERSION
from pixel_pipeline.training.train import train
from pixel_pipeline.versions import library_versions
from pixel_pipeline_tests.golden import golden


def test_runs_have_the_recorded_losses(
    lake: Lake, manifest_key: str, config: TrainingConfig, adapted: TrainingConfig, cache: Path
) -> None:
    losses = {}
    for name, chosen in (("from scratch", config), ("adapters", adapted)):
        short = chosen.model_copy(update={"steps": 6})
        history = train(
            short, lake, manifest_key, report=lambda line: None, git_revision="", cache=cache
        ).history
        losses[name] = [*map(float, history.losses), *(float(found.loss) for found in history.validations)]
    golden.check(RECIPE_VERSION, losses, libraries=library_versions(*LIBRARIES))
