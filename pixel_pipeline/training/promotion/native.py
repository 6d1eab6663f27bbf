"""A checkpoint of a whole model in plain transformers, beside the model that the trainer makes of it. Imports torch."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.training.checkpoints.store import CheckpointRef, download
from pixel_pipeline.training.export.commands import conversation_rows
from pixel_pipeline.training.export.errors import ExportCorruptError
from pixel_pipeline.training.model.from_scratch import load_model

ROWS = 8
# Tokens of each row at most.
LENGTH = 128


def largest_difference(lake: Lake, ref: CheckpointRef) -> tuple[float, int]:
    """(largest absolute difference of two logits in float64, tokens compared), on invented conversations.

    Raises:
        ExportCorruptError: transformers does not find every weight in the checkpoint.
    """
    with TemporaryDirectory(prefix="pixel-native-") as name:
        folder = Path(name)
        download(lake, ref, folder=folder)
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float64, local_files_only=True, output_loading_info=True
        )
        plain, loading = loaded
        wrong = {kind: sorted(map(str, names)) for kind, names in loading.items() if names}
        if wrong:
            kind, names = next(iter(wrong.items()))
            raise ExportCorruptError(
                f"transformers reports {kind.replace('_', ' ')}: {names[0]}.",
                hint="Promote another checkpoint.",
            )
        # Grouped kernels know no float64.
        plain.set_experts_implementation("eager")
        ours: Any = load_model(folder, device=torch.device("cpu")).double()
        length = min(LENGTH, int(plain.config.max_position_embeddings))
        rows = conversation_rows(folder, rows=ROWS, length=length)
    plain.eval()
    ours.eval()
    difference = 0.0
    with torch.inference_mode():
        for row in rows:
            logits = [model(input_ids=row.view(1, -1), use_cache=False).logits for model in (plain, ours)]
            # NaN stays NaN, and is no pass.
            difference = torch.maximum(
                torch.tensor(difference, dtype=torch.float64), (logits[0] - logits[1]).abs().max()
            ).item()
    return difference, sum(len(row) for row in rows)
