"""The configuration of an exported Mixtral: every field of its base, and the experts. Imports transformers."""

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

    `head_dim` is written even where it could be computed: readers compute it in different ways. `rope_theta`, and `rope_scaling`
    where positions are scaled, stand beside `rope_parameters` for readers that know only the older spelling, and so
    does `torch_dtype` beside `dtype`.

    Raises:
        ExportError: positions are scaled in a way that a Mixtral cannot do.
    """
    config = base.config
    fields = {name: getattr(config, name) for name in COPIED}
    rope = dict(fields["rope_parameters"])
    if (
        rope["rope_type"] not in {"default", *ROPE_INIT_FUNCTIONS}
        or rope.get("partial_rotary_factor", 1.0) != 1.0
    ):
        raise ExportError(
            f"{base.name} places its tokens by {rope['rope_type']!r} rotary embeddings, which a Mixtral has not.",
            hint="Keep the adapters as they are: --format adapter.",
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
    # Of classifiers, which this is not.
    content = {name: value for name, value in content.items() if name not in ("id2label", "label2id")}
    content["head_dim"] = config.head_dim
    content["sliding_window"] = getattr(config, "sliding_window", None)
    content["rope_theta"] = rope["rope_theta"]
    content["torch_dtype"] = _DTYPE_NAMES[dtype]
    if rope["rope_type"] != "default":
        content["rope_scaling"] = {key: value for key, value in rope.items() if key != "rope_theta"}
    return content
