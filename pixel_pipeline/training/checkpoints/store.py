"""Checkpoints in the lake: committed by their manifest, verified by SHA-256. Torch-free.

`s3://<checkpoint bucket>/<run>/step-000200/…`: files first, `manifest.json` last. A folder without a manifest is not a
checkpoint. `<run>/latest.json` then points at the newest, `<run>/best.json` at the best; which checkpoints a run has is read from
the manifests themselves.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
import re
from typing import Self

import orjson

from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.lake.s3.bucket import Bucket, ObjectInfo
from pixel_pipeline.lake.s3.errors import ObjectNotFoundError
from pixel_pipeline.training.checkpoints.files import LocalFiles
from pixel_pipeline.training.checkpoints.run_state import ADAPTER_FILE, MODEL_FILE
from pixel_pipeline.training.data.cache import file_sha256
from pixel_pipeline.training.errors import CheckpointCorruptError, CheckpointNotFoundError
from pixel_pipeline.training.promotion.history import promoted_step

FORMAT = "pixel-checkpoint/1"
MANIFEST = "manifest.json"
POINTER = "latest.json"
BEST = "best.json"
_SAFE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_FILE_KEY = re.compile(r"(?P<run>[^/]+)/step-(?P<step>\d+)/(?P<name>[^/]+)")


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
            wanted: "latest" (the newest of the run that was trained, or found complete, last), "best" (that of the run whose best
                changed last), "promoted", a run's name (its newest), `<run>/best`, `<run>/step-000200`, or the `s3://` URI of a run or a checkpoint.

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
        run, _, step = path.partition("/")
        if path in ("latest", "best"):
            # By the pointers: a run that is found complete renews its own, and so is the latest again. A second is all that
            # S3's clock resolves; the greater key breaks the tie.
            ending = f"/{POINTER}" if path == "latest" else f"/{BEST}"
            pointers = [item for item in bucket.list("") if item.key.endswith(ending)]
            newest = max(pointers, key=lambda item: (item.last_modified, item.key), default=None)
            run, step = (newest.key.removesuffix(ending), path.removeprefix("latest")) if newest else ("", "")
        elif path == "promoted":
            run, number = promoted_step(bucket) or ("", 0)
            step = f"step-{number:06d}"
            path = f"{run}/{step}"
        found = list_checkpoints(bucket, run) if run else []
        if step == "best":
            best = best_step(bucket, run)
            found = [ref for ref in found if ref.step == best]
        elif step:
            found = [ref for ref in found if ref.prefix == path]
        if found:
            return found[-1]
        runs = sorted({ref.run for item in bucket.list("") if (ref := _manifest_of(item.key)) is not None})
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
        try:
            content = orjson.loads(lake.checkpoints.get(f"{ref.prefix}/{MANIFEST}"))
            manifest = cls(
                run=content["run"],
                step=content["step"],
                final=content["final"],
                files={name: CheckpointFile(**file) for name, file in content["files"].items()},
            )
        except orjson.JSONDecodeError:
            raise _corrupt(lake, ref, "its manifest is not JSON") from None
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
    return sorted(ref for item in bucket.list(run) if (ref := _manifest_of(item.key)) is not None)


def best_step(bucket: Bucket, run: str) -> int | None:
    """Step that a run's `best.json` names; None where there is none."""
    try:
        return int(bucket.get_json(f"{run}/{BEST}")["step"])
    except ObjectNotFoundError:
        return None
    except (KeyError, TypeError, ValueError):
        raise CheckpointCorruptError(
            f"{bucket.uri(f'{run}/{BEST}')} names no step.",
            hint="Delete it; the next best checkpoint writes it anew.",
        ) from None


def publish(
    lake: Lake,
    ref: CheckpointRef,
    *,
    folder: Path,
    final: bool,
    best: float | None = None,
    files: LocalFiles | None = None,
    permit: Callable[[], None] = lambda: None,
) -> CheckpointManifest:
    """Upload the files of a local folder, see that they arrived, and commit them by the manifest; then `mark` it.

    Repeated after a failure it sends what is missing. A checkpoint of the same step that is whole already stays as it is, whatever
    its bytes: a reader may have its manifest in hand.

    Args:
        folder: Its files, but hidden ones, are the checkpoint.
        files: Of a former try, with what that has found out.
        permit: Called before every write; raises to end the publication there.

    Raises:
        CheckpointCorruptError, ObjectCorruptError: the lake does not hold what was uploaded. Nothing is committed then.
    """
    bucket = lake.checkpoints
    files = files or LocalFiles.scan(folder)
    manifest = CheckpointManifest(
        run=ref.run,
        step=ref.step,
        final=final,
        files={
            name: CheckpointFile(sha256=file.sha256, bytes=file.bytes) for name, file in files.digests.items()
        },
    )
    stored = {item.key: item for item in bucket.list(ref.prefix)}
    committed = _committed(lake, ref, stored)
    if committed is None or committed.files == manifest.files:
        for name in files.digests:
            permit()
            key = f"{ref.prefix}/{name}"
            files.upload(bucket, key=key, name=name, lies=stored.get(key))
        missing = _missing(manifest, {item.key: item for item in bucket.list(ref.prefix)})
        if missing:
            raise _corrupt(lake, ref, f"{missing[0]} is not in the lake as it was uploaded")
        if committed is None:
            permit()
            _commit(lake, ref, manifest)
    permit()
    return mark(lake, ref, final=final, best=best)


