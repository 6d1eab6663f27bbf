"""Whether an export is the model that was trained: loaded by plain transformers, compared token by token. Imports torch."""

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
# Of fp32 weights in float64 arithmetic: what is left is the rounding of the merged weights. In fp32 arithmetic a model differs from itself
# in another order of sums: SmolLM2, whose logits reach 38, by 9e-5. In bf16 the weights are rounded, and so is every activation.
LARGEST_DIFFERENCE_FP32 = 1e-4
LARGEST_KL_BF16 = 0.02
# Positions whose distributions are compared at a time: 64 of 131,072 tokens in float64 are 67 MB.
CHUNK = 64


@dataclass(frozen=True)
class Verification:
    """How far an export is from the adapter model.

    Attributes:
        dtype: Of the export's weights.
        arithmetic: That the export was run in for the figures below: `fp64` for fp32 weights, else that of the weights.
        tokens: Positions compared.
        max_logit_difference: Largest absolute difference of two logits.
        mean_kl: Mean over positions of KL(adapter model || export) of the next token's distribution, in nats.
        max_kl: Its largest value.
        served_logit_difference: Largest absolute difference of two logits where the export runs in the dtype of its weights, as it will.
        same_choice: Share of positions where both find the same token likeliest.
        adapter_sha256: Of the adapters that it was compared with.
        weights: SHA-256 of each file of weights that was loaded.
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
        """True within 1e-4 of every logit for fp32 weights; within 0.02 nats on average in bf16."""
        if self.dtype == "fp32":
            return self.max_logit_difference <= LARGEST_DIFFERENCE_FP32
        return self.mean_kl <= LARGEST_KL_BF16

    def to_json(self) -> dict[str, Any]:
        """Plain types, as stored in `verification.json`."""
        return {**asdict(self), "passed": self.passed}


def verify_export(
    folder: Path, adapter_model: Callable[[Tensor], Tensor], rows: Sequence[Tensor]
) -> Verification:
    """Load an export with plain `MixtralForCausalLM.from_pretrained` and compare it; writes `verification.json` into it.

    Args:
        adapter_model: From token ids [1, T] to logits [1, T, V] of what was trained; in fp64 for an fp32 export, so that no arithmetic
            of fp32 is in the difference, else in fp32.
        rows: Token ids [T], each row by itself. The adapter model's logits of all of them are kept: 4 bytes a token and word.

    Raises:
        ExportCorruptError: a file is missing or changed, or transformers does not find every weight in them.
        ExportError: it holds adapters alone.
    """
    record = ExportRecord.read(folder)
    if record.kind != "mixtral":
        raise ExportError(
            f"{folder} holds adapters alone; there is nothing merged to verify.",
            hint="Export with --format mixtral.",
        )
    record.check(folder)
    # Before the export is loaded, so that whoever keeps no reference of the adapter model has one of the two in memory.
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
        # Grouped kernels know no float64.
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
    """What is summed up over rows."""

    def __init__(self) -> None:
        self.tokens, self.same = 0, 0
        self.difference, self.kl, self.max_kl = 0.0, 0.0, 0.0

    def add(self, trained_TV: Tensor, exported_TV: Tensor) -> None:
        """Compare the logits of one row. A value that is no number counts as infinitely far."""
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
