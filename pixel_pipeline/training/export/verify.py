"""Verifies an export: loads it with plain transformers and compares it with the trained model token by token. Imports torch."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson
import torch
from torch import Tensor
from transformers import MixtralForCausalLM

from pixel_pipeline.training.base.safetensors_writer import TORCH_DTYPES
from pixel_pipeline.training.export.errors import ExportCorruptError, ExportError
from pixel_pipeline.training.export.folder import ExportRecord
from pixel_pipeline.training.runtime.environment import silence_libraries

REPORT = "verification.json"
# For fp32 weights in fp64 arithmetic, only the rounding of the merged weights remains. In fp32 arithmetic, a model differs from itself
# with another order of sums: SmolLM2, whose logits reach 38, by 9e-5. In bf16, weights and activations are rounded.
LARGEST_DIFFERENCE_FP32 = 1e-4
LARGEST_KL_BF16 = 0.02
# Positions compared at a time: 64 distributions over 131,072 tokens in fp64 take 67 MB.
CHUNK = 64


@dataclass(frozen=True)
class Verification:
    """Differences between an export and the adapter model.

    Attributes:
        dtype: Dtype of the export's weights.
        arithmetic: Arithmetic of the export in the figures below: `fp64` for fp32 weights, otherwise the dtype of the weights.
        tokens: Number of compared positions.
        max_logit_difference: Largest absolute difference of two logits.
        mean_kl: Mean over positions of KL(adapter model || export) of the next-token distribution, in nats.
        max_kl: Maximum over positions.
        served_logit_difference: Like max_logit_difference, with the export running in the dtype of its weights.
        same_choice: Top-1 agreement, as a share of positions.
        adapter_sha256: SHA-256 of the adapters.
        weights: SHA-256 of each loaded weight file.
    """

    dtype: str
    arithmetic: str
    tokens: int
    max_logit_difference: float
    served_logit_difference: float
    mean_kl: float
    max_kl: float
    same_choice: float
    adapter_sha256: str
    weights: dict[str, str]

    @property
    def passed(self) -> bool:
        """Whether every logit agrees within 1e-4 (fp32), or the mean KL is at most 0.02 nats (bf16)."""
        if self.dtype == "fp32":
            return self.max_logit_difference <= LARGEST_DIFFERENCE_FP32
        return self.mean_kl <= LARGEST_KL_BF16

    def to_json(self) -> dict[str, Any]:
        """Plain types, as stored in `verification.json`."""
        return {**asdict(self), "passed": self.passed}


def verify_export(
    folder: Path, adapter_model: Callable[[Tensor], Tensor], rows: Sequence[Tensor]
) -> Verification:
    """Load an export with plain `MixtralForCausalLM.from_pretrained`, compare it, and write `verification.json` into it.

    Args:
        adapter_model: Maps token ids [1, T] to logits [1, T, V] of the trained model; in fp64 for an fp32 export, to exclude rounding
            of fp32 arithmetic, otherwise in fp32.
        rows: Token ids [T] of each row. Their logits stay in memory: 4 bytes per token and vocabulary entry.

    Raises:
        ExportCorruptError: a file is missing or changed, or transformers misses a weight.
        ExportError: the export contains only adapters.
    """
    record = ExportRecord.read(folder)
    if record.kind != "mixtral":
        raise ExportError(
            f"{folder} contains only adapters; there is no merged model to verify.",
            hint="Export with --format mixtral.",
        )
    record.check(folder)
    # Before loading the export, so that only one of the two models is in memory if the caller keeps no reference.
    trained = [adapter_model(row.view(1, -1))[0] for row in rows]
    del adapter_model
    silence_libraries()
    loaded: Any = MixtralForCausalLM.from_pretrained(
        folder,
        dtype=TORCH_DTYPES["bf16" if record.dtype == "bf16" else "fp32"],
        local_files_only=True,
        output_loading_info=True,
    )
    model, loading = loaded
    model.eval()
    wrong = {kind: sorted(map(str, names)) for kind, names in loading.items() if names}
    if wrong:
        kind, names = next(iter(wrong.items()))
        raise ExportCorruptError(
            f"transformers reports {kind.replace('_', ' ')}: {names[0]}.", hint="Export again."
        )
    served = sums = _compare(model, rows, trained)
    if record.dtype == "fp32":
        # Grouped kernels do not support fp64.
        model.set_experts_implementation("eager")
        sums = _compare(model.double(), rows, trained)
    result = Verification(
        dtype=record.dtype,
        arithmetic="fp64" if record.dtype == "fp32" else record.dtype,
        served_logit_difference=served.difference,
        tokens=sums.tokens,
        max_logit_difference=sums.difference,
        mean_kl=sums.kl / max(sums.tokens, 1),
        max_kl=sums.max_kl,
        same_choice=sums.same / max(sums.tokens, 1),
        adapter_sha256=record.adapter_sha256,
        weights={name: file.sha256 for name, file in record.files.items() if name.endswith(".safetensors")},
    )
    content = orjson.dumps(result.to_json(), option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS)
    (folder / REPORT).write_bytes(content)
    return result


def _compare(model: Any, rows: Sequence[Tensor], trained: Sequence[Tensor]) -> "_Sums":
    sums = _Sums()
    with torch.inference_mode():
        for row, trained_TV in zip(rows, trained, strict=True):
            sums.add(trained_TV, model(input_ids=row.view(1, -1), use_cache=False).logits[0])
    return sums


class _Sums:
    """Sums over rows."""

    def __init__(self) -> None:
        self.tokens, self.same = 0, 0
        self.difference, self.kl, self.max_kl = 0.0, 0.0, 0.0

    def add(self, trained_TV: Tensor, exported_TV: Tensor) -> None:
        """Compare the logits of one row. NaN counts as an infinite difference."""
        for trained, exported in zip(trained_TV.split(CHUNK), exported_TV.split(CHUNK), strict=True):  # type: ignore[no-untyped-call]
            p, q = trained.double(), exported.double()
            self.difference = max(self.difference, _number((p - q).abs().max()))
            log_p, log_q = p.log_softmax(-1), q.log_softmax(-1)
            kl_T = (log_p.exp() * (log_p - log_q)).sum(-1)
            self.kl += _number(kl_T.sum())
            self.max_kl = max(self.max_kl, _number(kl_T.max()))
            self.same += int((p.argmax(-1) == q.argmax(-1)).sum())
            self.tokens += p.size(0)


def _number(value: Tensor) -> float:
    return float("inf") if value.isnan() else max(float(value), 0.0)
