"""Operations and memory of training a mixture, computed from sizes. Torch-free.

Conventions:
- A product with a frozen matrix counts as 4 operations per parameter and token: forward, and the gradient of its input. One with a trained
  matrix counts as 6. Attention counts the products of causal attention over whole rows three times: forward, and twice that backward.
- Recomputation to save memory does not count, so rates measure useful work.
"""

from dataclasses import dataclass
from typing import Any, Literal

from pixel_pipeline.training.config.adapters import AdaptersConfig

FrozenPrecision = Literal["model", "fp8"]

# NVIDIA's data sheet: H100 SXM, bf16 without sparsity.
H100_PEAK_FLOPS = 989e12
# fp32: parameter, gradient, AdamW's two moments.
BYTES_PER_TRAINED_PARAMETER = 16
# Logits of a chunk and their gradient in fp32, and the gradient in the model's precision.
HEAD_BYTES_PER_LOGIT = 10


@dataclass(frozen=True)
class MixtureCost:
    """Cost of a mixture on a base of given sizes.

    Args:
        base: transformers' configuration of the dense model, Llama or Mistral.
        adapters: Sizes of the adapters.
        bytes_per_value: Of the frozen weights and of activations; 2 for bf16.
        frozen_precision: Of the matrices of FFN and attention: "model" for `bytes_per_value`, "fp8" for one byte.
    """

    base: Any
    adapters: AdaptersConfig
    bytes_per_value: int = 2
    frozen_precision: FrozenPrecision = "model"

    @property
    def _queries(self) -> int:
        return int(self.base.num_attention_heads) * self._head_dim

    @property
    def _keys(self) -> int:
        return int(self.base.num_key_value_heads) * self._head_dim

    @property
    def _head_dim(self) -> int:
        given = getattr(self.base, "head_dim", None)
        return int(given or self.base.hidden_size // self.base.num_attention_heads)

    @property
    def _expert_layers(self) -> int:
        return len(self.adapters.layers_of(self.base.num_hidden_layers))

    @property
    def multiplied_parameters(self) -> int:
        """Frozen parameters that each token is multiplied with: all matrices except the input embedding, which is a lookup."""
        hidden, inner = int(self.base.hidden_size), int(self.base.intermediate_size)
        attention = 2 * hidden * self._queries + 2 * hidden * self._keys
        return int(self.base.num_hidden_layers) * (attention + 3 * hidden * inner) + self._embedding

    @property
    def _embedding(self) -> int:
        return int(self.base.vocab_size) * int(self.base.hidden_size)

    @property
    def frozen_parameters(self) -> int:
        """All parameters of the base model."""
        norms = (2 * int(self.base.num_hidden_layers) + 1) * int(self.base.hidden_size)
        return self.multiplied_parameters + norms + (0 if self.base.tie_word_embeddings else self._embedding)

    @property
    def trained_parameters(self) -> int:
        """Parameters of adapters and routers."""
        hidden, inner = int(self.base.hidden_size), int(self.base.intermediate_size)
        config, layers = self.adapters, int(self.base.num_hidden_layers)
        router = config.experts * hidden if config.routed else 0
        ffn = config.experts * config.rank * 3 * (hidden + inner) + router
        attention = config.rank * (2 * (hidden + self._queries) + 2 * (hidden + self._keys))
        return self._expert_layers * ffn + (layers * attention if config.attention else 0)

    def flops_per_token(self, length: int) -> float:
        """Operations of forward and backward for a token in a row of `length` tokens.

        Trained matrices count as if each token used only its own experts, although the implementation multiplies with every A.
        """
        config = self.adapters
        ffn = config.rank * 3 * (int(self.base.hidden_size) + int(self.base.intermediate_size))
        idle = self._expert_layers * (config.experts - config.experts_per_token) * ffn
        # Two products of width `queries` with each of length / 2 keys on average.
        attention = int(self.base.num_hidden_layers) * 2 * 2 * self._queries * length / 2
        return 4.0 * self.multiplied_parameters + 6 * (self.trained_parameters - idle) + 3 * attention

    def fixed_bytes(self) -> int:
        """Frozen weights, trained ones, their gradients and the optimizer's state."""
        frozen = self.frozen_parameters * self.bytes_per_value
        if self.frozen_precision == "fp8":
            hidden, inner, layers = (
                int(size)
                for size in (
                    self.base.hidden_size,
                    self.base.intermediate_size,
                    self.base.num_hidden_layers,
                )
            )
            frozen -= (self.multiplied_parameters - self._embedding) * (self.bytes_per_value - 1)
            # A scale for each row of each matrix: q, k, v, o; gate, up, down.
            frozen += 4 * layers * (self._queries + 2 * self._keys + 2 * hidden + 2 * inner)
        return frozen + self.trained_parameters * BYTES_PER_TRAINED_PARAMETER

    def kept_bytes_per_token(self, *, checkpointing: bool) -> int:
        """Bytes that a token keeps from the forward pass for the backward pass, uncompiled."""
        hidden, layers = int(self.base.hidden_size), int(self.base.num_hidden_layers)
        if checkpointing:
            return layers * hidden * self.bytes_per_value
        return layers * self._attention_bytes() + self._expert_layers * self._ffn_bytes()

    def _attention_bytes(self) -> int:
        hidden, config = int(self.base.hidden_size), self.adapters
        # Norms keep their input in fp32; this counts both of a layer.
        norms = 2 * 4 * hidden
        values = hidden + 2 * self._queries + 2 * self._keys + (4 * config.rank if config.attention else 0)
        return norms + values * self.bytes_per_value

    def _ffn_bytes(self) -> int:
        hidden, inner, config = int(self.base.hidden_size), int(self.base.intermediate_size), self.adapters
        changes = 3 * config.experts * config.rank
        if not config.routed:
            # Gate before and after its activation, up, and their product.
            return (hidden + 4 * inner + changes) * self.bytes_per_value
        # The router's input in fp32; W_gate x and W_up x.
        return 4 * hidden + (hidden + 2 * inner + changes) * self.bytes_per_value

    def working_bytes_per_token(self) -> int:
        """Peak of a layer's backward pass on top of the kept bytes: the recomputed activations of a token's experts."""
        inner, config = int(self.base.intermediate_size), self.adapters
        again = self._attention_bytes() + self._ffn_bytes()
        # Five of the forward pass, four gradients.
        return again + 9 * config.experts_per_token * inner * self.bytes_per_value

    def peak_bytes(self, *, tokens: int, checkpointing: bool, chunk_rows: int) -> int:
        """Memory of a step over `tokens` tokens, with `chunk_rows` rows of logits at a time."""
        kept = tokens * self.kept_bytes_per_token(checkpointing=checkpointing)
        head = chunk_rows * int(self.base.vocab_size) * HEAD_BYTES_PER_LOGIT
        layer = tokens * self.working_bytes_per_token()
        if self.frozen_precision == "fp8":
            # The largest matrix in full precision, for the gradient of its input.
            layer += int(self.base.hidden_size) * int(self.base.intermediate_size) * self.bytes_per_value
        return self.fixed_bytes() + kept + max(layer, head)
