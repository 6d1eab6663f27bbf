"""A dense Llama or Mistral with LoRA experts in place of each FFN. Imports torch."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from transformers import LlamaForCausalLM, MistralForCausalLM

from pixel_pipeline.training.config.adapters import AdaptersConfig
from pixel_pipeline.training.data.batch import PackedBatch
from pixel_pipeline.training.errors import AdapterError
from pixel_pipeline.training.model.cost import FrozenPrecision, MixtureCost
from pixel_pipeline.training.model.experts.ffn import DenseFFN, MixtureFFN
from pixel_pipeline.training.model.experts.lora import LoraLinear
from pixel_pipeline.training.model.float8_linear import Float8Linear, check_float8
from pixel_pipeline.training.model.packed_attention import attention_implementation, packed_attention

PROJECTIONS = {"q": "q_proj", "k": "k_proj", "v": "v_proj", "o": "o_proj"}

FFN_MATRICES = ("gate_proj", "up_proj", "down_proj")

DenseModel = LlamaForCausalLM | MistralForCausalLM


class Mixture(nn.Module):
    """A frozen base model with experts, modified in place.

    Attributes:
        model: The transformers model; `generate` and plain calls work as usual.
        config: Sizes of the adapters.
        frozen_precision: Precision of the base model's products; see `build_mixture`.
    """

    def __init__(
        self, model: DenseModel, config: AdaptersConfig, *, frozen_precision: FrozenPrecision = "model"
    ) -> None:
        super().__init__()
        self.model = model
        self.config = config
        self.frozen_precision = frozen_precision

    @property
    def head_weight(self) -> Tensor:
        """Frozen output head, [V, H]."""
        weight: Tensor = self.model.lm_head.weight
        return weight

    @property
    def layers(self) -> list[Any]:
        """The decoder layers."""
        return [*self.model.model.layers]

    def routed_layers(self) -> Iterator[MixtureFFN]:
        """The FFNs with a router."""
        return (layer.mlp for layer in self.layers if isinstance(layer.mlp, MixtureFFN))

    def hidden_and_routing(
        self, batch: PackedBatch, *, pull_TE: Tensor | None = None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Run packed rows; conversations do not attend to each other.

        Args:
            pull_TE: Bias added to the router logits in training, from `domain_pull`.

        Returns:
            Hidden states at the target positions [N, H], and router logits [B * L, E] of each layer with experts.
        """
        for ffn in self.routed_layers():
            ffn.router.pull_TE = pull_TE
        hidden = self.model.model(
            input_ids=batch.tokens,
            attention_mask=packed_attention(
                batch, dtype=self.model.dtype, window=getattr(self.model.config, "sliding_window", None)
            ),
            position_ids=batch.positions,
            use_cache=False,
        ).last_hidden_state
        return hidden.flatten(0, 1).index_select(0, batch.target_index), self.take_router_logits()

    def take_router_logits(self) -> tuple[Tensor, ...]:
        """Router logits [T, E] of each layer with experts of the last forward pass; releases them."""
        taken = []
        for ffn in self.routed_layers():
            assert ffn.router_logits is not None, "no forward pass since they were taken"
            taken.append(ffn.router_logits)
            ffn.router_logits = None
        return tuple(taken)

    def checkpoint_activations(self, enabled: bool) -> None:
        """Keep only each layer's input for the backward pass and recompute the rest: a third more work, little memory."""
        if enabled:
            self.model.activation_checkpointing_enable({"use_reentrant": False})  # type: ignore[no-untyped-call]
        else:
            self.model.activation_checkpointing_disable()  # type: ignore[no-untyped-call]

    def compile_blocks(self, *, backend: str = "inductor") -> None:
        """Compile each decoder layer as one graph; all layers of one shape share the code. For GPUs, in bf16."""
        # Each layer stores its router logits in the first pass only, not when checkpointing recomputes it.
        torch._dynamo.config.skip_fwd_side_effects_in_bwd_under_checkpoint = True
        for layer in self.layers:
            layer.compile(fullgraph=True, backend=backend)


def build_mixture(
    base: DenseModel, config: AdaptersConfig, *, seed: int, frozen_precision: FrozenPrecision = "model"
) -> Mixture:
    """Freeze a dense model, and add experts to its layers and LoRA to its attention, in place.

    With `config.experts == 1` there is no router; the model is plain LoRA.

    Args:
        seed: Seed of the initial weights; equal seeds give equal weights on every device.
        frozen_precision: Precision of the frozen products of FFN and attention: "model" keeps the base model's, "fp8" uses 8 bits
            (`float8_linear.py`). Head, norms, routers and adapters keep theirs.

    Raises:
        AdapterError: the architecture or the device is not supported, or `config` names a missing layer.
    """
    if not isinstance(base, LlamaForCausalLM | MistralForCausalLM):
        raise AdapterError(
            f"LoRA experts need a Llama or Mistral model; this one is a {type(base).__name__}.",
            hint="Choose a dense base model of one of the two architectures.",
        )
    try:
        chosen = config.layers_of(len(base.model.layers))
    except ValueError as error:
        raise AdapterError(str(error).capitalize() + ".", hint="Correct `layers` of the adapters.") from None
    if frozen_precision == "fp8":
        check_float8(base.model, device=base.device, dtype=base.dtype)
    base.requires_grad_(False)
    base.set_attn_implementation(attention_implementation(base.device))
    generator = torch.Generator().manual_seed(seed)
    for number, layer in enumerate(base.model.layers):
        if frozen_precision == "fp8":
            for block, names in ((layer.mlp, FFN_MATRICES), (layer.self_attn, PROJECTIONS.values())):
                for name in names:
                    setattr(block, name, Float8Linear(getattr(block, name)))
        if number in chosen:
            ffn = MixtureFFN if config.routed else DenseFFN
            layer.mlp = ffn(layer.mlp, config=config, generator=generator).to(base.device)
        if config.attention:
            for name in PROJECTIONS.values():
                changed = LoraLinear(
                    getattr(layer.self_attn, name),
                    rank=config.rank,
                    scale=config.scale,
                    dropout=config.dropout,
                    generator=generator,
                )
                setattr(layer.self_attn, name, changed.to(base.device))
    return Mixture(base, config, frozen_precision=frozen_precision)


def dense_baseline(
    base: DenseModel, config: AdaptersConfig, *, seed: int, frozen_precision: FrozenPrecision = "model"
) -> Mixture:
    """Plain LoRA with as many parameters as the mixture of `config`, to the nearest rank."""
    return build_mixture(
        base, matched_dense(config, base.config), seed=seed, frozen_precision=frozen_precision
    )


def matched_dense(config: AdaptersConfig, base: Any) -> AdaptersConfig:
    """Sizes of a single expert with as many parameters as a mixture, and the same scale.

    Args:
        base: transformers' configuration of the dense model.
    """
    one_rank = config.model_copy(update={"experts": 1, "experts_per_token": 1, "rank": 1})
    wanted, one = (MixtureCost(base, sizes).trained_parameters for sizes in (config, one_rank))
    rank = max(round(wanted / one), 1)
    return one_rank.model_copy(update={"rank": rank, "alpha": config.scale * rank})
