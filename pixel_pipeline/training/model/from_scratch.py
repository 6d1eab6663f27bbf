"""Native mixtures of experts: a new Mixtral, or what transformers loads; their parameters. Imports torch."""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, MixtralConfig

from pixel_pipeline.registry.base_models import BaseModelCorruptError
from pixel_pipeline.tokens.shards import TokenizerRef
from pixel_pipeline.training.config.shapes import ModelShape
from pixel_pipeline.training.model.experts import sorted_loop as experts

ROPE_THETA = 10_000.0


def mixtral_config(shape: ModelShape, *, tokenizer: TokenizerRef, sequence_length: int) -> MixtralConfig:
    """The transformers configuration of a shape; `sequence_length` in tokens."""
    return MixtralConfig(
        vocab_size=tokenizer.vocab_size,
        hidden_size=shape.hidden_size,
        intermediate_size=shape.intermediate_size,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.attention_heads,
        num_key_value_heads=shape.key_value_heads,
        head_dim=shape.head_dim,
        num_local_experts=shape.experts,
        num_experts_per_tok=shape.experts_per_token,
        tie_word_embeddings=shape.tied_embeddings,
        max_position_embeddings=sequence_length,
        rope_parameters={"rope_type": "default", "rope_theta": ROPE_THETA},
        sliding_window=None,
        router_jitter_noise=0.0,
        attention_dropout=0.0,
        pad_token_id=tokenizer.pad_id,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_id,
        dtype="float32",
    )


def build_model(config: Any, *, seed: int, device: torch.device) -> Any:
    """A freshly initialised fp32 model on `device`; equal seeds give equal weights."""
    torch.manual_seed(seed)
    # The config object is shared by all its models; each gets a copy, as the implementations are written into it.
    own = type(config).from_dict(config.to_dict())
    model: Any = AutoModelForCausalLM.from_config(own, dtype=torch.float32)  # type: ignore[no-untyped-call]
    model.set_attn_implementation("sdpa")
    model.set_experts_implementation(experts.IMPLEMENTATION if device.type == "cpu" else "grouped_mm")
    return model.to(device)


def load_model(folder: Path, *, device: torch.device) -> Any:
    """The fp32 model of a checkpoint or of a native base model, in memory of its own.

    `from_pretrained` maps the file: tensors would be aligned as the file is, and matrix products of other alignment differ
    in their last bit. So the weights are copied into a freshly built model, and a resumed run is bit-exact.

    Raises:
        BaseModelCorruptError: tensors are missing, of other shapes, or of another model.
    """
    read: Any = AutoModelForCausalLM
    try:
        stored, found = read.from_pretrained(
            folder, dtype=torch.float32, local_files_only=True, use_safetensors=True, output_loading_info=True
        )
    except RuntimeError as error:
        # Its message is a table of all tensors.
        raise _damaged(folder, str(error).strip().splitlines()[-1].strip()) from None
    problems = [
        f"{len(names)} tensors are {what}, such as {min(map(str, names))}"
        for what, names in (
            ("missing", found["missing_keys"]),
            ("unknown", found["unexpected_keys"]),
            ("of other shapes", found["mismatched_keys"]),
        )
        if names
    ]
    if problems:
        raise _damaged(folder, "; ".join(problems))
    model = build_model(stored.config, seed=0, device=device)
    model.load_state_dict(stored.state_dict())
    return model


def expert_count(config: Any) -> int:
    """Experts of a layer; architectures name it differently."""
    return int(getattr(config, "num_local_experts", None) or config.num_experts)


def parameter_counts(model: Any) -> tuple[int, int]:
    """(total, active): active counts only the experts that one token passes through. Tied weights count once."""
    total = sum(parameter.numel() for parameter in model.parameters())
    in_experts = sum(parameter.numel() for name, parameter in model.named_parameters() if ".experts." in name)
    idle_share = 1 - model.config.num_experts_per_tok / expert_count(model.config)
    return total, total - round(in_experts * idle_share)


def _damaged(folder: Path, what: str) -> BaseModelCorruptError:
    return BaseModelCorruptError(
        f"{folder} does not hold the model that its config.json states: {what.rstrip('.')}.",
        hint="Copy or download the model again, and check that all its files have arrived.",
    )
