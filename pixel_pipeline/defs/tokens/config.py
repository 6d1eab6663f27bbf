"""Run configuration of tokens."""

import dagster as dg
from pydantic import Field

from pixel_pipeline.settings import Settings


class TokenOptions(dg.Config):
    """Options of `token_shards`. Null takes the setting of the environment."""

    base_model: str | None = Field(
        None,
        description="Base model in the lake (`pixel base list`), whose tokenizer and chat template make the tokens. Null: "
        "PIXEL_BASE_MODEL, or a tokenizer trained on the corpus.",
    )
    sequence_length: int | None = Field(
        None, ge=2, le=32_767, description="Tokens per packed row. Null: PIXEL_SEQUENCE_LENGTH."
    )

    def applied(self, settings: Settings) -> Settings:
        """The settings with these options in place of their values."""
        return replaced(settings, base_model=self.base_model, sequence_length=self.sequence_length)


def replaced(settings: Settings, **options: object) -> Settings:
    """The settings with the given values; None keeps a value."""
    return settings.model_copy(update={name: value for name, value in options.items() if value is not None})
