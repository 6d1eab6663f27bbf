"""Checkpoints in the lake: committed by their manifest, verified by SHA-256. Torch-free.

`s3://<checkpoint bucket>/<run>/step-000200/…`: files first, `manifest.json` last. A folder without a manifest is not a
checkpoint. `<run>/latest.json` then points at the newest; which checkpoints a run has is read from the manifests themselves.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
import re
from typing import Self

from pixel_pipeline.lake.store import Bucket, Lake
from pixel_pipeline.training.errors import CheckpointCorruptError, CheckpointNotFoundError
from pixel_pipeline.training.run_state import ADAPTER_FILE, MODEL_FILE
from pixel_pipeline.training.shard_cache import file_sha256

FORMAT = "pixel-checkpoint/1"
MANIFEST = "manifest.json"
POINTER = "latest.json"
_SAFE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_MANIFEST_KEY = re.compile(r"(?P<run>[^/]+)/step-(?P<step>\d+)/manifest\.json")


@dataclass(frozen=True, order=True)
class CheckpointRef:
    """One complete checkpoint; `step` counts the optimizer steps done."""

    run: str
    step: int

    @property
    def prefix(self) -> str:
        """Key prefix of its files, without a slash at the end."""
        return f"{self.run}/step-{self.step:06d}"

    def uri(self, lake: Lake) -> str:
        """`s3://bucket/run/step-000200`."""
        return lake.checkpoints.uri(self.prefix)

    @classmethod
    def resolve(cls, lake: Lake, wanted: str) -> "CheckpointRef":
        """Find a checkpoint.

        Args:
            wanted: "latest" (the newest of the run that was trained, or found complete, last), a run's name (its newest), `<run>/step-000200`, or the `s3://` URI
                of a run or a checkpoint.

        Raises:
            CheckpointNotFoundError: nothing matches; the message lists the runs there are.
        """
        bucket = lake.checkpoints
        path = wanted.strip().removeprefix(bucket.uri()).strip("/")
        if "://" in path:
            raise CheckpointNotFoundError(
                f"{wanted} is not in the checkpoint bucket {bucket.uri()}.",
                hint="Set PIXEL_CHECKPOINT_BUCKET to its bucket.",
            )
        if path == "latest":
            # By the pointers: a run that is found complete renews its own, and so is the latest again. A second is all that
            # S3's clock resolves; the greater key breaks the tie.
            pointers = [item for item in bucket.list("") if item.key.endswith(f"/{POINTER}")]
            newest = max(pointers, key=lambda item: (item.last_modified, item.key), default=None)
            found = list_checkpoints(bucket, newest.key.removesuffix(f"/{POINTER}")) if newest else []
        else:
            run, _, step = path.partition("/")
            found = [ref for ref in list_checkpoints(bucket, run) if not step or ref.prefix == path]
        if found:
            return found[-1]
        runs = sorted({ref.run for item in bucket.list("") if (ref := _parse(item.key)) is not None})
        raise CheckpointNotFoundError(
            f"There is no complete checkpoint {wanted!r} in {bucket.uri()}.",
            hint=f"Runs there: {', '.join(runs)}."
            if runs
            else "Train one first: `dagster job execute -j train_moe`.",
        )


@dataclass(frozen=True)
class CheckpointFile:
    """SHA-256 in hex and size of one file."""

    sha256: str
    bytes: int


@dataclass(frozen=True)
class CheckpointManifest:
    """What a checkpoint consists of. `final` once the run's last step is done."""

    run: str
    step: int
    final: bool
    files: dict[str, CheckpointFile]

    @property
    def weights(self) -> CheckpointFile:
        """The trained weights: of the adapters, or of the whole model."""
        return self.files[ADAPTER_FILE if ADAPTER_FILE in self.files else MODEL_FILE]

    @classmethod
    def load(cls, lake: Lake, ref: CheckpointRef) -> Self:
        """Read it, refusing what does not fit the checkpoint's place or names files outside of it.

        Raises:
            CheckpointCorruptError: not a manifest of this checkpoint.
        """
        content = lake.checkpoints.get_json(f"{ref.prefix}/{MANIFEST}")
        try:
            manifest = cls(
                run=content["run"],
                step=content["step"],
                final=content["final"],
                files={name: CheckpointFile(**file) for name, file in content["files"].items()},
            )
        except (KeyError, TypeError, AttributeError):
            raise _corrupt(lake, ref, "its manifest lacks fields") from None
        if content.get("format") != FORMAT or (manifest.run, manifest.step) != (ref.run, ref.step):
            raise _corrupt(lake, ref, "its manifest is of another checkpoint or format")
        unsafe = sum(_SAFE_NAME.fullmatch(name) is None for name in manifest.files)
        if unsafe:
            raise _corrupt(lake, ref, f"its manifest names {unsafe} files outside of its folder")
        return manifest

    def to_json(self) -> dict[str, object]:
        """Plain types, as stored."""
        files = {name: {"sha256": file.sha256, "bytes": file.bytes} for name, file in self.files.items()}
        return {"format": FORMAT, "run": self.run, "step": self.step, "final": self.final, "files": files}


