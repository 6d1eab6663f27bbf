"""Checkpoints in the lake: committed by their manifest, verified by SHA-256. Torch-free.

`s3://<checkpoint bucket>/<run>/step-000200/…`: files first, `manifest.json` last. A folder without a manifest is not a checkpoint.
`<run>/latest.json` and `<run>/best.json` point to the newest and the best; the manifests decide which checkpoints a run has.
"""

from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
import re
from typing import Self

import orjson

from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.lake.s3.bucket import Bucket
from pixel_pipeline.lake.s3.errors import ObjectExistsError, ObjectNotFoundError
from pixel_pipeline.training.checkpoints.promotions import promoted_step
from pixel_pipeline.training.checkpoints.run_state import ADAPTER_FILE, MODEL_FILE
from pixel_pipeline.training.data.cache import file_sha256
from pixel_pipeline.training.errors import CheckpointCorruptError, CheckpointNotFoundError

FORMAT = "pixel-checkpoint/1"
MANIFEST = "manifest.json"
POINTER = "latest.json"
BEST = "best.json"
MIN_PART_BYTES = 8 * 1024**2
# S3 allows 10,000.
MAX_PARTS = 9_000
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
        """Find a checkpoint by name.

        Args:
            wanted: `latest` (the newest of the run trained or found complete last), `best` (of the run whose best changed last),
                `promoted`, `<run>` (its newest), `<run>/best`, `<run>/step-000200`, or the `s3://` URI of a run or a checkpoint.

        Raises:
            CheckpointNotFoundError: no checkpoint has this name; the message lists the existing runs.
        """
        bucket = lake.checkpoints
        path = wanted.strip().removeprefix(bucket.uri()).strip("/")
        if "://" in path:
            raise CheckpointNotFoundError(
                f"{wanted} is not in the checkpoint bucket {bucket.uri()}.",
                hint="Set PIXEL_CHECKPOINT_BUCKET to its bucket.",
            )
        if path in ("latest", "best"):
            # By the age of the pointers: a run that is found complete renews its own. S3's clock resolves a second; the greater
            # key breaks the tie.
            ending = f"/{POINTER if path == 'latest' else BEST}"
            pointers = [item for item in bucket.list("") if item.key.endswith(ending)]
            newest = max(pointers, key=lambda item: (item.last_modified, item.key), default=None)
            run = newest.key.removesuffix(ending) if newest else ""
            path = run if path == "latest" else f"{run}/best"
        elif path == "promoted":
            run, number = promoted_step(bucket) or ("", 0)
            path = cls(run=run, step=number).prefix if run else ""
        run, _, name = path.partition("/")
        found = list_checkpoints(bucket, run) if run else []
        if found and name == "best":
            best = best_step(bucket, run)
            found = [ref for ref in found if ref.step == best]
        elif name:
            found = [ref for ref in found if ref.prefix == path]
        if found:
            return found[-1]
        runs = sorted({ref.run for item in bucket.list("") if (ref := _committed(item.key)) is not None})
        raise CheckpointNotFoundError(
            f"There is no complete checkpoint {wanted!r} in {bucket.uri()}.",
            hint=f"Existing runs: {', '.join(runs)}."
            if runs
            else "Train one first: `dagster job execute -j train_moe`.",
        )


@dataclass(frozen=True)
class CheckpointFile:
    """SHA-256, in hex, and size of a file."""

    sha256: str
    bytes: int


