"""Options that `pixel plan` and `pixel train` share, and the session that they describe."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pixel_pipeline.cli.console import Flag
from pixel_pipeline.settings import get_settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from pixel_pipeline.lake.lake import Lake
    from pixel_pipeline.training.planning.session import Session

DATA, MODEL, TIME = "Data", "Model and run", "Time"


class PriorityOption(StrEnum):
    """The goal of a run."""

    fast = "fast"
    balanced = "balanced"
    quality = "quality"
    memory = "memory"


DatasetPath = Annotated[
    Path | None,
    typer.Option(
        help="Folder or file of this machine, in any form that `pixel ingest` accepts.", rich_help_panel=DATA
    ),
]
S3Path = Annotated[
    str | None,
    typer.Option(
        help="s3:// URI or key in the data bucket: a shard manifest, or a table of conversations.",
        rich_help_panel=DATA,
    ),
]
Base = Annotated[
    str | None,
    typer.Option(
        help="Base model to train adapters on (`pixel base list`). Default: the one that the shards were made for; without one, "
        "a model is trained from scratch.",
        rich_help_panel=MODEL,
    ),
]
PriorityChoice = Annotated[
    PriorityOption | None,
    typer.Option(
        help="fast: one pass through the data; balanced: two; quality: four, stopping early; "
        "memory: like balanced, in the least memory.",
        rich_help_panel=MODEL,
    ),
]
Config = Annotated[
    Path | None,
    typer.Option(
        help="YAML file with fields of the training configuration. Options on the command line override it.",
        rich_help_panel=MODEL,
    ),
]
Steps = Annotated[
    int | None,
    typer.Option(
        min=1, help="Steps of the whole run, instead of the priority's epochs.", rich_help_panel=MODEL
    ),
]
InitFrom = Annotated[
    str | None,
    typer.Option(
        metavar="CHECKPOINT",
        help="Start a new run from the weights of a checkpoint: RUN, RUN/step-000200, `promoted`, or an s3:// URI.",
        rich_help_panel=MODEL,
    ),
]
Run = Annotated[
    str | None,
    typer.Option(
        help="Name of the run. Default: a name derived from data and configuration.", rich_help_panel=MODEL
    ),
]
DenseBaseline = Annotated[
    bool,
    Flag(
        "--dense-baseline",
        help="Train plain LoRA with the same number of parameters, for comparison.",
        rich_help_panel=MODEL,
    ),
]
Hours = Annotated[
    float | None,
    typer.Option(
        help="Hours from now. Training stops in time for a checkpoint and an evaluation; the same command continues it.",
        rich_help_panel=TIME,
    ),
]


@dataclass(frozen=True)
class TrainingRequest:
    """The options of one command. None leaves a value to the settings."""

    dataset_path: Path | None
    s3_path: str | None
    base: str | None
    priority: PriorityOption | None
    config: Path | None
    steps: int | None
    init_from: str | None
    run: str | None
    dense_baseline: bool
    hours: float | None

    def check(self) -> None:
        """Refuse options that exclude each other, as a usage error."""
        if self.hours is not None and self.hours <= 0:
            raise typer.BadParameter("--hours must be greater than 0")
        if self.dataset_path is not None and self.s3_path is not None:
            raise typer.BadParameter("--dataset-path and --s3-path exclude each other")

    def open(self, report: "Callable[[str], None]") -> "tuple[Lake, Session]":
        """Open the lake, find or make the token shards, and resolve the configuration."""
        from pixel_pipeline.lake.lake import Lake
        from pixel_pipeline.tokens.shards import ShardManifest
        from pixel_pipeline.tokens.sources import find_shards
        from pixel_pipeline.training.config.resolve import read_config_file, training_config
        from pixel_pipeline.training.planning.session import Session
        from pixel_pipeline.training.runtime.revision import git_revision

        settings = get_settings()
        overrides = (read_config_file(self.config) if self.config else {}) | self._overrides()
        lake = Lake.open(settings)
        lake.check()
        manifest_key = find_shards(
            lake,
            settings,
            base=overrides.get("base"),
            dataset_path=self.dataset_path,
            s3_path=self.s3_path,
            report=report,
        )
        manifest = ShardManifest.load(lake.data, manifest_key)
        return lake, Session(
            config=training_config(settings, manifest, priority=self.priority, overrides=overrides),
            manifest_key=manifest_key,
            git_revision=git_revision(),
            run=self.run,
            hours=self.hours or settings.training_hours,
        )

    def _overrides(self) -> dict[str, Any]:
        values = {
            "steps": self.steps,
            "base": self.base,
            "init_from": self.init_from,
            "dense_baseline": self.dense_baseline or None,
        }
        return {name: value for name, value in values.items() if value is not None}
