"""Which data a run reads when: stages, each with weights of families. Torch-free: Dagster definitions import it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from math import fsum
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
import yaml

from pixel_pipeline.training.errors import TrainingConfigError

Weight = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class CurriculumError(TrainingConfigError):
    """A curriculum cannot be read, or does not fit the data or the number of steps."""


class Stage(BaseModel):
    """A part of a run, and what is read in it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, description="Its name in logs and reports")
    families: Mapping[str, Weight] = Field(
        {"*": 1.0},
        min_length=1,
        description="Weights by glob pattern over names of families or categories. A pattern's weight is shared by all rows "
        "that it matches; where patterns overlap, weights add up",
    )
    share: float | None = Field(
        None, gt=0, le=1, description="Share of the steps that no stage fixes by `steps`"
    )
    steps: int | None = Field(None, gt=0, description="Steps, in place of a share")
    learning_rate: Weight = Field(1.0, description="Factor of the learning rate")

    def matched(self, families: Iterable[str], *, categories: Mapping[str, str]) -> dict[str, list[str]]:
        """The families of each pattern, sorted.

        Raises:
            CurriculumError: a pattern matches none; the message lists the families there are.
        """
        there = sorted(families)
        found = {
            pattern: [
                family
                for family in there
                if fnmatchcase(family, pattern) or fnmatchcase(categories.get(family, family), pattern)
            ]
            for pattern in sorted(self.families)
        }
        for pattern, members in found.items():
            if not members:
                known = sorted({categories.get(family, family) for family in there})
                raise CurriculumError(
                    f"Stage {self.name!r} asks for {pattern!r}, which matches no family or category with rows to train on.",
                    hint=f"There are the families {', '.join(there)}, of the categories {', '.join(known)}.",
                )
        return found


@dataclass(frozen=True)
class StageSteps:
    """The steps [start, end) of a stage, counted from 0."""

    stage: Stage
    start: int
    end: int


class Curriculum(BaseModel):
    """Stages of a run. By default one, in which every row is read once before any is read twice."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stages: tuple[Stage, ...] = Field(
        (Stage(name="all", share=1.0),), min_length=1, description="In the order of the run"
    )
    mode: Literal["sequence", "mixed"] = Field(
        "sequence",
        description="`sequence`: one stage after the other; `mixed`: all at once over the whole run, by their shares",
    )

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a YAML file.

        Raises:
            CurriculumError: it is missing or wrong; the message names field and line.
        """
        try:
            text = path.read_text(encoding="utf-8")
            tree = yaml.compose(text, Loader=yaml.SafeLoader)
            content = yaml.safe_load(text)
        except FileNotFoundError:
            raise CurriculumError(
                f"{path} does not exist.", hint="Create it, or unset PIXEL_CURRICULUM_FILE."
            ) from None
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            mark = getattr(error, "problem_mark", None)
            where = f" near line {mark.line + 1}" if mark else ""
            raise CurriculumError(f"{path} is not valid YAML{where}.", hint="Correct the file.") from None
        try:
            return cls.model_validate({} if content is None else content)
        except ValidationError as error:
            problems = "; ".join(
                f"line {_line(tree, item['loc'])}: {'.'.join(map(str, item['loc'])) or 'curriculum'}: {item['msg']}"
                for item in error.errors()
            )
        raise CurriculumError(f"{path}: {problems}.", hint="docs/curriculum.md shows an example.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = [stage.name for stage in self.stages]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"the stage {twice[0]!r} is there twice")
        for stage in self.stages:
            if (stage.share is None) == (stage.steps is None):
                raise ValueError(f"the stage {stage.name!r} needs either a share or steps")
            if self.mode == "mixed" and stage.learning_rate != 1:
                raise ValueError(
                    f"the stage {stage.name!r} has a learning rate of its own, but mixed stages run at once"
                )
        shares = [stage.share for stage in self.stages if stage.share is not None]
        if shares and abs(fsum(shares) - 1) > 1e-6:
            raise ValueError(f"the shares of the stages sum to {fsum(shares):g}, not to 1")
        return self

    def resolve(self, steps: int) -> tuple[StageSteps, ...]:
        """The steps of each stage, in order: without gaps, from 0 to `steps`. Mixed stages are one.

        Raises:
            CurriculumError: the stages' own steps are more or fewer than there are, or a stage gets none.
        """
        fixed = sum(stage.steps or 0 for stage in self.stages)
        free = steps - fixed
        shares = fsum(stage.share or 0 for stage in self.stages)
        if free < 0 or (free > 0 and not shares):
            raise CurriculumError(
                f"The stages of the curriculum fix {fixed:,} steps; the run has {steps:,}.",
                hint="Change the steps of the run, or give shares in place of steps.",
            )
        resolved, start, taken = [], 0, 0.0
        for stage in self.stages:
            # Rounded where a stage ends, so that roundings do not add up.
            before = round(free * taken / shares) if shares else 0
            taken += stage.share or 0
            after = round(free * taken / shares) if shares else 0
            end = start + (stage.steps or after - before)
            if end == start:
                raise CurriculumError(
                    f"Stage {stage.name!r} gets none of {steps:,} steps.",
                    hint="Train for more steps, or give it a larger share.",
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


def _line(node: yaml.Node | None, location: tuple[int | str, ...]) -> int:
    """Line, from 1, of a field, or of the innermost thing around it that is there."""
    line = 0
    for part in location:
        if isinstance(node, yaml.MappingNode):
            pair = next((pair for pair in node.value if pair[0].value == str(part)), None)
            if pair is None:
                break
            line, node = pair[0].start_mark.line, pair[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line
        else:
            break
    return line + 1