@dataclass(frozen=True)
class CheckpointManifest:
    """The files of a checkpoint. `final` marks the last one of a run."""

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
        """Read and validate the manifest of a checkpoint.

        Raises:
            CheckpointCorruptError: it belongs to another checkpoint or format, or names files outside the checkpoint's folder.
        """
        try:
            content = orjson.loads(lake.checkpoints.get(f"{ref.prefix}/{MANIFEST}"))
            format_ = content.pop("format")
            files = {name: CheckpointFile(**file) for name, file in content.pop("files").items()}
            manifest = cls(files=files, **content)
        except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
            raise _corrupt(lake, ref, "its manifest is not JSON or lacks fields") from None
        if (format_, manifest.run, manifest.step) != (FORMAT, ref.run, ref.step):
            raise _corrupt(lake, ref, "its manifest is of another checkpoint or format")
        unsafe = sum(_SAFE_NAME.fullmatch(name) is None for name in manifest.files)
        if unsafe:
            raise _corrupt(lake, ref, f"its manifest names {unsafe} files outside its folder")
        return manifest

    def to_json(self) -> dict[str, object]:
        """Plain types, as stored."""
        return {"format": FORMAT, **asdict(self)}


def list_checkpoints(bucket: Bucket, run: str) -> list[CheckpointRef]:
    """The complete checkpoints of a run, by step."""
    return sorted(ref for item in bucket.list(run) if (ref := _committed(item.key)) is not None)


def best_step(bucket: Bucket, run: str) -> int | None:
    """Step that a run's `best.json` names; None if the run has none."""
    try:
        return int(bucket.get_json(f"{run}/{BEST}")["step"])
    except ObjectNotFoundError:
        return None
    except (KeyError, TypeError, ValueError):
        raise CheckpointCorruptError(
            f"{bucket.uri(f'{run}/{BEST}')} names no step.",
            hint="Delete it; the next best checkpoint writes it again.",
        ) from None


def publish(
    lake: Lake,
    ref: CheckpointRef,
    *,
    folder: Path,
    final: bool,
    best: float | None = None,
    sent: dict[str, str] | None = None,
    permit: Callable[[], None] = lambda: None,
) -> CheckpointManifest:
    """Upload a folder, commit it with a manifest, and point to the checkpoint.

    A committed checkpoint is never replaced: readers may hold its manifest. A pointer never moves to an earlier step.

    Args:
        folder: All files except hidden ones are uploaded.
        best: Metric of the run's best checkpoint; None if this is not it.
        sent: ETags of the files that an earlier attempt uploaded; updated in place, so that a retry sends only the rest.
        permit: Called before every write; raises to stop.

    Raises:
        CheckpointCorruptError: an uploaded file was replaced before the commit. Nothing is committed then.
    """
    bucket = lake.checkpoints
    if not bucket.exists(f"{ref.prefix}/{MANIFEST}"):
        _upload(lake, ref, folder=folder, final=final, sent={} if sent is None else sent, permit=permit)
    permit()
    if best is not None and (best_step(bucket, ref.run) or 0) <= ref.step:
        content = {"checkpoint": ref.uri(lake), "run": ref.run, "step": ref.step, "metric": best}
        bucket.put_json(f"{ref.run}/{BEST}", content)
    manifest = CheckpointManifest.load(lake, ref)
    if list_checkpoints(bucket, ref.run)[-1] == ref:
        point_to(lake, ref, final=manifest.final)
    return manifest


