"""Write the sample Drive into a folder."""

from base64 import b64decode
from collections import Counter
import os
from pathlib import Path

from pixel_pipeline.sample.layout import FILES, FileSpec
from pixel_pipeline.sample.manifest import Counts, SampleFile, SampleManifest
from pixel_pipeline.sample.records import Record, compose
from pixel_pipeline.sample.writers import encode

_README = """# Counselling datasets

Everything we have so far, by topic. Some files are exports from the old site, some are role plays from supervision,
the session transcripts were typed by hand. Please do not rename folders, the notebooks still point at them.

- `new chats from Sam (to sort).jsonl` still has to go into a folder
- CoT files: Question / Complex_CoT / Response
- Family sessions are Parquet, ask Priya

All people and places are invented. Telephone numbers and addresses are reserved for fiction.
"""
_LICENSE = """The texts in this folder are machine-written samples of no real person.
They may be used, changed and passed on for any purpose, without warranty.
"""


_GREY_SQUARE_PNG = b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAABAAAAAQCAAAAAA6mKC9AAAAD0lEQVR42mPYggYYRrYAAKahtAG2Na/BAAAAAElFTkSuQmCC"
)
_NOT_DATASETS: dict[str, bytes] = {
    "README.md": _README.encode(),
    "Professional Therapeutic/LICENSE.txt": _LICENSE.encode(),
    "Grief and Loss/IMG_2031.png": _GREY_SQUARE_PNG,
}


def write_sample_drive(root: Path, *, seed: int = 7, conversations: int = 5000) -> SampleManifest:
    """Write a folder that imitates a small team's Drive of counselling conversations, with planted defects.

    The same seed and number give the same bytes. Up-to-date files are left alone, outdated ones are replaced atomically, and
    unrelated files are never touched. The set of paths does not depend on seed or number.

    Args:
        root: The folder; created if missing.
        seed: Source of all choices.
        conversations: Number of records, broken ones and copies included; 150 or more.

    Returns:
        The manifest, which is not part of the folder.

    Raises:
        ValueError: Too few conversations.
        OSError: The folder is not writable.
    """
    files = []
    for spec, records in zip(FILES, compose(seed=seed, conversations=conversations), strict=True):
        data = encode(spec, records, seed=seed)
        _write(root / spec.path, data)
        files.append(
            SampleFile(
                path=spec.path,
                format=spec.format,
                family=spec.family,
                encoding=spec.encoding,
                size_bytes=len(data),
                counts=_counts(spec, records),
            )
        )
    for path, data in _NOT_DATASETS.items():
        _write(root / path, data)
    return SampleManifest(
        seed=seed,
        files=tuple(sorted(files, key=lambda file: file.path)),
        not_datasets=tuple(sorted(_NOT_DATASETS)),
    )


def _counts(spec: FileSpec, records: list[Record]) -> Counts:
    kinds = Counter(record.kind for record in records)
    originals = [record for record in records if record.kind == "clean"]
    return Counts(
        conversations_written=len(records),
        bad_lines=kinds["bad_line"],
        empty_turns=kinds["empty_turn"],
        exact_duplicates=kinds["exact_duplicate"],
        near_duplicates=kinds["near_duplicate"],
        phone_conversations=sum(record.has_phone for record in records),
        email_conversations=sum(record.has_email for record in records),
        curated_phone_conversations=sum(record.has_phone for record in originals),
        curated_email_conversations=sum(record.has_email for record in originals),
    )


def _write(path: Path, data: bytes) -> None:
    if path.is_file() and path.stat().st_size == len(data) and path.read_bytes() == data:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    # Write a sibling and rename it, so that a concurrent copy of the folder never sees a partial file.
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        draft.write_bytes(data)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