def list_checkpoints(bucket: Bucket, run: str) -> list[CheckpointRef]:
    """The complete checkpoints of a run, by step."""
    return sorted(ref for item in bucket.list(run) if (ref := _parse(item.key)) is not None)


def publish(lake: Lake, ref: CheckpointRef, *, folder: Path, final: bool) -> CheckpointManifest:
    """Upload the files of a local folder and commit them by the manifest; then move the run's pointer.

    Raises:
        CheckpointCorruptError: the lake does not hold what was uploaded. Nothing is committed then.
    """
    bucket = lake.checkpoints
    paths = {path.name: path for path in sorted(folder.iterdir())}
    manifest = CheckpointManifest(
        run=ref.run,
        step=ref.step,
        final=final,
        files={
            name: CheckpointFile(sha256=file_sha256(path), bytes=path.stat().st_size)
            for name, path in paths.items()
        },
    )
    for name, path in paths.items():
        bucket.put(f"{ref.prefix}/{name}", path)
    stored = {item.key: item.size for item in bucket.list(ref.prefix)}
    for name, file in manifest.files.items():
        size = stored.get(f"{ref.prefix}/{name}")
        if size != file.bytes:
            raise _corrupt(lake, ref, f"{name} has {size} bytes in the lake, {file.bytes} were uploaded")
    bucket.put_json(f"{ref.prefix}/{MANIFEST}", manifest.to_json())
    if CheckpointManifest.load(lake, ref) != manifest:
        raise _corrupt(lake, ref, "its manifest reads back otherwise than written")
    point_to(lake, ref, final=final)
    return manifest


def point_to(lake: Lake, ref: CheckpointRef, *, final: bool) -> None:
    """Let `<run>/latest.json` name this checkpoint."""
    lake.checkpoints.put_json(
        f"{ref.run}/{POINTER}",
        {"checkpoint": ref.uri(lake), "run": ref.run, "step": ref.step, "final": final},
    )


def download(
    lake: Lake, ref: CheckpointRef, *, folder: Path, names: Iterable[str] | None = None
) -> CheckpointManifest:
    """Fetch the manifest's files, or those of them named, into an existing folder, and check each.

    Raises:
        CheckpointCorruptError: a file's bytes are not those that the manifest promises; the folder keeps no such file.
    """
    manifest = CheckpointManifest.load(lake, ref)
    for name in manifest.files if names is None else names:
        if name not in manifest.files:
            raise _corrupt(lake, ref, f"{name} is not in its manifest")
        lake.checkpoints.download(f"{ref.prefix}/{name}", folder / name)
        found = file_sha256(folder / name)
        if found != manifest.files[name].sha256:
            (folder / name).unlink()
            raise _corrupt(
                lake,
                ref,
                f"{name} has SHA-256 {found[:12]}…, its manifest says {manifest.files[name].sha256[:12]}…",
            )
    return manifest


def prune(lake: Lake, run: str, *, keep: int) -> list[CheckpointRef]:
    """Delete all but the newest `keep` checkpoints of a run; returns the deleted. Manifests go first."""
    old = list_checkpoints(lake.checkpoints, run)[:-keep]
    for ref in old:
        lake.checkpoints.delete([f"{ref.prefix}/{MANIFEST}"])
        lake.checkpoints.delete([item.key for item in lake.checkpoints.list(ref.prefix)])
    return old


def _parse(key: str) -> CheckpointRef | None:
    match = _MANIFEST_KEY.fullmatch(key)
    return CheckpointRef(run=match["run"], step=int(match["step"])) if match else None


def _corrupt(lake: Lake, ref: CheckpointRef, what: str) -> CheckpointCorruptError:
    return CheckpointCorruptError(
        f"Checkpoint {ref.uri(lake)} is damaged: {what}.",
        hint=f"Delete the objects below {ref.uri(lake)}/ and train again; training goes on from the one before.",
    )
