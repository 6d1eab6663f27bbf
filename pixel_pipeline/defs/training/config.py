"""Run configuration of training and promotion."""

from typing import Any

import dagster as dg
from pydantic import Field

from pixel_pipeline.defs.tokens.config import TokenOptions, replaced
from pixel_pipeline.settings import Settings
from pixel_pipeline.training.config.recipes import Priority


class TrainingOptions(TokenOptions):
    """Options of `moe_checkpoint`. Null takes the setting of the environment."""

    base_model: str | None = Field(
        None,
        description="Base model in the lake (`pixel base list`) to train adapters on. Null: PIXEL_BASE_MODEL, or the base model of the token "
        "shards; without one, a model from scratch. Shards of another base model are made first.",
    )
    sequence_length: int | None = Field(
        None,
        ge=2,
        le=32_767,
        description="Tokens per packed row. Null: those of the current token shards. Shards of another length are made first.",
    )
    priority: Priority | None = Field(
        None,
        description="fast: one epoch; balanced: two; quality: up to four, with early stopping; memory: two, in the least memory. Null: "
        "PIXEL_PRIORITY, or the profile's own steps.",
    )
    hours: float | None = Field(
        None,
        gt=0,
        description="Hours for this run, evaluation included. The next run continues from its checkpoint. Null: PIXEL_TRAINING_HOURS, or "
        "no limit.",
    )
    steps: int | None = Field(
        None,
        ge=1,
        description="Optimizer steps in place of the priority's epochs. Null: PIXEL_TRAINING_STEPS.",
    )
    curriculum: dict[str, Any] | None = Field(
        None,
        description="Stages of the data, in the form of docs/curriculum.md: `{stages: [{name: …, share: …, families: {…}}]}`. Null: "
        "the file PIXEL_CURRICULUM_FILE, or all data all the time.",
    )
    run: str | None = Field(
        None,
        description="Name of the training run to start or continue. Null: the name derived from data and configuration, so that "
        "the same configuration continues its run.",
    )

    def applied(self, settings: Settings) -> Settings:
        """The settings with these options in place of their values."""
        return replaced(
            super().applied(settings),
            priority=None if self.priority is None else self.priority.value,
            training_hours=self.hours,
            training_steps=self.steps,
        )


class PromotionOptions(dg.Config):
    """Options of `promoted_model`."""

    checkpoint: str = Field(
        "latest",
        description="Checkpoint to promote: `latest`, `best`, a run, `<run>/step-000200`, or an s3:// URI.",
    )
