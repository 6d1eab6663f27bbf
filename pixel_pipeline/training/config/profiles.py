"""Named training configurations. Torch-free: Dagster definitions import it."""

from pixel_pipeline.errors import PixelError
from pixel_pipeline.training.config.adapters import AdaptersConfig, ExpertDomains
from pixel_pipeline.training.config.config import TrainingConfig

PROFILES: dict[str, TrainingConfig] = {
    # Sized for two CPU cores. Many small steps: at 245,000 tokens, 240 steps of 2 rows end at a validation loss of 3.7,
    # 60 of 8 rows at 5.0.
    "demo": TrainingConfig(
        preset="nano",
        steps=200,
        rows_per_step=2,
        learning_rate=2e-3,
        warmup_steps=20,
        weight_decay=0.1,
        validation_rows=24,
        validations=3,
        log_every_seconds=5,
        checkpoint_every_seconds=40,
        device="cpu",
        precision="fp32",
    ),
    # Adapters on SmolLM2-135M in about seven minutes on two cores: 40 steps of 1,024 tokens.
    "chat": TrainingConfig(
        base="smollm2",
        adapters=AdaptersConfig(experts=4, experts_per_token=2, rank=8, alpha=16),
        domains=ExpertDomains(
            domains=("professional_therapeutic", "crisis_support", "addiction_recovery", "cot_reasoning"),
            steps=20,
        ),
        steps=40,
        rows_per_step=2,
        learning_rate=2e-3,
        warmup_steps=4,
        weight_decay=0.0,
        # Forty steps are few to even out what the first of them did to the routers.
        router_aux_loss_coefficient=0.05,
        validation_rows=9,
        validations=2,
        log_every_seconds=10,
        checkpoint_every_seconds=120,
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
        checkpoint_every_seconds=1800,
        device="h100",
        precision="bf16-mixed",
    ),
}


def profile_config(profile: str, *, steps: int | None = None) -> TrainingConfig:
    """The configuration that `PIXEL_PROFILE` names, with `steps` in place of its own if given.

    Raises:
        PixelError: there is no such profile.
    """
    try:
        config = PROFILES[profile]
    except KeyError:
        raise PixelError(
            f"There is no training profile {profile!r}.",
            hint=f"Set PIXEL_PROFILE to one of: {', '.join(sorted(PROFILES))}.",
        ) from None
    if steps is None:
        return config
    # Built anew rather than copied: copying would skip the checks.
    values = config.model_dump() | {"steps": steps, "warmup_steps": min(config.warmup_steps, steps - 1)}
    return TrainingConfig.model_validate(values)
