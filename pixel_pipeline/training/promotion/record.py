"""Which checkpoint is promoted, and which were before. Torch-free.

`promoted/000003.json` in the checkpoint bucket is the third promotion. Each is created once and never replaced, so that of two that are made
at the same time one is refused; the newest is the one that holds. `promoted.json` is a copy of it for readers who want one name.
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
    """A condition of promotion, and how it came out.

    Attributes:
        name: As the check of `promoted_model` is called.
        description: One sentence with the numbers that decided.
        figures: Those numbers by name.
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
        weights_sha256: Of its trained weights, in hex.
        evaluation: `s3://` URI of the folder with its evaluation and model card.
        when: UTC, ISO 8601.
        gates: As they were found then.
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
        """The one that holds; None before the first.

        Raises:
            PromotionError: its record is of another format.
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
                f"{bucket.uri(key)} is no record of a promotion.",
                hint="Delete it: the promotion before it then holds.",
            ) from None

    def to_json(self) -> dict[str, Any]:
        """Plain types, as stored."""
        return {"format": FORMAT, **asdict(self)}

    def store(self, lake: Lake) -> None:
        """Let it hold.

        Raises:
            PromotionError: another one was made meanwhile.
        """
        bucket, key = lake.checkpoints, f"{PROMOTIONS}/{self.number:06d}.json"
        try:
            bucket.put(key, _bytes(self.to_json()), create_only=True)
        except ObjectExistsError:
            raise PromotionError(
                f"Another checkpoint was promoted while the gates of {self.checkpoint} were looked at ({bucket.uri(key)}).",
                hint="Promote again: the gates then compare with that one.",
            ) from None
        self.copy(lake)

    def copy(self, lake: Lake) -> None:
        """Write `promoted.json`."""
        lake.checkpoints.put(COPY, _bytes(self.to_json()))


def _bytes(content: dict[str, Any]) -> bytes:
    return orjson.dumps(content, option=orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2)
