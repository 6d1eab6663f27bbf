"""The figures of an evaluation. Torch-free."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from math import exp
from typing import Any, Self

from pixel_pipeline.training.evaluation.safety.smoke_test import SmokeTest

FORMAT = "pixel-evaluation/2"
# Of an even share, as for `RouterHealth`: an expert that gets less does no work.
DEAD_BELOW = 0.1
# Bounds the time on a large held-out split; rows are dealt out over families in turn.
MOST_ROWS = 512
VALIDATION, TEST = "validation", "test"


@dataclass(frozen=True)
class Losses:
    """Mean losses over the same target tokens, in nats.

    Attributes:
        name: Of the family, category, stage or split.
        loss: Of the checkpoint.
        base: Of its base model alone; None where all weights were trained.
        dense: Of the plain LoRA run that it is compared with; None without one.
    """

    name: str
    rows: int
    target_tokens: int
    loss: float
    base: float | None = None
    dense: float | None = None

    @property
    def perplexity(self) -> float:
        """e to the loss."""
        return exp(self.loss)


@dataclass(frozen=True)
class FamilyResult(Losses):
    """One family's held-out rows.

    Attributes:
        expert_counts: [layers, experts] assignments of the family's tokens; no layers without a router.
    """

    category: str = ""
    expert_counts: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True)
class SplitResult:
    """One held-out split.

    Attributes:
        rows_there: Rows that the split has; those of the families were scored.
    """

    split: str
    rows_there: int
    families: tuple[FamilyResult, ...]

    @property
    def total(self) -> Losses:
        """Over all target tokens."""
        return pooled("all", self.families)

    @property
    def categorised(self) -> bool:
        """Whether categories are another thing than families, and so worth a table."""
        return any(family.category != family.name for family in self.families)

    @property
    def categories(self) -> list[Losses]:
        """By category, sorted."""
        names = sorted({family.category for family in self.families})
        return [pooled(name, [f for f in self.families if f.category == name]) for name in names]

    def of_families(self, name: str, families: Iterable[str]) -> Losses | None:
        """Over the rows of the named families together; None where none of them has rows."""
        wanted = {*families}
        found = [family for family in self.families if family.name in wanted]
        return pooled(name, found) if found else None

    @property
    def expert_load(self) -> list[list[float]]:
        """[layers, experts] shares of assignments over all families; each layer sums to 1."""
        layers = zip(*(family.expert_counts for family in self.families), strict=True)
        return [shares([sum(column) for column in zip(*layer, strict=True)]) for layer in layers]


@dataclass(frozen=True)
class EvaluationReport:
    """Held-out quality, routing and the smoke test's counts of one checkpoint.

    Attributes:
        checkpoint: Its `s3://` URI.
        manifest_key: Of the token shards that it was scored on.
        row_limit: Rows of each split that were scored at most: equal limits on equal shards are equal rows.
        base: Name of the base model; None where all weights were trained.
        dense: URI of the plain LoRA checkpoint that it is compared with.
        experts: In each layer that has a router.
        layers: Numbers of the layers that have a router, from 0.
        router_entropy: [layers] mean over tokens of the entropy of the router's softmax, in nats: log(experts) without opinion.
        category_information: [layers] mutual information of a token's category and its expert, in nats: 0 when routing ignores it.
        family_information: The same of its family.
        stages: Families of each stage of the curriculum; empty where it has only one.
        safety: Of a smoke test, no safety assurance.
        base_safety: The same of the base model alone.
    """

    checkpoint: str
    model_sha256: str
    dataset_version: str
    manifest_key: str
    row_limit: int
    base: str | None
    dense: str | None
    splits: tuple[SplitResult, ...]
    experts: int
    layers: tuple[int, ...]
    router_entropy: tuple[float, ...]
    category_information: tuple[float, ...]
    family_information: tuple[float, ...]
    stages: dict[str, list[str]]
    safety: SmokeTest
    base_safety: SmokeTest | None

    @property
    def test(self) -> SplitResult:
        """The split that decides."""
        return next(split for split in self.splits if split.split == TEST)

    @property
    def loss(self) -> float:
        """Mean over all target tokens of the test split, in nats."""
        return self.test.total.loss

    @property
    def perplexity(self) -> float:
        """e to the loss."""
        return exp(self.loss)

    @property
    def expert_load(self) -> list[list[float]]:
        """[layers, experts] shares of assignments on the test split; empty without a router."""
        return self.test.expert_load

    @property
    def dead_experts(self) -> list[tuple[int, int]]:
        """(layer of the model, expert) of those with less than a tenth of an even share."""
        return [
            (layer, expert)
            for layer, load in zip(self.layers, self.expert_load, strict=True)
            for expert, share in enumerate(load)
            if share < DEAD_BELOW / len(load)
        ]

    @property
    def load_ratio(self) -> float:
        """Largest load over an even load, in the worst layer; 1 is perfect, and what a model without a router has."""
        return max((max(load) * len(load) for load in self.expert_load), default=1.0)

    def to_json(self) -> dict[str, Any]:
        """Plain types, derived figures included."""
        derived = {
            "loss": self.loss,
            "perplexity": self.perplexity,
            "expert_load": self.expert_load,
            "dead_experts": [{"layer": layer, "expert": expert} for layer, expert in self.dead_experts],
            "load_ratio": self.load_ratio,
        }
        safety = {
            "safety": self.safety.to_json(),
            "base_safety": self.base_safety.to_json() if self.base_safety else None,
        }
        return {"format": FORMAT, **asdict(self), **derived, **safety}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Self:
        """The report that `to_json` wrote; derived figures are derived again."""
        own = {field.name: content[field.name] for field in fields(cls)}
        for name in ("layers", "router_entropy", "category_information", "family_information"):
            own[name] = tuple(own[name])
        own["safety"] = SmokeTest.from_json(own["safety"])
        own["base_safety"] = SmokeTest.from_json(own["base_safety"]) if own["base_safety"] else None
        own["splits"] = tuple(
            SplitResult(**{**split, "families": tuple(map(_family, split["families"]))})
            for split in own["splits"]
        )
        return cls(**own)


def pooled(name: str, parts: Iterable[Losses]) -> Losses:
    """Means over the target tokens of all parts."""
    parts = [*parts]
    tokens = sum(part.target_tokens for part in parts)

    def mean(losses: list[float | None]) -> float | None:
        known = [loss for loss in losses if loss is not None]
        if len(known) < len(parts):
            return None
        return sum(loss * part.target_tokens for loss, part in zip(known, parts, strict=True)) / max(
            tokens, 1
        )

    return Losses(
        name=name,
        rows=sum(part.rows for part in parts),
        target_tokens=tokens,
        loss=mean([part.loss for part in parts]) or 0.0,
        base=mean([part.base for part in parts]),
        dense=mean([part.dense for part in parts]),
    )


def shares(counts: list[int]) -> list[float]:
    """Each count over their sum; even where there is none."""
    total = sum(counts)
    return [count / total if total else 1 / len(counts) for count in counts]


def _family(content: dict[str, Any]) -> FamilyResult:
    return FamilyResult(**{**content, "expert_counts": tuple(map(tuple, content["expert_counts"]))})
