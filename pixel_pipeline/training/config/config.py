"""The hyperparameters of a training run. Torch-free."""

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pixel_pipeline.training.config.adapters import AdaptersConfig, ExpertDomains
from pixel_pipeline.training.config.curriculum import Curriculum
from pixel_pipeline.training.config.shapes import PRESETS, ModelShape
from pixel_pipeline.training.errors import TrainingConfigError

# These fields never change the trained function beyond rounding. Runs that differ only here are the same run, so each window may set
# its own values.
OPERATIONAL_FIELDS = frozenset(
    {
        "log_every_seconds",
        "checkpoint_every_seconds",
        "rows_per_micro_batch",
        "checkpoint_activations",
        "compile",
        "loggers",
    }
)


class TrainingConfig(BaseModel):
    """Hyperparameters of a training run. Equal configurations on equal data are the same run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    preset: str = Field("nano", description="Named sizes of a model from scratch")
    shape: ModelShape | None = Field(None, description="Sizes that replace the preset's")
    base: str | None = Field(
        None,
        description="Base model to train adapters on: a name in the lake or a folder; none: a Mixtral from scratch",
    )
    init_from: str | None = Field(
        None,
        description="Checkpoint that a new run takes its first weights from: a run, `<run>/step-000200`, `promoted` or an s3:// "
        "URI; none: fresh weights",
    )
    adapters: AdaptersConfig = Field(AdaptersConfig(), description="Sizes of the adapters on `base`")
    frozen_precision: Literal["model", "fp8"] = Field(
        "model",
        description="Precision of the products with the base model's matrices; fp8 needs an Ada GPU or newer",
    )
    dense_baseline: bool = Field(
        False, description="Train plain LoRA with as many parameters as `adapters`, for comparison"
    )
    domains: ExpertDomains | None = Field(
        None, description="Families or categories that experts specialize in"
    )
    curriculum: Curriculum = Field(Curriculum(), description="Data of each stage of the run")
    steps: int = Field(gt=0, description="Optimizer steps")
    rows_per_step: int = Field(gt=0, description="Packed rows in the batch of a step")
    learning_rate: float = Field(gt=0, description="Peak learning rate of AdamW")
    warmup_steps: int = Field(0, ge=0, description="Steps of linear learning-rate warm-up")
    min_learning_rate_ratio: float = Field(
        0.1, ge=0, le=1, description="Learning rate at the last step, as a share of its peak"
    )
    weight_decay: float = Field(0.1, ge=0, description="Decoupled weight decay of matrices")
    gradient_clip_norm: float = Field(1.0, gt=0, description="Largest L2 norm of the gradient")
    router_aux_loss_coefficient: float = Field(0.01, ge=0, description="Weight of the load-balancing loss")
    router_z_loss_coefficient: float = Field(1e-3, ge=0, description="Weight of the router's z-loss")
    spike_threshold: float | None = Field(
        10.0,
        gt=0,
        description="Skip the update of a step whose loss is this many deviations above the recent median; none: never",
    )
    early_stopping_patience: int | None = Field(
        None, gt=0, description="Validations without a better loss that end the run; none: no early stopping"
    )
    seed: int = Field(7, ge=0, description="Seed of the weights and of the row order")
    validation_rows: int = Field(
        32, gt=0, description="Rows scored at each validation, spread over the families"
    )
    validations: int = Field(
        4, gt=0, description="Validations after the one at step 0; the last is at the end"
    )
    log_every_seconds: float = Field(5.0, ge=0, description="Minimum time between two progress lines")
    checkpoint_every_seconds: float = Field(60.0, ge=0, description="Time between two checkpoints")
    rows_per_micro_batch: int | None = Field(
        None,
        gt=0,
        description="Rows in a forward pass; none: as many as fit with adapters, else all rows of a step",
    )
    checkpoint_activations: bool = Field(
        False,
        description="Keep only each layer's input for the backward pass: less memory, a third more computation",
    )
    compile: bool = Field(False, description="Compile each decoder layer, on a GPU")
    loggers: tuple[Literal["tensorboard", "wandb", "mlflow"], ...] = Field(
        ("tensorboard",), description="Experiment loggers for the curves"
    )
    device: Literal["cpu", "h100", "auto"] = Field(
        "cpu", description="Required device; auto: an H100 or newer if there is one, else the CPU"
    )
    precision: Literal["fp32", "bf16-mixed"] = Field(
        "fp32", description="Precision of matrix products; weights stay fp32"
    )

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> Self:
        """Validate plain types, as another process passes them.

        Raises:
            TrainingConfigError: naming each wrong field.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            problems = "; ".join(
                f"{'.'.join(map(str, item['loc'])) or 'config'}: {item['msg']}" for item in error.errors()
            )
        raise TrainingConfigError(
            f"Bad training configuration: {problems}.", hint="Correct the run's configuration."
        )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.shape is None and self.preset not in PRESETS:
            raise ValueError(f"preset {self.preset!r} is unknown; known: {', '.join(sorted(PRESETS))}")
        if not self.preset.replace("_", "").isalnum():
            raise ValueError(
                "preset is part of the run's name: only letters, digits and underscores are allowed"
            )
        if self.warmup_steps >= self.steps:
            raise ValueError(f"warmup_steps {self.warmup_steps} must be fewer than steps {self.steps}")
        if self.base is not None and self.adapters.routed and self.adapters.experts_per_token == 1:
            # Mixtral weights the only expert of a token by 1, regardless of its logit.
            raise ValueError(
                "with one expert per token the router gets no gradient from the loss; set experts_per_token to 2 or more"
            )
        if self.domains is not None and (self.base is None or not self.adapters.routed):
            raise ValueError("domains need a base model with more than one expert")
        return self

    @property
    def model_shape(self) -> ModelShape:
        """The model's sizes: `shape` if given, else the preset's."""
        return self.shape or PRESETS[self.preset]

    def validation_steps(self) -> tuple[int, ...]:
        """Step counts at which validation runs: 0, evenly spread ones, and the last."""
        spread = (round(self.steps * number / self.validations) for number in range(self.validations + 1))
        return tuple(sorted({*spread}))

    def identity(self) -> dict[str, object]:
        """Every field that the trained weights and the recorded history depend on, as plain types."""
        # The identity of a run has the digest of the first weights in place of the checkpoint's name.
        values = self.model_dump(mode="json", exclude={*OPERATIONAL_FIELDS, "init_from"})
        if self.base is None:
            values["shape"] = self.model_shape.model_dump(mode="json")
            del values["adapters"], values["dense_baseline"], values["frozen_precision"]
        else:
            # The identity of a run has the base model's digest in place of its name.
            del values["shape"], values["base"]
        return values
