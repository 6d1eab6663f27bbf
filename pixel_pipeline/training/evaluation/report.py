"""Results of an evaluation. Torch-free."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from math import exp
from typing import Any, Self

from pixel_pipeline.training.evaluation.safety.smoke_test import SmokeTest

FORMAT = "pixel-evaluation/2"
# Share of an even load, as in `RouterHealth`; an expert with less is dead.
DEAD_BELOW = 0.1
# Bounds the time on a large held-out split; rows are taken from the families in turn.
MOST_ROWS = 512
VALIDATION, TEST = "validation", "test"


@dataclass(frozen=True)
class Losses:
    """Mean losses over the same target tokens, in nats.

    Attributes:
        name: Family, category, stage or split.
        loss: Loss of the checkpoint.
        base: Loss of its base model; None if all weights were trained.
        dense: Loss of the dense baseline (plain LoRA); None without one.
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
        expert_counts: [layers, experts] assignments of the family's tokens; empty without a router.
    """

    category: str = ""
    expert_counts: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True)
class SplitResult:
    """One held-out split.

    Attributes:
        rows_there: Number of rows in the split; the families count the scored ones.
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
        """Whether categories differ from families."""
        return any(family.category != family.name for family in self.families)

    @property
    def categories(self) -> list[Losses]:
        """By category, sorted."""
        names = sorted({family.category for family in self.families})
        return [pooled(name, [f for f in self.families if f.category == name]) for name in names]

    def of_families(self, name: str, families: Iterable[str]) -> Losses | None:
        """Losses over all rows of the named families; None if they have none."""
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
        manifest_key: Manifest of the scored token shards.
        row_limit: Maximum number of scored rows per split; equal limits on equal shards select equal rows.
        base: Name of the base model; None if all weights were trained.
        dense: URI of the dense baseline (plain LoRA).
        experts: Experts per layer with a router.
        layers: Numbers of the layers with a router, from 0.
        router_entropy: [layers] mean over tokens of the entropy of the router's softmax, in nats; log(experts) for uniform routing.
        category_information: [layers] mutual information of a token's category and its expert, in nats; 0 if routing ignores it.
        family_information: The same for its family.
        stages: Families of each stage of the curriculum; empty for a single stage.
        safety: Result of the smoke test, which is no safety assurance.
        base_safety: The same for the base model.
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
        """The test split."""
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
        """(layer, expert) of experts with less than a tenth of an even share."""
        return [
            (layer, expert)
            for layer, load in zip(self.layers, self.expert_load, strict=True)
            for expert, share in enumerate(load)
            if share < DEAD_BELOW / len(load)
        ]

    @property
    def load_ratio(self) -> float:
        """Largest load divided by an even load, in the worst layer; 1 without a router."""
        return max((max(load) * len(load) for load in self.expert_load), default=1.0)

    def to_json(self) -> dict[str, Any]:
        """Plain types, including derived figures."""
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
        """The inverse of `to_json`; recomputes derived figures."""
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
    """Each count divided by the sum; uniform if the sum is 0."""
    total = sum(counts)
    return [count / total if total else 1 / len(counts) for count in counts]


def _family(content: dict[str, Any]) -> FamilyResult:
    return FamilyResult(**{**content, "expert_counts": tuple(map(tuple, content["expert_counts"]))})
