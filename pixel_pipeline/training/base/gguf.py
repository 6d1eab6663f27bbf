"""Converts a GGUF file into a model folder with safetensors. Imports torch."""

from importlib.util import find_spec
from pathlib import Path

from pixel_pipeline.registry.base_models import BaseModelError
from pixel_pipeline.training.base.architecture import tensor_shapes
from pixel_pipeline.training.base.safetensors_writer import TensorSpec, plan_shards, write_shards
from pixel_pipeline.training.runtime.environment import prepare_environment, silence_libraries

# Origin of the model, written by transformers; not part of the configuration.
NOTES_OF_LOADING = ("quantization_config", "_name_or_path", "_model_name_or_path")


def convert_gguf(gguf: Path, folder: Path) -> None:
    """Dequantize a Llama or Mistral of any GGUF type into bf16 safetensors, with configuration, tokenizer and template.

    Holds the whole model in memory, so it is for small models.

    Args:
        folder: An empty folder.

    Raises:
        BaseModelError: a package for GGUF is not installed, or the architecture is not supported.
    """
    absent = [name for name in ("gguf", "accelerate") if find_spec(name) is None]
    if absent:
        raise BaseModelError(
            f"Reading GGUF needs {' and '.join(absent)}.",
            hint="Install the extra: `pip install 'pixel-pipeline[base]'`.",
        )
    prepare_environment()
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM, MistralForCausalLM

    silence_libraries()
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.bfloat16, local_files_only=True
    )
    if not isinstance(model, LlamaForCausalLM | MistralForCausalLM):
        raise BaseModelError(
            f"{gguf.name} is a {type(model).__name__}; adapters are trained on dense Llama and Mistral models.",
            hint="Choose a base model of one of the two architectures.",
        )
    # With a quantization_config left, transformers refuses the dequantized weights.
    content = {key: value for key, value in model.config.to_dict().items() if key not in NOTES_OF_LOADING}
    config = type(model.config).from_dict({**content, "architectures": [type(model).__name__]})
    config.save_pretrained(folder)
    if model.generation_config is not None:
        model.generation_config.save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name, local_files_only=True)
    tokenizer.save_pretrained(folder)
    state = model.state_dict()
    shards = plan_shards([TensorSpec(name, shape, "bf16") for name, shape in tensor_shapes(config).items()])
    write_shards(folder, shards, ((name, state[name]) for name in tensor_shapes(config)))
