"""Whether what is promoted can be used elsewhere. Torch-free until the files are there."""

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

# Of the bf16 export. That of fp32 is verified in float64: two models of four times this size in memory.
LARGEST_BYTES = 4e9


def export_verified(lake: Lake, ref: CheckpointRef, *, home: Path, report: Callable[[str], None]) -> Gate:
    """Export adapters in bf16 and fp32 and verify both; load a native checkpoint in plain transformers and compare it.

    The bf16 export stays at `<home>/exports/<run>/step-000200/`. That of fp32, which is twice its size, is deleted; of large models
    there is none.
    """
    try:
        if ADAPTER_FILE in CheckpointManifest.load(lake, ref).files:
            return _exported(lake, ref, home=home, report=report)
        return _native(lake, ref, report=report)
    except PixelError as error:
        return Gate(EXPORT_VERIFIED, False, f"Not exported: {error.message}", {})


def export_folder(ref: CheckpointRef, *, home: Path) -> Path:
    """Where the bf16 export of a promoted checkpoint lies."""
    return home / "exports" / ref.prefix


def _exported(lake: Lake, ref: CheckpointRef, *, home: Path, report: Callable[[str], None]) -> Gate:
    kept = export_folder(ref, home=home)
    full = kept.with_name(f"{kept.name}-fp32")
    figures: dict[str, float | int | str] = {}
    told, passed = [], True
    try:
        for dtype, folder in (("bf16", kept), ("fp32", full)):
            if dtype == "fp32" and ExportRecord.read(kept).bytes > LARGEST_BYTES:
                told.append("fp32: not looked at, the model is too large for float64")
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
    """Export, unless a former try has. What lies there and is no whole export is ours, and goes."""
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
