"""A run, identified by its inputs. Torch-free."""

from dataclasses import dataclass
from typing import Any, Self

from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.tokens.shards import ShardManifest
from pixel_pipeline.training.base.opening import digest_of_base
from pixel_pipeline.training.checkpoints.initial_weights import InitialWeights
from pixel_pipeline.training.checkpoints.queries import read_state
from pixel_pipeline.training.checkpoints.run_state import RunState
from pixel_pipeline.training.checkpoints.store import CheckpointRef
from pixel_pipeline.training.config.config import TrainingConfig
from pixel_pipeline.training.errors import RunConflictError
from pixel_pipeline.training.runtime.identity import run_identity, run_name


@dataclass(frozen=True)
class Run:
    """The inputs of a run.

    Attributes:
        base_digest: Of the base model; None from scratch.
        initial: Source of the first weights; None for fresh ones.
        identity: Everything that the weights depend on.
    """

    name: str
    config: TrainingConfig
    manifest: ShardManifest
    base_digest: str | None
    initial: InitialWeights | None
    identity: dict[str, Any]

    @classmethod
    def of(cls, config: TrainingConfig, lake: Lake, manifest_key: str, *, name: str | None) -> Self:
        """Look up the inputs; without a name, the run is named after them.

        Raises:
            BaseModelError, InitialWeightsError: the configuration names a base model or checkpoint that cannot be used.
        """
        manifest = ShardManifest.load(lake.data, manifest_key)
        digest = digest_of_base(lake, config.base) if config.base else None
        initial = InitialWeights.find(lake, config.init_from) if config.init_from else None
        first = initial.identity() if initial else None
        return cls(
            name=name or run_name(config, manifest, base_digest=digest, init_from=first),
            config=config,
            manifest=manifest,
            base_digest=digest,
            initial=initial,
            identity=run_identity(config, manifest, base_digest=digest, init_from=first),
        )

    def state(self, lake: Lake, ref: CheckpointRef) -> RunState:
        """The verified state of a checkpoint of this run.

        Raises:
            RunConflictError: the checkpoint is of a run with this name and other inputs.
        """
        state = read_state(lake, ref)
        if state is None or state.identity != self.identity:
            raise RunConflictError(
                f"Run {self.name} was trained on other data, with another configuration or another recipe.",
                hint="Leave out the run's name, or choose an unused one.",
            )
        return state

    def check_initial_weights(self, lake: Lake) -> None:
        """Check that the first weights fit a new run.

        Raises:
            InitialWeightsError: naming each difference.
        """
        if self.initial is not None:
            self.initial.check(lake, self.config, self.manifest, base_digest=self.base_digest)
