"""Named training configurations. Torch-free: Dagster definitions import it."""

from pixel_pipeline.errors import PixelError
from pixel_pipeline.training.config import TrainingConfig

PROFILES: dict[str, TrainingConfig] = {
    # Sized for two CPU cores: about 80 s of training.
    "demo": TrainingConfig(
        preset="nano",
        steps=90,
        rows_per_step=8,
        learning_rate=4e-3,
        warmup_steps=9,
        weight_decay=0.1,
        validation_rows=24,
        validations=3,
        log_every_seconds=5,
        checkpoint_every_seconds=40,
        device="cpu",
        precision="fp32",
    ),
    "h100": TrainingConfig(
        preset="small",
        steps=4000,
        rows_per_step=128,
        learning_rate=6e-4,
        warmup_steps=200,
        weight_decay=0.1,
        validation_rows=256,
        validations=20,
        log_every_seconds=10,
        checkpoint_every_seconds=600,
        device="h100",
        precision="bf16-mixed",
    ),
}


def profile_config(profile: str) -> TrainingConfig:
    """The configuration that `PIXEL_PROFILE` names.

    Raises:
        PixelError: there is no such profile.
    """
    try:
        return PROFILES[profile]
    except KeyError:
        raise PixelError(
            f"There is no training profile {profile!r}.",
            hint=f"Set PIXEL_PROFILE to one of: {', '.join(sorted(PROFILES))}.",
        ) from None