def mark(lake: Lake, ref: CheckpointRef, *, final: bool, best: float | None) -> CheckpointManifest:
    """Let the manifest of a checkpoint and the run's pointers tell what it is. A pointer never goes back to an earlier step.

    Args:
        best: Metric of the run's best checkpoint; None where this is not it.
    """
    manifest = CheckpointManifest.load(lake, ref)
    if final and not manifest.final:
        manifest = replace(manifest, final=True)
        _commit(lake, ref, manifest)
    if best is not None and (best_step(lake.checkpoints, ref.run) or 0) <= ref.step:
        content = {"checkpoint": ref.uri(lake), "run": ref.run, "step": ref.step, "metric": best}
        lake.checkpoints.put_json(f"{ref.run}/{BEST}", content)
    if list_checkpoints(lake.checkpoints, ref.run)[-1] == ref:
        point_to(lake, ref, final=manifest.final)
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


def prune(lake: Lake, run: str, *, keep: int, also: Collection[int] = ()) -> list[CheckpointRef]:
    """Delete all but the newest `keep` checkpoints of a run, its best, the promoted, and those of the steps `also`; returns the deleted.

    Manifests go first. What uploads and deletions that were cut off have left below the newest checkpoint goes too.
    """
    bucket = lake.checkpoints
    files: dict[CheckpointRef, list[str]] = {}
    for item in bucket.list(run):
        match = _FILE_KEY.fullmatch(item.key)
        if match:
            files.setdefault(CheckpointRef(run=match["run"], step=int(match["step"])), []).append(item.key)
    whole = sorted(ref for ref, keys in files.items() if f"{ref.prefix}/{MANIFEST}" in keys)
    best = best_step(bucket, run)
    promoted = promoted_step(bucket)
    kept = {*whole[-keep:], *(ref for ref in files if ref.step in also or ref.step == best)}
    kept |= {ref for ref in files if (ref.run, ref.step) == promoted}
    old = sorted(ref for ref in files if ref not in kept and whole and ref < whole[-1])
    for ref in old:
        bucket.delete([f"{ref.prefix}/{MANIFEST}"])
        bucket.delete(files[ref])
    return [ref for ref in old if ref in whole]


def _manifest_of(key: str) -> CheckpointRef | None:
    match = _FILE_KEY.fullmatch(key)
    return (
        CheckpointRef(run=match["run"], step=int(match["step"]))
        if match and match["name"] == MANIFEST
        else None
    )


def _missing(manifest: CheckpointManifest, stored: Mapping[str, ObjectInfo]) -> list[str]:
    """Names of the manifest's files that do not lie in the lake in their size."""
    prefix = CheckpointRef(run=manifest.run, step=manifest.step).prefix
    lying = {key: item.size for key, item in stored.items()}
    return [name for name, file in manifest.files.items() if lying.get(f"{prefix}/{name}") != file.bytes]


def _committed(lake: Lake, ref: CheckpointRef, stored: Mapping[str, ObjectInfo]) -> CheckpointManifest | None:
    """The manifest of a whole checkpoint. That of one which is not whole is removed."""
    key = f"{ref.prefix}/{MANIFEST}"
    if key not in stored:
        return None
    try:
        manifest = CheckpointManifest.load(lake, ref)
        if not _missing(manifest, stored):
            return manifest
    except CheckpointCorruptError:
        pass
    lake.checkpoints.delete([key])
    return None


def _commit(lake: Lake, ref: CheckpointRef, manifest: CheckpointManifest) -> None:
    lake.checkpoints.put_json(f"{ref.prefix}/{MANIFEST}", manifest.to_json())
    if CheckpointManifest.load(lake, ref) != manifest:
        raise _corrupt(lake, ref, "its manifest reads back otherwise than written")


def _corrupt(lake: Lake, ref: CheckpointRef, what: str) -> CheckpointCorruptError:
    return CheckpointCorruptError(
        f"Checkpoint {ref.uri(lake)} is damaged: {what}.",
        hint=f"Delete the objects below {ref.uri(lake)}/ and train again; training goes on from the one before.",
    )
