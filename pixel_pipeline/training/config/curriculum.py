"""The stages of a run, each with its own data. Torch-free."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from math import fsum
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pixel_pipeline.training.config.yaml_file import line_of, read_yaml
from pixel_pipeline.training.errors import TrainingConfigError

Weight = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Stage(BaseModel):
    """A part of a run and the data read in it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, description="Name in logs and reports")
    families: Mapping[str, Weight] = Field(
        {"*": 1.0},
        min_length=1,
        description="Weights by glob pattern over names of families or categories. All rows that a pattern matches share its "
        "weight; the weights of overlapping patterns add up",
    )
    share: float | None = Field(
        None, gt=0, le=1, description="Share of the steps that are not fixed by any stage's `steps`"
    )
    steps: int | None = Field(None, gt=0, description="Number of steps, instead of a share")
    learning_rate: Weight = Field(1.0, description="Factor of the learning rate")

    def matched(self, families: Iterable[str], *, categories: Mapping[str, str]) -> dict[str, list[str]]:
        """The families of each pattern, sorted.

        Raises:
            TrainingConfigError: a pattern matches no family; the message lists the existing ones.
        """
        existing = sorted(families)
        found = {
            pattern: [
                family
                for family in existing
                if fnmatchcase(family, pattern) or fnmatchcase(categories.get(family, family), pattern)
            ]
            for pattern in sorted(self.families)
        }
        for pattern, members in found.items():
            if not members:
                known = sorted({categories.get(family, family) for family in existing})
                raise TrainingConfigError(
                    f"Stage {self.name!r} reads {pattern!r}, which matches no family or category with training rows.",
                    hint=f"Families: {', '.join(existing)}; categories: {', '.join(known)}.",
                )
        return found


@dataclass(frozen=True)
class StageSteps:
    """The steps [start, end) of a stage, counted from 0."""

    stage: Stage
    start: int
    end: int


class Curriculum(BaseModel):
    """Stages of a run. By default a single one reads every row once before any row twice."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stages: tuple[Stage, ...] = Field((Stage(name="all", share=1.0),), min_length=1, description="In order")
    mode: Literal["sequence", "mixed"] = Field(
        "sequence",
        description="`sequence`: one stage after the other; `mixed`: all at once over the whole run, by their shares",
    )

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a YAML file.

        Raises:
            TrainingConfigError: it is missing or wrong; the message names the field and the line.
        """
        content, tree = read_yaml(path)
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            problems = "; ".join(
                f"line {line_of(tree, item['loc'])}: {'.'.join(map(str, item['loc'])) or 'curriculum'}: {item['msg']}"
                for item in error.errors()
            )
        raise TrainingConfigError(f"{path}: {problems}.", hint="docs/curriculum.md has an example.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = [stage.name for stage in self.stages]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two stages are named {twice[0]!r}")
        for stage in self.stages:
            if (stage.share is None) == (stage.steps is None):
                raise ValueError(f"the stage {stage.name!r} needs either a share or steps")
            if self.mode == "mixed" and stage.learning_rate != 1:
                raise ValueError(
                    f"the stage {stage.name!r} has its own learning rate, but mixed stages run at the same time"
                )
        shares = [stage.share for stage in self.stages if stage.share is not None]
        if shares and abs(fsum(shares) - 1) > 1e-6:
            raise ValueError(f"the shares of the stages sum to {fsum(shares):g}, not to 1")
        return self

    def resolve(self, steps: int) -> tuple[StageSteps, ...]:
        """The steps of each stage, in order and without gaps from 0 to `steps`. Mixed stages are merged into one.

        Raises:
            TrainingConfigError: the stages' fixed steps do not fit the run, or a stage gets no step.
        """
        fixed = sum(stage.steps or 0 for stage in self.stages)
        free = steps - fixed
        shares = fsum(stage.share or 0 for stage in self.stages)
        if free < 0 or (free > 0 and not shares):
            raise TrainingConfigError(
                f"The stages of the curriculum fix {fixed:,} steps; the run has {steps:,}.",
                hint="Change the steps of the run, or use shares instead of steps.",
            )
        resolved, start, taken = [], 0, 0.0
        for stage in self.stages:
            # Rounding the ends of the stages keeps rounding errors from adding up.
            before = round(free * taken / shares) if shares else 0
            taken += stage.share or 0
            after = round(free * taken / shares) if shares else 0
            end = start + (stage.steps or after - before)
            if end == start:
                raise TrainingConfigError(
                    f"Stage {stage.name!r} gets none of the {steps:,} steps.",
                    hint="Train for more steps, or enlarge its share.",
                )
            resolved.append(StageSteps(stage=stage, start=start, end=end))
            start = end
        if self.mode == "mixed":
            return (StageSteps(stage=_blended(resolved, steps), start=0, end=steps),)
        return tuple(resolved)


def _blended(stages: list[StageSteps], steps: int) -> Stage:
    weights: dict[str, float] = {}
    for part in stages:
        total = fsum(part.stage.families.values())
        for pattern, weight in part.stage.families.items():
            blended = weight / total * (part.end - part.start) / steps
            weights[pattern] = weights.get(pattern, 0) + blended
    return Stage(name="mixed", families=weights, share=1.0)
