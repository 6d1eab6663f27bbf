"""The figures of an evaluation. Torch-free."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from math import exp
from typing import Any, Self

# An expert that gets less than this share of its layer's assignments does no work.
DEAD_SHARE = 0.01
# Bounds the time on a large held-out split; rows are dealt out over families in turn.
MOST_ROWS = 512


@dataclass(frozen=True)
class FamilyResult:
    """One family's held-out rows.

    Attributes:
        loss: Mean over target tokens, in nats.
        routing: [layers, experts] shares of assignments; each layer sums to 1.
    """

    family: str
    rows: int
    target_tokens: int
    loss: float
    routing: list[list[float]]

    @property
    def perplexity(self) -> float:
        """e to the loss."""
        return exp(self.loss)


@dataclass(frozen=True)
class EvaluationReport:
    """Held-out quality and routing of one checkpoint.

    Attributes:
        loss: Mean over all target tokens, in nats.
        expert_load: [layers, experts] shares of assignments; each layer sums to 1.
    """

    checkpoint: str
    model_sha256: str
    dataset_version: str
    split: str
    loss: float
    families: list[FamilyResult]
    expert_load: list[list[float]]

    @property
    def perplexity(self) -> float:
        """e to the loss."""
        return exp(self.loss)

    @property
    def dead_experts(self) -> list[tuple[int, int]]:
        """(layer, expert) of those with less than 1 % of their layer's load."""
        return [
            (layer, expert)
            for layer, shares in enumerate(self.expert_load)
            for expert, share in enumerate(shares)
            if share < DEAD_SHARE
        ]

    @property
    def load_ratio(self) -> float:
        """Largest load over an even load, in the worst layer; 1 is perfect."""
        return max(max(shares) * len(shares) for shares in self.expert_load)

    def to_json(self) -> dict[str, Any]:
        """Plain types, derived figures included."""
        content = asdict(self)
        for family, result in zip(content["families"], self.families, strict=True):
            family["perplexity"] = result.perplexity
        derived = {
            "perplexity": self.perplexity,
            "dead_experts": [{"layer": layer, "expert": expert} for layer, expert in self.dead_experts],
            "load_ratio": self.load_ratio,
        }
        return {"format": "pixel-evaluation/1", **content, **derived}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Self:
        """The report that `to_json` wrote; derived figures are derived again."""
        own = {field.name: content[field.name] for field in fields(cls)}
        names = [field.name for field in fields(FamilyResult)]
        own["families"] = [
            FamilyResult(**{name: item[name] for name in names}) for item in content["families"]
        ]
        return cls(**own)

    def family_table(self) -> str:
        """Markdown table by family."""
        rows = [
            [
                item.family,
                f"{item.rows:,}",
                f"{item.target_tokens:,}",
                f"{item.loss:.3f}",
                f"{item.perplexity:.1f}",
            ]
            for item in self.families
        ]
        total = [
            "**all**",
            f"{sum(item.rows for item in self.families):,}",
            f"{sum(item.target_tokens for item in self.families):,}",
            f"{self.loss:.3f}",
            f"{self.perplexity:.1f}",
        ]
        return _markdown(["family", "rows", "target tokens", "loss", "perplexity"], [*rows, total])

    def routing_table(self) -> str:
        """Markdown table: share of each expert over all layers, by family."""
        experts = len(self.expert_load[0])
        rows = [
            [
                item.family,
                *(f"{sum(column) / len(item.routing):.1%}" for column in zip(*item.routing, strict=True)),
            ]
            for item in self.families
        ]
        return _markdown(["family", *(f"expert {number}" for number in range(experts))], rows)


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [header, rule, *rows])
