"""What a run has seen so far; travels in its checkpoints. Torch-free."""

from dataclasses import asdict, dataclass, field
from typing import Any, Self


@dataclass(frozen=True)
class Validation:
    """Held-out loss after `step` steps, in nats for a target token, over all and by family."""

    step: int
    loss: float
    families: dict[str, float]


@dataclass
class History:
    """Counts and losses since step 0, over all processes that worked on the run.

    Attributes:
        losses: Mean cross entropy of each step's targets, in nats; step n is at n - 1.
        validations: By step.
        tokens: Real tokens trained on.
        seconds: Wall time of the steps, without validation and checkpoints.
    """

    losses: list[float] = field(default_factory=list)
    validations: list[Validation] = field(default_factory=list)
    tokens: int = 0
    seconds: float = 0.0

    @property
    def tokens_per_second(self) -> float:
        """Over all steps; 0 before the first."""
        return self.tokens / self.seconds if self.seconds else 0.0

    def to_json(self) -> dict[str, Any]:
        """Plain types."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Self:
        """The inverse of `to_json`."""
        validations = [Validation(**item) for item in content["validations"]]
        return cls(**{**content, "validations": validations})
