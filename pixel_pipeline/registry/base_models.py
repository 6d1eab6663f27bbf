"""Base models in the lake: `models/base/<name>/…`, whole once `manifest.json`, written last, is there."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
import re
from typing import Any, Self

from pixel_pipeline.errors import PixelError
from pixel_pipeline.lake import keys
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.lake.s3.errors import ObjectNotFoundError

FORMAT = "pixel-base/1"
MANIFEST = "manifest.json"
_SAFE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


class BaseModelError(PixelError):
    """A base model cannot be used: another architecture, a tokenizer of another model, files that are no safetensors."""


class BaseModelNotFoundError(BaseModelError):
    """Neither the lake nor this machine has a base model of this name."""


class BaseModelCorruptError(BaseModelError):
    """A base model's files are missing, cut short or not those that its manifest promises."""


@dataclass(frozen=True)
class FileDigest:
    """SHA-256 in hex and size of one file."""

    sha256: str
    bytes: int


@dataclass(frozen=True)
class BaseManifest:
    """What a base model consists of and where it comes from.

    Attributes:
        name: Its folder below `models/base/`.
        digest: Of architecture and weights (`base_digest`); adapters name the base that they were trained on by it.
        licence: SPDX identifier, or `unknown`.
        source: Where it was taken from.
        architecture: Class of transformers that loads it.
        parameters: Count; a tied output head is not counted twice.
        dtype: Of the stored weights, as safetensors spells it: `BF16`, `F16` or `F32`.
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
        """Size of all its files."""
        return sum(file.bytes for file in self.files.values())

    @classmethod
    def load(cls, lake: Lake, name: str) -> Self:
        """Read it, refusing what does not fit its place or names files outside of it.

        Raises:
            BaseModelNotFoundError: there is none of this name; the message lists those there are.
            BaseModelCorruptError: not a manifest of this base model.
        """
        key = manifest_key(name)
        try:
            content = lake.data.get_json(key)
        except ObjectNotFoundError:
            there = base_names(lake)
            raise BaseModelNotFoundError(
                f"There is no base model {name!r} in {lake.data.uri(keys.BASE_MODELS)}/.",
                hint=f"There are: {', '.join(there)}." if there else "Add one: `pixel base add smollm2`.",
            ) from None
        try:
            files = {file: FileDigest(**digest) for file, digest in content["files"].items()}
            manifest = cls(
                files=files,
                **{field: content[field] for field in cls.__dataclass_fields__ if field != "files"},
            )
        except (KeyError, TypeError, AttributeError):
            raise _corrupt(lake, name, "it lacks fields") from None
        if content.get("format") != FORMAT or manifest.name != name:
            raise _corrupt(lake, name, "it is of another base model or format")
        if not all(_SAFE_NAME.fullmatch(file) for file in files):
            raise _corrupt(lake, name, "it names files outside of its folder")
        if manifest.digest != base_digest(files):
            raise _corrupt(lake, name, "its digest is not that of its files")
        return manifest

    def to_json(self) -> dict[str, Any]:
        """Plain types, as stored."""
        return {"format": FORMAT, **asdict(self)}


def base_digest(files: Mapping[str, FileDigest]) -> str:
    """SHA-256 over the lines that `sha256sum config.json *.safetensors` prints, sorted by name: what the model computes."""
    lines = [
        f"{digest.sha256}  {name}\n"
        for name, digest in sorted(files.items())
        if name == "config.json" or name.endswith(".safetensors")
    ]
    return sha256("".join(lines).encode()).hexdigest()


def base_names(lake: Lake) -> list[str]:
    """Names of the complete base models, sorted."""
    pattern = re.compile(rf"{keys.BASE_MODELS}/([^/]+)/{re.escape(MANIFEST)}")
    return [match[1] for item in lake.data.list(keys.BASE_MODELS) if (match := pattern.fullmatch(item.key))]


def manifest_key(name: str) -> str:
    """Key of a base model's manifest."""
    return f"{prefix_of(name)}/{MANIFEST}"


def is_path(text: str) -> bool:
    """Whether a base model is given as the path of a local folder, not as a name in the lake."""
    return text.startswith((".", "/", "~"))


def prefix_of(name: str) -> str:
    """Key prefix of a base model's files, without a slash at the end. Raises BaseModelError for what is no name."""
    if _SAFE_NAME.fullmatch(name) is None:
        raise BaseModelError(
            f"{name!r} cannot be the name of a base model.", hint="Use letters, digits, `.`, `_` and `-`."
        )
    return f"{keys.BASE_MODELS}/{name}"


def _corrupt(lake: Lake, name: str, what: str) -> BaseModelCorruptError:
    return BaseModelCorruptError(
        f"{lake.data.uri(manifest_key(name))} is no manifest of this base model: {what}.",
        hint="Delete it, and add the base model again with `pixel base add`.",
    )
