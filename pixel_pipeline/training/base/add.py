"""Adds base models to the lake. Torch-free until a model is checked."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.registry.base_models import (
    BaseManifest,
    BaseModelCorruptError,
    BaseModelError,
    BaseModelNotFoundError,
    manifest_key,
    prefix_of,
)
from pixel_pipeline.training.base.sources import SMOLLM2, SMOLLM2_SOURCE, obtain


def add_base(
    lake: Lake,
    wanted: str,
    *,
    name: str | None = None,
    licence: str | None = None,
    home: Path,
    report: Callable[[str], None],
) -> BaseManifest:
    """Add a base model to the lake, unless it is already there.

    Args:
        wanted: `smollm2`, a folder, or a hub id; see `sources.obtain`.
        name: Name in the lake; default: derived from the source.
        licence: Replaces the licence in its README.

    Raises:
        BaseModelError, BaseModelCorruptError: the model is unusable, or another model has this name.
    """
    if wanted == SMOLLM2:
        there = _existing(lake, name or SMOLLM2)
        # Skip a conversion of half a minute with a known result.
        if there is not None and there.source == SMOLLM2_SOURCE:
            report(f"{there.name} is already in the lake")
            return there
    scratch = home / "scratch"
    scratch.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=scratch, prefix="base-") as place:
        found = obtain(wanted, scratch=Path(place), report=report)
        prefix = prefix_of(name or found.name)
        from pixel_pipeline.training.base.model import open_folder

        report(f"checking {found.source}")
        base = open_folder(found.folder, name=name or found.name)
        manifest = BaseManifest(
            name=base.name,
            digest=base.digest,
            licence=licence or found.licence,
            source=found.source,
            architecture=base.architecture,
            parameters=base.parameters,
            dtype=base.dtype,
            files=base.files,
        )
        there = _existing(lake, manifest.name)
        if there is not None:
            if there.digest != manifest.digest:
                raise BaseModelError(
                    f"The lake has another base model of the name {manifest.name} (digest {there.digest[:12]}, this one "
                    f"{manifest.digest[:12]}); adapters may have been trained on it.",
                    hint="Choose another name: --name.",
                )
            report(f"{manifest.name} is already in the lake")
            return there
        report(f"uploading {manifest.bytes / 1e6:,.0f} MB to {lake.data.uri(prefix)}/")
        for file in manifest.files:
            lake.data.put(f"{prefix}/{file}", found.folder / file)
    stored = {item.key: item.size for item in lake.data.list(prefix)}
    for file, digest in manifest.files.items():
        if stored.get(f"{prefix}/{file}") != digest.bytes:
            raise BaseModelCorruptError(
                f"{lake.data.uri(prefix)}/{file} has {stored.get(f'{prefix}/{file}')} bytes, {digest.bytes} were uploaded.",
                hint="Add the base model again.",
            )
    lake.data.put_json(manifest_key(manifest.name), manifest.to_json())
    return manifest


def _existing(lake: Lake, name: str) -> BaseManifest | None:
    try:
        return BaseManifest.load(lake, name)
    except BaseModelNotFoundError:
        return None
