"""The losses and counts of a run, recorded in its checkpoints. Torch-free."""

from dataclasses import asdict, dataclass, field
from math import isfinite, nan
from typing import Any, Self


@dataclass(frozen=True)
class Validation:
    """Held-out loss after `step` steps, in nats per target token, in total and by family."""

    step: int
    loss: float
    families: dict[str, float]


@dataclass
class History:
    """Losses and counts since step 0, over all processes of the run.

    Attributes:
        losses: Mean cross entropy of each step's targets, in nats; step n is at n - 1. NaN if it was not finite.
        skipped: Steps, from 1, whose update the spike guard skipped.
        rewinds: Steps after which earlier weights were restored.
        validations: By step.
        tokens: Tokens trained on, without padding.
        seconds: Wall time of the steps, without validations and checkpoints.
    """

    losses: list[float] = field(default_factory=list)
    skipped: list[int] = field(default_factory=list)
    rewinds: list[int] = field(default_factory=list)
    validations: list[Validation] = field(default_factory=list)
    tokens: int = 0
    seconds: float = 0.0

    @property
    def best(self) -> Validation | None:
        """The validation with the lowest loss, the earliest of equals."""
        finite = [validation for validation in self.validations if isfinite(validation.loss)]
        return min(finite, key=lambda validation: validation.loss, default=None)

    @property
    def tokens_per_second(self) -> float:
        """Mean over all steps; 0 before the first."""
        return self.tokens / self.seconds if self.seconds else 0.0

    def to_json(self) -> dict[str, Any]:
        """Plain types; orjson writes NaN as null."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Self:
        """Read the inverse of `to_json`, as parsed by orjson."""
        validations = [
            Validation(
                step=item["step"],
                loss=_number(item["loss"]),
                families={name: _number(loss) for name, loss in item["families"].items()},
            )
            for item in content["validations"]
        ]
        losses = [_number(loss) for loss in content["losses"]]
        return cls(**{**content, "losses": losses, "validations": validations})


def _number(loss: float | None) -> float:
    return nan if loss is None else loss