def _upload(
    lake: Lake,
    ref: CheckpointRef,
    *,
    folder: Path,
    final: bool,
    sent: dict[str, str],
    permit: Callable[[], None],
) -> None:
    """Upload the files, then the manifest. S3 compares the SHA-256 of each request with the bytes that arrive."""
    bucket = lake.checkpoints
    files: dict[str, CheckpointFile] = {}
    for path in sorted(path for path in folder.iterdir() if not path.name.startswith(".")):
        size = path.stat().st_size
        files[path.name] = CheckpointFile(sha256=file_sha256(path), bytes=size)
        if path.name not in sent:
            permit()
            part_bytes = max(MIN_PART_BYTES, -(-size // MAX_PARTS))
            sent[path.name] = bucket.put(f"{ref.prefix}/{path.name}", path, part_bytes=part_bytes)
    stored = {item.key: (item.etag, item.size) for item in bucket.list(ref.prefix)}
    for name, file in files.items():
        if stored.get(f"{ref.prefix}/{name}") != (sent[name], file.bytes):
            del sent[name]
            raise _corrupt(lake, ref, f"{name} is not in the lake as it was uploaded")
    manifest = CheckpointManifest(run=ref.run, step=ref.step, final=final, files=files)
    permit()
    with suppress(ObjectExistsError):
        bucket.put(
            f"{ref.prefix}/{MANIFEST}",
            orjson.dumps(manifest.to_json(), option=orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2),
            create_only=True,
        )


def point_to(lake: Lake, ref: CheckpointRef, *, final: bool) -> None:
    """Point `<run>/latest.json` to this checkpoint."""
    lake.checkpoints.put_json(
        f"{ref.run}/{POINTER}",
        {"checkpoint": ref.uri(lake), "run": ref.run, "step": ref.step, "final": final},
    )


def download(
    lake: Lake, ref: CheckpointRef, *, folder: Path, names: Iterable[str] | None = None
) -> CheckpointManifest:
    """Download a checkpoint's files, or the named ones, into an existing folder and verify their SHA-256.

    Raises:
        CheckpointCorruptError: a file is not in the manifest or differs from it; the damaged file is not kept.
    """
    manifest = CheckpointManifest.load(lake, ref)
    for name in manifest.files if names is None else names:
        if name not in manifest.files:
            raise _corrupt(lake, ref, f"{name} is not in its manifest")
        lake.checkpoints.download(f"{ref.prefix}/{name}", folder / name)
        found = file_sha256(folder / name)
        if found != manifest.files[name].sha256:
            (folder / name).unlink()
            expected = manifest.files[name].sha256
            raise _corrupt(lake, ref, f"{name} has SHA-256 {found[:12]}…, its manifest {expected[:12]}…")
    return manifest


def prune(lake: Lake, run: str, *, keep: int, also: Collection[int] = ()) -> list[CheckpointRef]:
    """Delete a run's old checkpoints, and older remains of interrupted uploads and deletions; returns the deleted checkpoints.

    Args:
        keep: Number of the newest checkpoints to keep. The best and the promoted one are always kept.
        also: Further steps to keep.
    """
    bucket = lake.checkpoints
    files: dict[CheckpointRef, list[str]] = {}
    for item in bucket.list(run):
        if match := _FILE_KEY.fullmatch(item.key):
            files.setdefault(CheckpointRef(run=match["run"], step=int(match["step"])), []).append(item.key)
    complete = sorted(ref for ref, keys in files.items() if f"{ref.prefix}/{MANIFEST}" in keys)
    kept_steps = {*also, best_step(bucket, run), *(ref.step for ref in complete[-keep:])}
    promoted = promoted_step(bucket)
    if promoted is not None and promoted[0] == run:
        kept_steps.add(promoted[1])
    old = sorted(ref for ref in files if complete and ref < complete[-1] and ref.step not in kept_steps)
    for ref in old:
        # The manifest goes first: a checkpoint without its files must not look complete.
        bucket.delete([f"{ref.prefix}/{MANIFEST}"])
        bucket.delete(files[ref])
    return [ref for ref in old if ref in complete]


def _committed(key: str) -> CheckpointRef | None:
    """The checkpoint that a manifest's key commits; None for other keys."""
    match = _FILE_KEY.fullmatch(key)
    if match is None or match["name"] != MANIFEST:
        return None
    return CheckpointRef(run=match["run"], step=int(match["step"]))


def _corrupt(lake: Lake, ref: CheckpointRef, problem: str) -> CheckpointCorruptError:
    return CheckpointCorruptError(
        f"Checkpoint {ref.uri(lake)} is damaged: {problem}.",
        hint=f"Delete the objects below {ref.uri(lake)}/ and train again; training continues from the previous checkpoint.",
    )
