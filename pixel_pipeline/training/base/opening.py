"""Opens a base model of the lake or of a local folder. Torch-free until the files are there."""

from pathlib import Path
from typing import TYPE_CHECKING

from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.registry.base_models import BaseManifest, BaseModelCorruptError, is_path, prefix_of
from pixel_pipeline.training.data.cache import file_sha256

if TYPE_CHECKING:
    from pixel_pipeline.training.base.model import BaseModel


def open_base(lake: Lake, wanted: str, *, home: Path) -> "BaseModel":
    """Open a base model; what the lake has is copied to `<home>/cache/base/` once, and checked at each opening.

    Args:
        wanted: Path of a local folder, or a name in the lake. A folder is looked for only where `wanted` has a slash or dot
            in front (`./smollm2`, `/models/mistral`): a name always means the lake.

    Raises:
        BaseModelNotFoundError: nothing has this name; the message lists what there is.
        BaseModelCorruptError: a file is missing in the lake, or its bytes are not those that the manifest promises.
        BaseModelError: see `open_folder`.
    """
    if is_path(wanted):
        from pixel_pipeline.training.base.model import open_folder

        return open_folder(Path(wanted).expanduser())
    manifest = BaseManifest.load(lake, wanted)
    folder = fetch(lake, manifest, home=home)
    from pixel_pipeline.training.base.model import open_folder

    return open_folder(folder, name=manifest.name, files=manifest.files)


def digest_of_base(lake: Lake, wanted: str) -> str:
    """Digest of a base model; of one in the lake without a copy of it. Raises as `open_base`."""
    if is_path(wanted):
        from pixel_pipeline.training.base.model import open_folder

        return open_folder(Path(wanted).expanduser()).digest
    return BaseManifest.load(lake, wanted).digest


def fetch(lake: Lake, manifest: BaseManifest, *, home: Path) -> Path:
    """The folder with a base model's files, each with the bytes that the manifest promises.

    Raises:
        BaseModelCorruptError: the lake lacks a file, or has other bytes; nothing else is kept of it.
    """
    folder = home / "cache" / "base" / f"{manifest.name}-{manifest.digest[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    stored = {item.key: item.size for item in lake.data.list(prefix_of(manifest.name))}
    for name, file in manifest.files.items():
        key, path = f"{prefix_of(manifest.name)}/{name}", folder / name
        if path.exists() and file_sha256(path) == file.sha256:
            continue
        if stored.get(key) != file.bytes:
            size = f"has {stored[key]:,} bytes" if key in stored else "is missing"
            raise _corrupt(lake, key, f"{size}; its manifest says {file.bytes:,} bytes", manifest)
        lake.data.download(key, path)
        found = file_sha256(path)
        if found != file.sha256:
            path.unlink()
            raise _corrupt(
                lake, key, f"has SHA-256 {found[:12]}…, its manifest says {file.sha256[:12]}…", manifest
            )
    return folder


def _corrupt(lake: Lake, key: str, what: str, manifest: BaseManifest) -> BaseModelCorruptError:
    return BaseModelCorruptError(
        f"{lake.data.uri(key)} {what}.",
        hint=f"Delete the objects below {lake.data.uri(prefix_of(manifest.name))}/ and add it again from {manifest.source}: "
        "`pixel base add`. Adapters keep fitting it, for equal files have an equal digest.",
    )
