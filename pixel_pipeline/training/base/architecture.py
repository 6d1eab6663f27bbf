"""Architectures of base models, and the tensors of a dense one. Imports transformers."""

from pathlib import Path
from typing import Any

import orjson

from pixel_pipeline.registry.base_models import BaseModelError
from pixel_pipeline.training.base.files import CONFIG
from pixel_pipeline.training.runtime.environment import prepare_environment

ARCHITECTURES = {"llama": "LlamaForCausalLM", "mistral": "MistralForCausalLM"}
# Mixtures of experts, trained as a whole.
NATIVE = {
    "mixtral": "MixtralForCausalLM",
    "olmoe": "OlmoeForCausalLM",
    "qwen2_moe": "Qwen2MoeForCausalLM",
    "qwen3_moe": "Qwen3MoeForCausalLM",
}
EMBEDDING = "model.embed_tokens.weight"
NORM = "model.norm.weight"
HEAD = "lm_head.weight"
Shape = tuple[int, ...]


def read_config(folder: Path) -> Any:
    """transformers' configuration of a model folder, with every default filled in.

    Raises:
        BaseModelError: the model is neither a plain Llama or Mistral nor a known mixture; the message names the reason.
    """
    prepare_environment()
    from transformers import AutoConfig

    path = folder / CONFIG
    try:
        content = orjson.loads(path.read_bytes())
        kind = content["model_type"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        raise BaseModelError(
            f"{path} is no configuration of a model.", hint="Take it from the model's source."
        ) from None
    if kind not in ARCHITECTURES and kind not in NATIVE:
        raise BaseModelError(
            f"{path} is of a {kind!r} model; adapters are trained on dense {' and '.join(ARCHITECTURES)} models, "
            f"and mixtures as a whole: {', '.join(NATIVE)}.",
            hint="Choose a base model of one of these architectures.",
        )
    if content.get("quantization_config"):
        raise BaseModelError(
            f"{path} is of a quantized model: it can neither be trained nor take adapters.",
            hint="Take the model in bf16, fp16 or fp32.",
        )
    try:
        # By model type only: never run code from the folder.
        config: Any = type(AutoConfig.for_model(kind)).from_dict(content)
    except (TypeError, ValueError) as error:
        raise BaseModelError(f"{path} is refused by transformers: {error}", hint="Correct it.") from None
    biased = [name for name in ("attention_bias", "mlp_bias") if getattr(config, name, False)]
    if biased and kind in ARCHITECTURES:
        raise BaseModelError(
            f"{path} has {' and '.join(biased)}; a Mixtral has no such biases, so nothing trained on it could be exported.",
            hint="Choose a base model without biases.",
        )
    return config


def layer_shapes(config: Any) -> dict[str, Shape]:
    """Shapes of one decoder layer's tensors, by their names within the layer."""
    hidden, inner = config.hidden_size, config.intermediate_size
    queries, keys = config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim
    return {
        "self_attn.q_proj.weight": (queries, hidden),
        "self_attn.k_proj.weight": (keys, hidden),
        "self_attn.v_proj.weight": (keys, hidden),
        "self_attn.o_proj.weight": (hidden, queries),
        "input_layernorm.weight": (hidden,),
        "post_attention_layernorm.weight": (hidden,),
        "mlp.gate_proj.weight": (inner, hidden),
        "mlp.up_proj.weight": (inner, hidden),
        "mlp.down_proj.weight": (hidden, inner),
    }


def outer_shapes(config: Any) -> dict[str, Shape]:
    """Shapes of the tensors outside the layers. A tied output head is the embedding and has no tensor of its own."""
    embedding = (config.vocab_size, config.hidden_size)
    head = {} if config.tie_word_embeddings else {HEAD: embedding}
    return {EMBEDDING: embedding, NORM: (config.hidden_size,), **head}


def tensor_shapes(config: Any) -> dict[str, Shape]:
    """Shapes of all tensors, by their names on disk."""
    layers = {
        f"model.layers.{number}.{name}": shape
        for number in range(config.num_hidden_layers)
        for name, shape in layer_shapes(config).items()
    }
    return {**outer_shapes(config), **layers}
