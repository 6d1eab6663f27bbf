"""Export and verification by the name of a checkpoint or folder. Torch-free until the files are local."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Literal

from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.registry.base_models import is_path
from pixel_pipeline.sample.dialogue import multi_turn
from pixel_pipeline.sample.layout import FILES
from pixel_pipeline.sample.texts import themes
from pixel_pipeline.training.base.opening import open_base
from pixel_pipeline.training.checkpoints.store import CheckpointRef, download
from pixel_pipeline.training.export.errors import ExportError
from pixel_pipeline.training.export.folder import ExportRecord
from pixel_pipeline.training.runtime.environment import prepare_environment, silence_libraries

if TYPE_CHECKING:
    from torch import Tensor

    from pixel_pipeline.training.export.verify import Verification

Kind = Literal["mixtral", "adapter"]
NAMES = ("adapter.json", "adapter.safetensors")


def export_checkpoint(
    lake: Lake,
    checkpoint: str,
    target: Path,
    *,
    kind: Kind,
    dtype: Literal["bf16", "fp32"],
    base: str | None = None,
    home: Path,
    report: Callable[[str], None],
) -> ExportRecord:
    """Export a checkpoint of adapters.

    Args:
        checkpoint: Path of a local folder (`./run`, `/…`), or a name for `CheckpointRef.resolve`.
        base: Name or path of the base model; default: the one recorded in the adapters.

    Raises:
        ExportError, BaseModelError, CheckpointNotFoundError: see their classes.
    """
    prepare_environment()
    with adapter_folder(lake, checkpoint) as (folder, source):
        from pixel_pipeline.training.export.adapter import Adapter
        from pixel_pipeline.training.export.mixtral import export_adapter, export_mixtral

        adapter = Adapter.open(folder)
        model = open_base(lake, base or adapter.description.base, home=home)
        if kind == "adapter":
            return export_adapter(model, adapter, target, adapter_source=source)
        return export_mixtral(model, adapter, target, dtype=dtype, adapter_source=source, report=report)


def verify_folder(
    lake: Lake,
    folder: Path,
    *,
    checkpoint: str | None = None,
    base: str | None = None,
    rows: int = 8,
    length: int = 128,
    home: Path,
) -> "Verification":
    """Compare an export with its adapters on invented conversations.

    Args:
        checkpoint: Location of the adapters; default: the recorded one.
        base: Name or path of the base model; default: the recorded one.
        rows: Number of conversations.
        length: Maximum number of tokens of each.

    Raises:
        ExportError: the export was made from other adapters.
        ExportCorruptError, BaseModelError, CheckpointNotFoundError: see their classes.
    """
    prepare_environment()
    record = ExportRecord.read(folder)
    with adapter_folder(lake, checkpoint or record.adapter) as (place, source):
        import torch

        from pixel_pipeline.training.export.adapter import Adapter
        from pixel_pipeline.training.export.reference import reference_logits
        from pixel_pipeline.training.export.verify import verify_export

        silence_libraries()
        adapter = Adapter.open(place)
        if adapter.sha256 != record.adapter_sha256:
            raise ExportError(
                f"{folder} was made of adapters with SHA-256 {record.adapter_sha256[:12]}…; {source} has {adapter.sha256[:12]}….",
                hint="Name the checkpoint that was exported: --checkpoint.",
            )
        model = open_base(lake, base or record.base, home=home)
        adapter.check(model)
        dtype = torch.float64 if record.dtype == "fp32" else torch.float32
        return verify_export(
            folder,
            reference_logits(model, adapter, dtype=dtype),
            conversation_rows(folder, rows=rows, length=length),
        )


@contextmanager
def adapter_folder(lake: Lake, checkpoint: str) -> Iterator[tuple[Path, str]]:
    """Provide a local folder with the adapters of a checkpoint, and their source."""
    if is_path(checkpoint):
        folder = Path(checkpoint).expanduser().resolve()
        yield folder, str(folder)
        return
    ref = CheckpointRef.resolve(lake, checkpoint)
    with TemporaryDirectory(prefix="pixel-adapter-") as name:
        download(lake, ref, folder=Path(name), names=NAMES)
        yield Path(name), ref.uri(lake)


def conversation_rows(folder: Path, *, rows: int, length: int) -> "list[Tensor]":
    """Token ids of invented conversations, by the export's tokenizer and template; the same on every machine."""
    import torch
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    groups = sorted({group for file in FILES for group in file.groups})
    result = []
    for number in range(rows):
        rng = Random(f"verification:{number}")
        theme = rng.choice(themes(groups[number % len(groups)]))
        messages = multi_turn(rng, theme, exchanges=4).messages
        if tokenizer.chat_template:
            text = tokenizer.apply_chat_template(
                [{"role": role, "content": content} for role, content in messages], tokenize=False
            )
        else:
            text = "\n\n".join(content for _, content in messages)
        result.append(torch.tensor(tokenizer(text, add_special_tokens=False).input_ids[:length]))
    return result
