"""GGUF files, as llama.cpp writes them, become clean model folders."""

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from pixel_pipeline.training.base.gguf import convert_gguf
from pixel_pipeline.training.base.model import open_folder
from pixel_pipeline_tests.training.base.models import write_base


def write_gguf(path: Path, folder: Path) -> None:
    """A GGUF of a Llama, quantized to Q8_0, as llama.cpp writes it."""
    base = open_folder(folder)
    config = base.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(4321.0)
    writer.add_layer_norm_rms_eps(1e-4)
    writer.add_vocab_size(config.vocab_size)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokens = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().get)
    # transformers adds this one where a vocabulary like GPT-2's has it not.
    tokens[0] = "<|endoftext|>"
    merges = json.loads((folder / "tokenizer.json").read_text())["model"]["merges"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token.startswith("<") and token.endswith(">") else 1 for token in tokens])
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in merges])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_chat_template(tokenizer.chat_template)
    names = {
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
    }

    def add(name: str, value: torch.Tensor) -> None:
        data = value.float().numpy()
        if data.ndim == 1:
            writer.add_tensor(name, data)
        else:
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(name, gguf.quants.quantize(data, kind), raw_dtype=kind)

    outer = base.outer_tensors()
    add("token_embd.weight", outer["model.embed_tokens.weight"])
    add("output_norm.weight", outer["model.norm.weight"])
    for layer in range(base.layers):
        for name, value in base.layer_tensors(layer).items():
            short = name.removesuffix(".weight")
            heads = {
                "self_attn.q_proj": config.num_attention_heads,
                "self_attn.k_proj": config.num_key_value_heads,
            }
            if short in heads:
                # llama.cpp turns neighbouring pairs where transformers turns halves.
                rows = value.view(heads[short], 2, -1, value.size(1)).transpose(1, 2).reshape(value.shape)
                add(f"blk.{layer}.{names[short]}.weight", rows)
            else:
                add(f"blk.{layer}.{names[short]}.weight", value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_a_gguf_becomes_a_clean_model(tmp_path: Path) -> None:
    sizes: dict[str, Any] = {
        "hidden_size": 64,
        "num_attention_heads": 4,
        "head_dim": 16,
        "intermediate_size": 64,
    }
    source = write_base(tmp_path / "source", kind="llama", tie_word_embeddings=True, **sizes)
    write_gguf(tmp_path / "model.gguf", source)
    folder = tmp_path / "converted"
    folder.mkdir()
    convert_gguf(tmp_path / "model.gguf", folder)
    before, after = open_folder(source), open_folder(folder)
    assert after.dtype == "BF16"
    assert after.config.rope_parameters["rope_theta"] == 4321.0
    assert after.config.tie_word_embeddings
    assert not hasattr(after.config, "quantization_config")
    assert "quantization_config" not in (folder / "config.json").read_text()
    for layer in range(before.layers):
        for name, value in after.layer_tensors(layer).items():
            wanted = before.layer_tensors(layer)[name]
            # A 127th of the largest of 32 neighbours, and bf16.
            np.testing.assert_allclose(value.float(), wanted, atol=float(wanted.abs().max()) / 60)
    # Saved once more by transformers, which refuses what it believes to be quantized.
    AutoModelForCausalLM.from_pretrained(folder).save_pretrained(tmp_path / "again")
    texts = [
        AutoTokenizer.from_pretrained(place)("calm sleep, a river").input_ids for place in (source, folder)
    ]
    assert texts[0] == texts[1]
    assert (
        AutoTokenizer.from_pretrained(folder).chat_template
        == AutoTokenizer.from_pretrained(source).chat_template
    )
