"""The gate that a checkpoint can be used outside the trainer. Torch-free until the files are local."""

from collections.abc import Callable
from pathlib import Path
import shutil

from pixel_pipeline.errors import PixelError
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.training.checkpoints.run_state import ADAPTER_FILE
from pixel_pipeline.training.checkpoints.store import CheckpointManifest, CheckpointRef
from pixel_pipeline.training.export.commands import export_checkpoint, verify_folder
from pixel_pipeline.training.export.errors import ExportCorruptError
from pixel_pipeline.training.export.folder import ExportRecord
from pixel_pipeline.training.promotion.gates import EXPORT_VERIFIED
from pixel_pipeline.training.promotion.record import Gate

# Size of the bf16 export. Verifying the fp32 export in fp64 takes two models of four times this size in memory.
LARGEST_BYTES = 4e9


def export_verified(lake: Lake, ref: CheckpointRef, *, home: Path, report: Callable[[str], None]) -> Gate:
    """Export adapters in bf16 and fp32 and verify both; load a native checkpoint in plain transformers and compare it.

    Keeps the bf16 export in `<home>/exports/<run>/step-000200/`. Deletes the fp32 export, which is twice as large; skips it for
    large models.
    """
    try:
        if ADAPTER_FILE in CheckpointManifest.load(lake, ref).files:
            return _exported(lake, ref, home=home, report=report)
        return _native(lake, ref, report=report)
    except PixelError as error:
        return Gate(EXPORT_VERIFIED, False, f"Not exported: {error.message}", {})


def export_folder(ref: CheckpointRef, *, home: Path) -> Path:
    """Folder of the bf16 export of a promoted checkpoint."""
    return home / "exports" / ref.prefix


def _exported(lake: Lake, ref: CheckpointRef, *, home: Path, report: Callable[[str], None]) -> Gate:
    kept = export_folder(ref, home=home)
    full = kept.with_name(f"{kept.name}-fp32")
    figures: dict[str, float | int | str] = {}
    told, passed = [], True
    try:
        for dtype, folder in (("bf16", kept), ("fp32", full)):
            if dtype == "fp32" and ExportRecord.read(kept).bytes > LARGEST_BYTES:
                told.append("fp32: not verified, the model is too large for fp64")
                continue
            _export(lake, ref, folder, dtype=dtype, home=home, report=report)
            found = verify_folder(lake, folder, checkpoint=ref.uri(lake), home=home)
            passed = passed and found.passed
            verdict = "the same model" if found.passed else "NOT the same model"
            told.append(
                f"{dtype}: {verdict}, largest difference of a logit {found.max_logit_difference:.2g}, mean divergence "
                f"{found.mean_kl:.2g} nats"
            )
            figures |= {
                f"{dtype}_max_logit_difference": found.max_logit_difference,
                f"{dtype}_mean_kl": found.mean_kl,
                f"{dtype}_same_choice": found.same_choice,
            }
            report(told[-1])
    finally:
        shutil.rmtree(full, ignore_errors=True)
    figures["folder"] = str(kept)
    return Gate(EXPORT_VERIFIED, passed, f"{'; '.join(told)}. bf16 export: {kept}.", figures)


def _export(
    lake: Lake, ref: CheckpointRef, folder: Path, *, dtype: str, home: Path, report: Callable[[str], None]
) -> None:
    """Export, unless an earlier attempt did. Deletes an incomplete export of such an attempt."""
    wanted = CheckpointManifest.load(lake, ref).weights.sha256
    try:
        record = ExportRecord.read(folder)
        record.check(folder)
        if record.adapter_sha256 == wanted:
            return
    except ExportCorruptError:
        pass
    shutil.rmtree(folder, ignore_errors=True)
    export_checkpoint(
        lake,
        ref.uri(lake),
        folder,
        kind="mixtral",
        dtype="fp32" if dtype == "fp32" else "bf16",
        home=home,
        report=lambda line: report(f"{dtype}: {line}") if line.startswith("writing") else None,
    )


def _native(lake: Lake, ref: CheckpointRef, *, report: Callable[[str], None]) -> Gate:
    from pixel_pipeline.training.export.verify import LARGEST_DIFFERENCE_FP32
    from pixel_pipeline.training.promotion.native import largest_difference

    difference, tokens = largest_difference(lake, ref)
    passed = difference <= LARGEST_DIFFERENCE_FP32
    verdict = "the same model" if passed else "NOT the same model"
    text = f"In plain transformers {verdict}: largest difference of a logit {difference:.2g} over {tokens:,} tokens."
    report(text)
    return Gate(EXPORT_VERIFIED, passed, text, {"max_logit_difference": difference, "tokens": tokens})
