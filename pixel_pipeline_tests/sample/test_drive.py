from collections import Counter
import csv
import gzip
import io
from itertools import pairwise
import json
import os
from pathlib import Path
import re
import subprocess
import sys
import unicodedata

import orjson
import pyarrow.parquet as pq
import pytest

from pixel_pipeline.sample.drive import write_sample_drive
from pixel_pipeline.sample.layout import FILES, MIN_CONVERSATIONS, UNSORTED_RECORDS
from pixel_pipeline.sample.manifest import SampleFile, SampleManifest

CONVERSATIONS = 300
Messages = list[tuple[str, str]]
ROLES = {
    "human": "user",
    "user": "user",
    "client": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "therapist": "assistant",
    "system": "system",
}
PHONE = re.compile(r"555[-. ]01\d\d")
EMAIL = re.compile(r"[\w.]+@example\.org")


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SampleManifest]:
    root = tmp_path_factory.mktemp("drive")
    return root, write_sample_drive(root, conversations=CONVERSATIONS)


def _files(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def _text(root: Path, file: SampleFile) -> str:
    data = (root / file.path).read_bytes()
    if file.path.endswith(".gz"):
        data = gzip.decompress(data)
    return data.decode(file.encoding)


def _pair(question: str, answer: str) -> Messages:
    return [("user", question), ("assistant", answer)]


def _turns(turns: list[dict[str, str]]) -> Messages:
    return [
        (ROLES[(turn.get("from") or turn["role"]).lower()], str(turn.get("value", turn.get("content"))))
        for turn in turns
    ]


def _read(root: Path, file: SampleFile) -> tuple[list[Messages], int]:
    """Read a file without the writers' code; return its conversations and the number of lines that are not JSON."""
    if file.format.startswith("parquet"):
        rows = pq.read_table(root / file.path).to_pylist()
        if file.format == "parquet_pairs":
            return [_pair(row["prompt"], row["response"]) for row in rows], 0
        return [_turns(row["messages"]) for row in rows], 0
    if file.path.endswith((".jsonl", ".jsonl.gz")):
        raw = (root / file.path).read_bytes()
        raw = gzip.decompress(raw) if file.path.endswith(".gz") else raw
        found, bad = [], 0
        for line in raw.split(b"\n"):
            if not line.strip():
                continue
            try:
                record = orjson.loads(line)
            except orjson.JSONDecodeError:
                bad += 1
                continue
            found.append(_turns(record.get("conversations") or record["messages"]))
        return found, bad
    text = _text(root, file)
    if file.format == "csv":
        return [
            _pair(row["Context"], row["Response"]) for row in csv.DictReader(io.StringIO(text, newline=""))
        ], 0
    if file.format == "transcript":
        lines = [line.partition(": ") for line in text.splitlines() if re.match("(Client|Therapist): ", line)]
        return [[(ROLES[speaker.lower()], text) for speaker, _, text in lines]], 0
    document = json.loads(text)
    if file.format == "sessions":
        return [_turns(session) for session in document["conversations"]], 0
    if file.format == "alpaca":
        return [
            _pair("\n\n".join(filter(None, (row["instruction"], row["input"]))), row["output"])
            for row in document
        ], 0
    assert all(row["Complex_CoT"].strip() for row in document)
    return [_pair(row["Question"], row["Response"]) for row in document], 0


def _canonical(messages: Messages) -> tuple[tuple[str, str], ...]:
    return tuple(
        (role, " ".join(unicodedata.normalize("NFC", content).split())) for role, content in messages
    )


def _shingles(messages: Messages) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", " ".join(content for _, content in messages).lower())
    return {tuple(words[start : start + 5]) for start in range(len(words) - 4)}


def test_same_seed_writes_the_same_bytes(drive: tuple[Path, SampleManifest], tmp_path: Path) -> None:
    root, manifest = drive
    again = write_sample_drive(tmp_path, conversations=CONVERSATIONS)
    assert again == manifest
    assert again.to_json() == manifest.to_json()
    assert _files(tmp_path) == _files(root)


def test_bytes_do_not_depend_on_hash_randomisation(
    drive: tuple[Path, SampleManifest], tmp_path: Path
) -> None:
    root, _ = drive
    code = (
        "import sys; from pathlib import Path; from pixel_pipeline.sample.drive import write_sample_drive; "
        f"write_sample_drive(Path(sys.argv[1]), conversations={CONVERSATIONS})"
    )
    subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], env={**os.environ, "PYTHONHASHSEED": "4242"}, check=True
    )
    assert _files(tmp_path) == _files(root)


def test_gzip_header_has_no_timestamp(drive: tuple[Path, SampleManifest]) -> None:
    root, _ = drive
    assert (root / "Grief and Loss/grief_sharegpt.jsonl.gz").read_bytes()[4:8] == bytes(4)


def test_another_seed_writes_other_conversations_under_the_same_names(
    drive: tuple[Path, SampleManifest], tmp_path: Path
) -> None:
    root, _ = drive
    write_sample_drive(tmp_path, seed=8, conversations=CONVERSATIONS + 50)
    first, second = _files(root), _files(tmp_path)
    assert set(first) == set(second)
    assert all(first[spec.path] != second[spec.path] for spec in FILES)


