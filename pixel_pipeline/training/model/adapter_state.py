"""The trained tensors of adapters by their names in checkpoints and exports. Imports torch.

layers.{n}.router.weight                       [E, H]
layers.{n}.experts.{gate|up}.lora_A, .lora_B   [E, r, H], [E, I, r]
layers.{n}.experts.down.lora_A, .lora_B        [E, r, I], [E, H, r]
layers.{n}.attention.{q|k|v|o}.lora_A, .lora_B [r, in], [out, r]
"""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from pixel_pipeline.training.config.adapters import AdaptersConfig
from pixel_pipeline.training.errors import AdapterError
from pixel_pipeline.training.model.experts.ffn import DenseFFN, MixtureFFN
from pixel_pipeline.training.model.experts.lora import LoraLinear, LoraPair
from pixel_pipeline.training.model.mixture import PROJECTIONS, Mixture


def adapter_parameters(mixture: Mixture) -> dict[str, nn.Parameter]:
    """Trained parameters by name, in a fixed order."""
    return dict(_named(mixture))


def _named(mixture: Mixture) -> Iterator[tuple[str, nn.Parameter]]:
    def pair(prefix: str, changes: LoraPair) -> Iterator[tuple[str, nn.Parameter]]:
        yield f"{prefix}.lora_A", changes.lora_A
        yield f"{prefix}.lora_B", changes.lora_B

    for number, layer in enumerate(mixture.layers):
        if isinstance(layer.mlp, MixtureFFN):
            yield f"layers.{number}.router.weight", layer.mlp.router.weight
        if isinstance(layer.mlp, MixtureFFN | DenseFFN):
            experts = layer.mlp.experts
            for name, changes in (("gate", experts.gate), ("up", experts.up), ("down", experts.down)):
                yield from pair(f"layers.{number}.experts.{name}", changes)
        for name, attribute in PROJECTIONS.items():
            projection = getattr(layer.self_attn, attribute)
            if isinstance(projection, LoraLinear):
                yield from pair(f"layers.{number}.attention.{name}", projection)


def adapter_state(mixture: Mixture) -> dict[str, Tensor]:
    """The trained tensors as fp32 on the CPU; tensors that already are share memory with the model."""
    return {
        name: parameter.detach().to("cpu", torch.float32)
        for name, parameter in adapter_parameters(mixture).items()
    }


def load_adapter_state(mixture: Mixture, state: Mapping[str, Tensor]) -> None:
    """Copy the tensors of `adapter_state` into a mixture of the same sizes.

    Raises:
        AdapterError: names or shapes differ, or a tensor has non-finite values. Nothing is copied.
    """
    parameters = adapter_parameters(mixture)
    problems = [f"{name} is missing" for name in parameters.keys() - state.keys()]
    problems += [f"{name} is not known to it" for name in state.keys() - parameters.keys()]
    for name in parameters.keys() & state.keys():
        wanted, found = [*parameters[name].shape], [*state[name].shape]
        if wanted != found:
            problems.append(f"{name} is {found}, not {wanted}")
        elif not state[name].isfinite().all():
            problems.append(f"{name} is not finite")
    if problems:
        more = f", and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise AdapterError(
            f"The adapters do not fit the model: {'; '.join(sorted(problems)[:3])}{more}.",
            hint="Build the mixture with the sizes that its adapter.json states, on the base model named there.",
        )
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(state[name])


def adapter_description(
    config: AdaptersConfig, *, layers: int, base: str, base_digest: str
) -> dict[str, object]:
    """The content of `adapter.json`.

    Args:
        layers: Number of layers of the base model.
        base: Name of the base model.
        base_digest: Digest of its weights.
    """
    return {
        "base": base,
        "base_digest": base_digest,
        "experts": config.experts,
        "experts_per_token": config.experts_per_token,
        "rank": config.rank,
        "alpha": config.alpha,
        "layers": [*config.layers_of(layers)],
        "attention": config.attention,
        "dropout": config.dropout,
    }
