"""What determines a training run. Torch-free: Dagster definitions import it."""

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pixel_pipeline.training.config.adapters import AdaptersConfig, ExpertDomains
from pixel_pipeline.training.config.curriculum import Curriculum
from pixel_pipeline.training.config.shapes import PRESETS, ModelShape
from pixel_pipeline.training.errors import TrainingConfigError

# They change when things are written, and in which order the same sums are taken, never what is trained: two runs that differ
# only here are one run, and a window may have settings of its own.
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
    """Hyperparameters of one training run. Equal configs on equal data and code are the same run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    preset: str = Field("nano", description="Name of the model's sizes", json_schema_extra={"unit": "name"})
    shape: ModelShape | None = Field(
        None, description="Sizes to use in place of the preset's", json_schema_extra={"unit": "sizes"}
    )
    base: str | None = Field(
        None,
        description="Base model that adapters are trained on: a name in the lake, or a folder; none: a Mixtral from scratch",
        json_schema_extra={"unit": "name"},
    )
    init_from: str | None = Field(
        None,
        description="Checkpoint that the new run takes its first weights from: a run, `<run>/step-000200`, `promoted` or an s3:// "
        "URI; none: fresh weights",
        json_schema_extra={"unit": "name"},
    )
    adapters: AdaptersConfig = Field(
        AdaptersConfig(), description="Sizes of the adapters on `base`", json_schema_extra={"unit": "sizes"}
    )
    frozen_precision: Literal["model", "fp8"] = Field(
        "model",
        description="Arithmetic of the products with the base's matrices; fp8 needs a GPU of Ada's generation or newer",
        json_schema_extra={"unit": "format"},
    )
    dense_baseline: bool = Field(
        False,
        description="Train plain LoRA with as many parameters as `adapters` has, for comparison",
        json_schema_extra={"unit": "flag"},
    )
    domains: ExpertDomains | None = Field(
        None,
        description="Families or categories that experts are named after",
        json_schema_extra={"unit": "domains"},
    )
    curriculum: Curriculum = Field(
        Curriculum(), description="Which data is read when", json_schema_extra={"unit": "stages"}
    )
    steps: int = Field(gt=0, description="Optimizer steps", json_schema_extra={"unit": "steps"})
    rows_per_step: int = Field(
        gt=0, description="Packed rows in the batch of one step", json_schema_extra={"unit": "rows"}
    )
    learning_rate: float = Field(
        gt=0, description="Peak learning rate of AdamW", json_schema_extra={"unit": "1/step"}
    )
    warmup_steps: int = Field(
        0, ge=0, description="Linear warm-up of the learning rate", json_schema_extra={"unit": "steps"}
    )
    min_learning_rate_ratio: float = Field(
        0.1,
        ge=0,
        le=1,
        description="Learning rate at the last step over its peak",
        json_schema_extra={"unit": "ratio"},
    )
    weight_decay: float = Field(
        0.1, ge=0, description="Decoupled weight decay of matrices", json_schema_extra={"unit": "1/step"}
    )
    gradient_clip_norm: float = Field(
        1.0, gt=0, description="Largest L2 norm of the gradient", json_schema_extra={"unit": "L2 norm"}
    )
    router_aux_loss_coefficient: float = Field(
        0.01, ge=0, description="Weight of the load-balancing loss", json_schema_extra={"unit": "ratio"}
    )
    router_z_loss_coefficient: float = Field(
        1e-3, ge=0, description="Weight of the router's z-loss", json_schema_extra={"unit": "ratio"}
    )
    spike_threshold: float | None = Field(
        10.0,
        gt=0,
        description="A step whose loss lies so many deviations above the median of those before is left out; none: no guard",
        json_schema_extra={"unit": "deviations"},
    )
    early_stopping_patience: int | None = Field(
        None,
        gt=0,
        description="End after so many validations without a better loss; none: never",
        json_schema_extra={"unit": "validations"},
    )
    seed: int = Field(
        7, ge=0, description="Seed of the weights and of the row order", json_schema_extra={"unit": "seed"}
    )
    validation_rows: int = Field(
        32,
        gt=0,
        description="Validation rows scored each time, spread over families",
        json_schema_extra={"unit": "rows"},
    )
    validations: int = Field(
        4,
        gt=0,
        description="Validations after the one at step 0, the last at the end",
        json_schema_extra={"unit": "count"},
    )
    log_every_seconds: float = Field(
        5.0, ge=0, description="Least time between two progress lines", json_schema_extra={"unit": "seconds"}
    )
    checkpoint_every_seconds: float = Field(
        60.0, ge=0, description="Time between two checkpoints", json_schema_extra={"unit": "seconds"}
    )
    rows_per_micro_batch: int | None = Field(
        None,
        gt=0,
        description="Rows that pass the model at a time; none: as many as fit with adapters, else all rows of a step",
        json_schema_extra={"unit": "rows"},
    )
    checkpoint_activations: bool = Field(
        False,
        description="Keep only each layer's input for the backward pass: less memory, a third more work",
        json_schema_extra={"unit": "flag"},
    )
    compile: bool = Field(
        False, description="Compile each decoder layer, on a GPU", json_schema_extra={"unit": "flag"}
    )
    loggers: tuple[Literal["tensorboard", "wandb", "mlflow"], ...] = Field(
        ("tensorboard",),
        description="Where curves are logged to besides",
        json_schema_extra={"unit": "names"},
    )
    device: Literal["cpu", "h100", "auto"] = Field(
        "cpu",
        description="Device that must be there; auto: an H100 or newer if there is one, else the CPU",
        json_schema_extra={"unit": "device"},
    )
    precision: Literal["fp32", "bf16-mixed"] = Field(
        "fp32",
        description="Arithmetic of matrix products; weights stay fp32",
        json_schema_extra={"unit": "format"},
    )

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> Self:
        """From plain types, as another process passes them.

        Raises:
            TrainingConfigError: naming each field that is wrong.
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
            raise ValueError(f"preset {self.preset!r} is unknown; there are {', '.join(sorted(PRESETS))}")
        if not self.preset.replace("_", "").isalnum():
            raise ValueError("preset becomes part of the run's name: letters, digits and underscores only")
        if self.warmup_steps >= self.steps:
            raise ValueError(f"warmup_steps {self.warmup_steps} must be fewer than steps {self.steps}")
        if self.base is not None and self.adapters.routed and self.adapters.experts_per_token == 1:
            # Mixtral's rule weights the only expert of a token by 1, whatever the router says of it.
            raise ValueError(
                "with one of several experts for each token the loss gives the router no gradient; take 2 or more"
            )
        if self.domains is not None and (self.base is None or not self.adapters.routed):
            raise ValueError("domains need a base model with more than one expert")
        return self

    @property
    def model_shape(self) -> ModelShape:
        """The model's sizes: `shape` if given, else the preset's."""
        return self.shape or PRESETS[self.preset]

    def validation_steps(self) -> tuple[int, ...]:
        """Numbers of done steps after which validation runs: 0, evenly spread ones, and the last."""
        spread = (round(self.steps * number / self.validations) for number in range(self.validations + 1))
        return tuple(sorted({*spread}))

    def identity(self) -> dict[str, object]:
        """All that the trained weights and their recorded history depend on, as plain types."""
        # The run's identity records the digest of the first weights, not the name they were found by.
        values = self.model_dump(mode="json", exclude={*OPERATIONAL_FIELDS, "init_from"})
        if self.base is None:
            values["shape"] = self.model_shape.model_dump(mode="json")
            del values["adapters"], values["dense_baseline"], values["frozen_precision"]
        else:
            # Not by its name or place: the run's identity has the digest of the base model.
            del values["shape"], values["base"]
        return values
