"""Opens a base model from the lake or a local folder. Torch-free until the files are local."""

from pathlib import Path
from typing import TYPE_CHECKING

from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.registry.base_models import BaseManifest, BaseModelCorruptError, is_path, prefix_of
from pixel_pipeline.training.data.cache import file_sha256

if TYPE_CHECKING:
    from pixel_pipeline.training.base.model import BaseModel


def open_base(lake: Lake, wanted: str, *, home: Path) -> "BaseModel":
    """Open a base model. Models of the lake are copied to `<home>/cache/base/` once, and verified each time.

    Args:
        wanted: Path of a local folder, which starts with a dot, slash or tilde (`./smollm2`, `/models/mistral`), or a name in
            the lake.

    Raises:
        BaseModelNotFoundError: no model has this name; the message lists the existing ones.
        BaseModelCorruptError: a file in the lake is missing or does not match the manifest.
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
    """Digest of a base model, without copying it from the lake. Raises like `open_base`."""
    if is_path(wanted):
        from pixel_pipeline.training.base.model import open_folder

        return open_folder(Path(wanted).expanduser()).digest
    return BaseManifest.load(lake, wanted).digest


def fetch(lake: Lake, manifest: BaseManifest, *, home: Path) -> Path:
    """Return a local folder with a base model's files, verified against the manifest.

    Raises:
        BaseModelCorruptError: a file in the lake is missing or does not match; the local copy of it is deleted.
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
        hint=f"Delete the objects under {lake.data.uri(prefix_of(manifest.name))}/ and add it again from {manifest.source}: "
        "`pixel base add`. Adapters stay valid, because equal files have an equal digest.",
    )
