"""rclone's Drive backend against a fake Drive that lists and denies like Google's."""

from collections.abc import Iterator
import json
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
import pytest

from pixel_pipeline.lake import keys
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.settings import get_settings
from pixel_pipeline.sync import rclone
from pixel_pipeline.sync.drive import sync_drive
from pixel_pipeline.sync.options import SyncOptions
from pixel_pipeline.sync.rclone import SyncError
from pixel_pipeline.sync.report import SyncReport
from pixel_pipeline_tests.faults import make_authority
from pixel_pipeline_tests.sync.google_drive import (
    DOCUMENT,
    FOLDER,
    FORM,
    ROOT,
    SHEET,
    SHORTCUT,
    DriveFile,
    GoogleDrive,
    google_drive,
)

TOKEN = "planted-access-token"


@pytest.fixture
def drive(lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[GoogleDrive]:
    authority = make_authority(tmp_path, names=("www.googleapis.com", "oauth2.googleapis.com"))
    monkeypatch.setenv("SSL_CERT_FILE", "")
    monkeypatch.setenv("PIXEL_S3_CA_BUNDLE", str(authority.certificate))
    monkeypatch.setenv("PIXEL_S3_ENDPOINT", lake.target.endpoint or "")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", lake.target.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", lake.target.secret_key.get_secret_value())
    token = {"access_token": TOKEN, "token_type": "Bearer", "expiry": "2099-01-01T00:00:00Z"}
    for option, value in {"TYPE": "drive", "TOKEN": json.dumps(token), "ROOT_FOLDER_ID": ROOT}.items():
        monkeypatch.setenv(f"RCLONE_CONFIG_GDRIVE_{option}", value)
    monkeypatch.setattr(rclone, "REQUEST_TRIES", 1)
    with google_drive(authority.context) as running:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{running.port}")
        yield running


def sync() -> SyncReport:
    return sync_drive("gdrive:", lake=Lake.open(get_settings()), options=SyncOptions(pause_seconds=0))


def rows(report: SyncReport) -> dict[str, tuple[str, str | None]]:
    return {row["path"]: (row["action"], row["reason"]) for row in report.rows.to_pylist()}


def in_raw(lake: Lake) -> dict[str, bytes]:
    return {
        item.key.removeprefix(f"{keys.RAW}/"): lake.data.get(item.key) for item in lake.data.list(keys.RAW)
    }


def test_files_folders_and_documents(drive: GoogleDrive, lake: Lake) -> None:
    document = DriveFile("doc", "Protocol", b"spoken", mime=DOCUMENT)
    drive.files = [
        DriveFile("f1", "Grief / Loss", mime=FOLDER),
        DriveFile("a", "sessions.jsonl", b"{}\n", parent="f1"),
        DriveFile("b", "line\nend.json", b"[]"),
        document,
        DriveFile("sheet", "Pairs", b"a,b\n", mime=SHEET),
        DriveFile("link", "also sessions.jsonl", mime=SHORTCUT, target="a"),
    ]
    report = sync()
    assert report.complete, report.verdict()
    expected = {
        "Grief ／ Loss/sessions.jsonl": b"{}\n",
        "line␊end.json": b"[]",
        "Protocol.txt": b"text/plain:spoken",
        "Pairs.csv": b"text/csv:a,b\n",
        "also sessions.jsonl": b"{}\n",
    }
    assert in_raw(lake) == expected
    assert all(row["size"] == len(expected[row["path"]]) for row in report.rows.to_pylist())

    assert sync().counts() == {"unchanged": len(expected)}
    # A document has no size and no hash; only its time shows an edit.
    document.content, document.modified = b"edited", "2026-02-02T00:00:00Z"
    assert sync().counts() == {"unchanged": len(expected) - 1, "replaced": 1}
    assert in_raw(lake)["Protocol.txt"] == b"text/plain:edited"


def test_refused_downloads_are_reported_and_the_others_arrive(drive: GoogleDrive, lake: Lake) -> None:
    drive.files = [
        DriveFile("a", "fine.json", b"{}"),
        DriveFile("b", "spam.json", b"1", refusal=(403, "cannotDownloadAbusiveFile")),
        DriveFile("c", "popular.json", b"2", refusal=(403, "downloadQuotaExceeded")),
        DriveFile("d", "locked.json", b"3", refusal=(403, "cannotDownloadFile")),
        DriveFile("e", "gone.json", b"4", refusal=(404, "notFound")),
        DriveFile("f", "dangling.json", mime=SHORTCUT, target="nothing"),
        DriveFile("g", "twice.json", b"one"),
        DriveFile("h", "twice.json", b"two"),
        DriveFile("i", "busy.json", b"5", refusal=(403, "userRateLimitExceeded")),
        DriveFile("j", "Survey", mime=FORM),
    ]
    report = sync()
    assert in_raw(lake).keys() == {"fine.json", "twice.json"}
    problems = {(row["path"], row["reason"]) for row in report.problems().to_pylist()}
    assert problems == {
        ("spam.json", "flagged_as_abuse"),
        ("popular.json", "download_quota"),
        ("locked.json", "permission"),
        ("gone.json", "not_found"),
        ("dangling.json", "dangling_shortcut"),
        ("twice.json", "duplicate_name"),
        ("busy.json", "rate_limit"),
    }
    assert rows(report)["Survey"] == ("skipped", "not_exportable")


def test_a_service_account_authenticates(
    drive: GoogleDrive, lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drive.files = [DriveFile("a", "fine.json", b"{}")]
    drive.token = "given-to-the-service-account"
    pem = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    account = {
        "type": "service_account",
        "client_email": "pixel@project.iam.gserviceaccount.com",
        "private_key": pem.decode(),
        "private_key_id": "1",
        "token_uri": "https://oauth2.googleapis.com/token",
    }
    path = tmp_path / "account.json"
    path.write_text(json.dumps(account))
    monkeypatch.delenv("RCLONE_CONFIG_GDRIVE_TOKEN")
    monkeypatch.setenv("RCLONE_CONFIG_GDRIVE_SERVICE_ACCOUNT_FILE", str(path))
    assert sync().complete
    assert in_raw(lake) == {"fine.json": b"{}"}
    assert "POST /token" in drive.requests


def test_a_denied_folder_is_reported_and_the_others_arrive(drive: GoogleDrive, lake: Lake) -> None:
    drive.files = [DriveFile(name, name, mime=FOLDER) for name in ("open", "locked")]
    drive.files += [DriveFile(f"{file.id}-1", "a.json", b"{}", parent=file.id) for file in drive.files]
    drive.locked = {"locked"}
    report = sync()
    assert rows(report) == {"open/a.json": ("copied", None), "locked/": ("failed", "permission")}
    assert in_raw(lake) == {"open/a.json": b"{}"}


def test_a_rejected_token_is_not_repeated_in_the_error(drive: GoogleDrive, lake: Lake) -> None:
    drive.token = "another"
    with pytest.raises(SyncError, match="credentials") as caught:
        sync()
    assert not caught.value.transient
    assert TOKEN not in str(caught.value)
    assert TOKEN.encode() not in lake.data.get(keys.LAST_SYNC)
