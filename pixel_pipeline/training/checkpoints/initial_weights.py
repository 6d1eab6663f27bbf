"""The checkpoint that a new run takes its first weights from (`init_from`). Torch-free.

Only the weights are taken: the optimizer, the step count and the order of the data start again.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.tokens.shards import ShardManifest
from pixel_pipeline.training.checkpoints.queries import read_state
from pixel_pipeline.training.checkpoints.store import CheckpointManifest, CheckpointRef
from pixel_pipeline.training.config.config import TrainingConfig
from pixel_pipeline.training.errors import InitialWeightsError

# A new run becomes the latest itself, so the same command would not continue it.
MOVING_NAMES = ("latest", "best")
# Adapter settings that change neither the tensors nor the function they compute.
_FREE_ADAPTER_SETTINGS = frozenset({"dropout"})


@dataclass(frozen=True)
class InitialWeights:
    """A source checkpoint and the SHA-256 of its trained weights, in hex."""

    ref: CheckpointRef
    weights_sha256: str

    @classmethod
    def find(cls, lake: Lake, wanted: str) -> Self:
        """Find the checkpoint that `init_from` names.

        Args:
            wanted: Anything that `CheckpointRef.resolve` accepts, except `latest` and `best`.

        Raises:
            InitialWeightsError: the name would point to the new run as soon as that has a checkpoint.
            CheckpointNotFoundError: nothing matches.
        """
        ref = CheckpointRef.resolve(lake, wanted)
        if wanted.strip() in MOVING_NAMES:
            raise InitialWeightsError(
                f"A run cannot start from `{wanted.strip()}`: as soon as the new run has a checkpoint, that name points to it.",
                hint=f"Name the checkpoint itself: `--init-from {ref.prefix}`.",
            )
        return cls(ref=ref, weights_sha256=CheckpointManifest.load(lake, ref).weights.sha256)

    def identity(self) -> dict[str, str]:
        """Plain types, as part of a run's identity."""
        return {"checkpoint": self.ref.prefix, "weights_sha256": self.weights_sha256}

    def check(
        self, lake: Lake, config: TrainingConfig, manifest: ShardManifest, *, base_digest: str | None
    ) -> None:
        """Refuse weights that do not fit the run's tokenizer, base model or architecture.

        Raises:
            InitialWeightsError: naming each difference.
        """
        state = read_state(lake, self.ref)
        if state is None:
            raise InitialWeightsError(
                f"{self.ref.uri(lake)} has no state.json: its architecture is not recorded.",
                hint="Start from a checkpoint that `pixel train` wrote.",
            )
        source, run = state.identity, config.identity()
        problems = []
        if source["tokenizer"] != manifest.tokenizer.digest:
            problems.append("its tokenizer is not the one of the token shards")
        if source["base"] != base_digest:
            problems.append(f"it was trained {_base(source['base'])}, this run {_base(base_digest)}")
        else:
            problems += _differences(source["config"], run)
        if problems:
            raise InitialWeightsError(
                f"The weights of {self.ref.uri(lake)} do not fit this run: {'; '.join(problems)}.",
                hint="Give the run the checkpoint's architecture (`--base`, `--priority`, or `shape` and `adapters` in the file "
                "of `--config`), or leave `--init-from` out.",
            )


def _base(digest: str | None) -> str:
    return "from scratch" if digest is None else f"on the base model with digest {digest[:12]}"


def _differences(source: Mapping[str, Any], run: Mapping[str, Any]) -> list[str]:
    found = []
    for part in ("shape", "adapters"):
        before, now = source.get(part) or {}, run.get(part) or {}
        for name in sorted({*before, *now} - _FREE_ADAPTER_SETTINGS):
            if before.get(name) != now.get(name):
                found.append(f"{part}.{name} is {before.get(name)} there, {now.get(name)} here")
    if bool(source.get("dense_baseline")) != bool(run.get("dense_baseline")):
        found.append("one is a dense baseline, the other is not")
    return found
