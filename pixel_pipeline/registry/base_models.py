"""Base models in the lake under `models/base/<name>/`; complete once `manifest.json`, written last, exists."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
import re
from typing import Any, Self

import msgspec

from pixel_pipeline.errors import PixelError
from pixel_pipeline.lake import keys
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.lake.s3.errors import ObjectNotFoundError

FORMAT = "pixel-base/1"
MANIFEST = "manifest.json"
_SAFE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


class BaseModelError(PixelError):
    """A base model cannot be used: its architecture, tokenizer or file format does not fit."""


class BaseModelNotFoundError(BaseModelError):
    """Neither the lake nor this machine has a base model with this name."""


class BaseModelCorruptError(BaseModelError):
    """A base model's files are missing, truncated or different from its manifest."""


@dataclass(frozen=True)
class FileDigest:
    """SHA-256 in hex and size of one file."""

    sha256: str
    bytes: int


@dataclass(frozen=True)
class BaseManifest:
    """Contents and origin of a base model.

    Attributes:
        name: Its folder under `models/base/`.
        digest: Digest of architecture and weights (`base_digest`), which identifies the base of trained adapters.
        licence: SPDX identifier, or `unknown`.
        source: Origin.
        architecture: Its class in transformers.
        parameters: Number of parameters; a tied output head counts once.
        dtype: Type of the stored weights in safetensors' notation: `BF16`, `F16` or `F32`.
    """

    name: str
    digest: str
    licence: str
    source: str
    architecture: str
    parameters: int
    dtype: str
    files: Mapping[str, FileDigest]

    @property
    def bytes(self) -> int:
        """Total size of its files."""
        return sum(file.bytes for file in self.files.values())

    @classmethod
    def load(cls, lake: Lake, name: str) -> Self:
        """Read and validate a manifest.

        Raises:
            BaseModelNotFoundError: no base model has this name; the hint lists the existing ones.
            BaseModelCorruptError: the manifest is not one of this base model.
        """
        key = manifest_key(name)
        try:
            content = lake.data.get_json(key)
        except ObjectNotFoundError:
            names = base_names(lake)
            raise BaseModelNotFoundError(
                f"There is no base model {name!r} in {lake.data.uri(keys.BASE_MODELS)}/.",
                hint=f"There are: {', '.join(names)}." if names else "Add one: `pixel base add smollm2`.",
            ) from None
        try:
            manifest = msgspec.convert(content, cls)
        except msgspec.ValidationError:
            raise _corrupt(lake, name, "it lacks fields") from None
        if content.get("format") != FORMAT or manifest.name != name:
            raise _corrupt(lake, name, "it belongs to another base model or format")
        if not all(_SAFE_NAME.fullmatch(file) for file in manifest.files):
            raise _corrupt(lake, name, "it names files outside its folder")
        if manifest.digest != base_digest(manifest.files):
            raise _corrupt(lake, name, "its digest does not match its files")
        return manifest

    def to_json(self) -> dict[str, Any]:
        """Return the manifest as stored."""
        return {"format": FORMAT, **asdict(self)}


def base_digest(files: Mapping[str, FileDigest]) -> str:
    """SHA-256 of the output of `sha256sum config.json *.safetensors`, sorted by name: identifies the model's function."""
    lines = [
        f"{digest.sha256}  {name}\n"
        for name, digest in sorted(files.items())
        if name == "config.json" or name.endswith(".safetensors")
    ]
    return sha256("".join(lines).encode()).hexdigest()


def base_names(lake: Lake) -> list[str]:
    """Sorted names of the complete base models."""
    pattern = re.compile(rf"{keys.BASE_MODELS}/([^/]+)/{re.escape(MANIFEST)}")
    return [match[1] for item in lake.data.list(keys.BASE_MODELS) if (match := pattern.fullmatch(item.key))]


def manifest_key(name: str) -> str:
    """Return the key of a base model's manifest."""
    return f"{prefix_of(name)}/{MANIFEST}"


def is_path(text: str) -> bool:
    """Whether a base model is given as the path of a local folder, not as a name in the lake."""
    return text.startswith((".", "/", "~"))


def prefix_of(name: str) -> str:
    """Return the key prefix of a base model's files, without a trailing slash. Raises BaseModelError for an invalid name."""
    if _SAFE_NAME.fullmatch(name) is None:
        raise BaseModelError(
            f"{name!r} cannot be the name of a base model.", hint="Use letters, digits, `.`, `_` and `-`."
        )
    return f"{keys.BASE_MODELS}/{name}"


def _corrupt(lake: Lake, name: str, problem: str) -> BaseModelCorruptError:
    return BaseModelCorruptError(
        f"{lake.data.uri(manifest_key(name))} is not a manifest of this base model: {problem}.",
        hint="Delete it, and add the base model again with `pixel base add`.",
    )
