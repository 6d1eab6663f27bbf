"""A native mixture of experts with all weights trained, from scratch or from a checkpoint. Imports torch."""

from pathlib import Path
from typing import Any

import orjson
from torch import Tensor, nn

from pixel_pipeline.training.data.batch import PackedBatch
from pixel_pipeline.training.model.from_scratch import expert_count, parameter_counts
from pixel_pipeline.training.model.trained_model import TrainedModel


class NativeModel(TrainedModel):
    """A Mixtral or another mixture of transformers. Does not support a domain bias: `pull_TE` must be None."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.experts = expert_count(model.config)
        self.experts_per_token = model.config.num_experts_per_tok

    def hidden_and_routing(
        self, batch: PackedBatch, *, pull_TE: Tensor | None = None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        assert pull_TE is None, "a native mixture has no domains"
        output = self.model.model(
            input_ids=batch.tokens,
            attention_mask=batch.attention,
            position_ids=batch.positions,
            use_cache=False,
            output_router_logits=True,
        )
        hidden = output.last_hidden_state.flatten(0, 1).index_select(0, batch.target_index)
        return hidden, output.router_logits

    def trained_parameters(self) -> dict[str, nn.Parameter]:
        return dict(self.model.named_parameters())

    def write(self, folder: Path) -> None:
        """`config.json` and weights under Mixtral's own names (`block_sparse_moe.experts.E.w1`), which other software reads."""
        self.model.save_pretrained(folder)
        path = folder / "config.json"
        content = orjson.loads(path.read_bytes())
        # Readers before transformers 5 expect it at the top level.
        content["rope_theta"] = content["rope_parameters"]["rope_theta"]
        path.write_bytes(orjson.dumps(content, option=orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2))

    def parameter_counts(self) -> tuple[int, int]:
        return parameter_counts(self.model)

    def flops_per_token(self, length: int) -> float:
        """6 operations per active parameter (an untied embedding is a lookup), plus attention."""
        config = self.model.config
        head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        looked_up = 0 if config.tie_word_embeddings else config.vocab_size * config.hidden_size
        queries = config.num_attention_heads * head_dim
        attention = config.num_hidden_layers * 2 * 2 * queries * length / 2
        return float(6 * (self.parameter_counts()[1] - looked_up) + 3 * attention)

    def checkpoint_activations(self, enabled: bool) -> None:
        if enabled:
            self.model.activation_checkpointing_enable({"use_reentrant": False})
        else:
            self.model.activation_checkpointing_disable()

    def compile_blocks(self) -> None:
        for layer in self.model.model.layers:
            layer.compile(fullgraph=True)
