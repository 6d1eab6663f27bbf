"""Configuration of an exported Mixtral: the fields of its base, and the experts. Imports transformers."""

from typing import Any

from transformers import MixtralConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from pixel_pipeline.training.base.model import BaseModel
from pixel_pipeline.training.base.safetensors_writer import Dtype
from pixel_pipeline.training.export.adapter import AdapterDescription
from pixel_pipeline.training.export.errors import ExportError

COPIED = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "hidden_act",
    "max_position_embeddings",
    "initializer_range",
    "rms_norm_eps",
    "use_cache",
    "pad_token_id",
    "bos_token_id",
    "eos_token_id",
    "tie_word_embeddings",
    "attention_dropout",
    "rope_parameters",
)
_DTYPE_NAMES: dict[Dtype, str] = {"bf16": "bfloat16", "fp32": "float32"}


def mixtral_config(base: BaseModel, about: AdapterDescription, *, dtype: Dtype) -> dict[str, Any]:
    """The content of `config.json`.

    Always writes `head_dim`, because readers compute its default differently. Also writes the older names `rope_theta`,
    `rope_scaling` (if positions are scaled) and `torch_dtype`, for readers that do not know `rope_parameters` and `dtype`.

    Raises:
        ExportError: a Mixtral cannot scale positions like the base.
    """
    config = base.config
    fields = {name: getattr(config, name) for name in COPIED}
    rope = dict(fields["rope_parameters"])
    if (
        rope["rope_type"] not in {"default", *ROPE_INIT_FUNCTIONS}
        or rope.get("partial_rotary_factor", 1.0) != 1.0
    ):
        raise ExportError(
            f"{base.name} has {rope['rope_type']!r} rotary embeddings, which Mixtral does not support.",
            hint="Export the adapters alone: --format adapter.",
        )
    content: dict[str, Any] = MixtralConfig(
        **fields,
        sliding_window=getattr(config, "sliding_window", None),
        num_local_experts=about.experts,
        num_experts_per_tok=about.experts_per_token,
        output_router_logits=False,
        router_jitter_noise=0.0,
        architectures=["MixtralForCausalLM"],
        dtype=_DTYPE_NAMES[dtype],
    ).to_dict()
    # Fields of classifiers.
    content = {name: value for name, value in content.items() if name not in ("id2label", "label2id")}
    content["head_dim"] = config.head_dim
    content["sliding_window"] = getattr(config, "sliding_window", None)
    content["rope_theta"] = rope["rope_theta"]
    content["torch_dtype"] = _DTYPE_NAMES[dtype]
    if rope["rope_type"] != "default":
        content["rope_scaling"] = {key: value for key, value in rope.items() if key != "rope_theta"}
    return content