def test_rewrite_repairs_broken_files_and_leaves_all_others_alone(tmp_path: Path) -> None:
    manifest = write_sample_drive(tmp_path, conversations=MIN_CONVERSATIONS)
    broken, kept = tmp_path / manifest.files[0].path, tmp_path / manifest.files[1].path
    (tmp_path / "Grief and Loss" / "mine.txt").write_text("unrelated")
    broken.write_bytes(b"half a file")
    before = kept.stat()
    write_sample_drive(tmp_path, conversations=MIN_CONVERSATIONS)
    assert (kept.stat().st_ino, kept.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert broken.stat().st_size == manifest.files[0].size_bytes
    assert (tmp_path / "Grief and Loss" / "mine.txt").read_text() == "unrelated"
    assert not list(tmp_path.rglob("*.part"))


def test_too_few_conversations_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least 150"):
        write_sample_drive(tmp_path, conversations=MIN_CONVERSATIONS - 1)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("seed", "conversations"), [(7, CONVERSATIONS), (3, 150), (12, 450)])
def test_an_independent_reader_finds_the_planted_counts(
    tmp_path: Path, seed: int, conversations: int
) -> None:
    manifest = write_sample_drive(tmp_path, seed=seed, conversations=conversations)
    totals = manifest.totals
    assert totals.conversations_written == conversations
    seen: set[tuple[tuple[str, str], ...]] = set()
    kept: list[set[tuple[str, ...]]] = []
    found: Counter[str] = Counter()
    # In the order of paths, like a pipeline: the first of equals is kept, so the later file holds the copy.
    for file in manifest.files:
        here: Counter[str] = Counter()
        records, here["bad_lines"] = _read(tmp_path, file)
        assert len(records) + here["bad_lines"] == file.counts.conversations_written, file.path
        for messages in records:
            if any(not content.strip() for _, content in messages):
                here["empty_turns"] += 1
                continue
            text = " ".join(content for _, content in messages)
            has_phone, has_email = bool(PHONE.search(text)), bool(EMAIL.search(text))
            here["phone_conversations"] += has_phone
            here["email_conversations"] += has_email
            canonical = _canonical(messages)
            if canonical in seen:
                here["exact_duplicates"] += 1
                continue
            seen.add(canonical)
            shingles = _shingles(messages)
            alike = [len(shingles & other) / len(shingles | other) for other in kept]
            if alike and max(alike) >= 0.8:
                assert 0.85 <= max(alike) <= 0.99
                assert sum(similarity >= 0.8 for similarity in alike) == 1
                here["near_duplicates"] += 1
                continue
            kept.append(shingles)
            here["curated_phone_conversations"] += has_phone
            here["curated_email_conversations"] += has_email
        planted = file.counts.to_dict()
        for name in planted:
            if not name.startswith(("expected", "conversations")):
                assert here[name] == planted[name], (file.path, name)
        found += here
    assert len(kept) == totals.expected_curated
    for name in ("bad_lines", "empty_turns", "exact_duplicates", "near_duplicates"):
        assert found[name] >= 2


def test_manifest_adds_up(drive: tuple[Path, SampleManifest]) -> None:
    root, manifest = drive
    document = json.loads(manifest.to_json())
    totals = document["totals"]
    assert totals["conversations_written"] == CONVERSATIONS
    for name in manifest.totals.to_dict():
        assert totals[name] == sum(family[name] for family in document["by_family"].values())
    assert manifest.by_family["unsorted"].expected_curated == UNSORTED_RECORDS
    named = {file.path for file in manifest.files} | set(manifest.not_datasets)
    assert set(_files(root)) == named


def test_drive_has_many_formats_and_families(drive: tuple[Path, SampleManifest]) -> None:
    _, manifest = drive
    assert len({file.format for file in manifest.files}) >= 8
    assert len(manifest.by_family) >= 7
    assert {Path(path).suffix for path in manifest.not_datasets} == {".md", ".txt", ".png"}
    assert sum(file.path.endswith(".jsonl.gz") for file in manifest.files) == 1


def test_latin1_files_are_not_utf8(drive: tuple[Path, SampleManifest]) -> None:
    root, manifest = drive
    latin1 = [file for file in manifest.files if file.encoding == "latin-1"]
    assert manifest.latin1_files == len(latin1) == 2
    for file in manifest.files:
        data = (root / file.path).read_bytes()
        if file in latin1:
            with pytest.raises(UnicodeDecodeError):
                data.decode("utf-8")
            assert re.search("[éïç]", data.decode("latin-1"))
        elif file.format in ("csv", "transcript", "alpaca", "sessions", "chain_of_thought"):
            data.decode("utf-8")


def test_byte_order_mark_and_windows_line_ends(drive: tuple[Path, SampleManifest]) -> None:
    root, _ = drive
    letters = (root / "Grief and Loss/Grief letters - context response.csv").read_bytes()
    assert letters.startswith(b"\xef\xbb\xbfContext,Response\r\n")
    windows = (root / "Couples & Family/Couples chat v3 (windows).jsonl").read_bytes()
    assert windows.count(b"\r\n") == windows.count(b"\n") > 2
    export = (root / "Professional Therapeutic/Counsel chat export.csv").read_text()
    rows = list(csv.reader(io.StringIO(export, newline="")))
    assert any("\n" in cell and "," in cell for row in rows for cell in row)


def test_lengths_and_order_of_turns(drive: tuple[Path, SampleManifest]) -> None:
    root, manifest = drive
    for file in manifest.files:
        for messages in _read(root, file)[0]:
            roles = [role for role, _ in messages if role != "system"]
            assert all(left != right for left, right in pairwise(roles)), file.path
            assert roles[-1] == "assistant"
            assert 2 <= len(roles) <= 40
            assert not PHONE.search(" ".join(content for role, content in messages if role == "assistant"))
