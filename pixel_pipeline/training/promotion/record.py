"""The promoted checkpoint and its predecessors. Torch-free.

`promoted/000003.json` in the checkpoint bucket is the third promotion. Each is created once and never replaced, so of two
concurrent promotions one is refused. The newest one counts; `promoted.json` is a copy of it under a fixed name.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import orjson

from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.lake.s3.bucket import Bucket
from pixel_pipeline.lake.s3.errors import ObjectExistsError
from pixel_pipeline.training.checkpoints.promotions import COPY, PROMOTIONS, newest_promotion
from pixel_pipeline.training.checkpoints.store import CheckpointRef
from pixel_pipeline.training.errors import PromotionError

FORMAT = "pixel-promotion/1"


@dataclass(frozen=True)
class Gate:
    """A condition of promotion and its outcome.

    Attributes:
        name: Name of the check of `promoted_model`.
        description: One sentence with the decisive numbers.
        figures: These numbers by name.
    """

    name: str
    passed: bool
    description: str
    figures: Mapping[str, float | int | str]


@dataclass(frozen=True)
class Promotion:
    """One promotion.

    Attributes:
        number: From 1.
        checkpoint: `s3://` URI.
        weights_sha256: SHA-256 of its trained weights, in hex.
        evaluation: `s3://` URI of the folder with its evaluation and model card.
        when: UTC, ISO 8601.
        gates: Their outcomes.
    """

    number: int
    checkpoint: str
    run: str
    step: int
    weights_sha256: str
    evaluation: str
    when: str
    gates: tuple[Gate, ...]

    @property
    def ref(self) -> CheckpointRef:
        """The checkpoint."""
        return CheckpointRef(run=self.run, step=self.step)

    @classmethod
    def current(cls, bucket: Bucket) -> Self | None:
        """The current promotion; None before the first.

        Raises:
            PromotionError: its record has another format.
        """
        key = newest_promotion(bucket)
        if key is None:
            return None
        content: dict[str, Any] = bucket.get_json(key)
        try:
            if content.pop("format") != FORMAT:
                raise KeyError
            gates = tuple(Gate(**gate) for gate in content.pop("gates"))
            return cls(gates=gates, **content)
        except (KeyError, TypeError, AttributeError):
            raise PromotionError(
                f"{bucket.uri(key)} is not the record of a promotion.",
                hint="Delete it to return to the previous promotion.",
            ) from None

    def to_json(self) -> dict[str, Any]:
        """Plain types, as stored."""
        return {"format": FORMAT, **asdict(self)}

    def store(self, lake: Lake) -> None:
        """Make it the current promotion.

        Raises:
            PromotionError: another promotion was made meanwhile.
        """
        bucket, key = lake.checkpoints, f"{PROMOTIONS}/{self.number:06d}.json"
        try:
            bucket.put(key, _bytes(self.to_json()), create_only=True)
        except ObjectExistsError:
            raise PromotionError(
                f"Another checkpoint was promoted while the gates of {self.checkpoint} were evaluated ({bucket.uri(key)}).",
                hint="Promote again, to compare with that checkpoint.",
            ) from None
        self.copy(lake)

    def copy(self, lake: Lake) -> None:
        """Write `promoted.json`."""
        lake.checkpoints.put(COPY, _bytes(self.to_json()))


def _bytes(content: dict[str, Any]) -> bytes:
    return orjson.dumps(content, option=orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2)
