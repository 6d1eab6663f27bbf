"""Whole syncs: real rclone, with a folder or another bucket as the Drive, and faults on either side."""

from collections.abc import Callable
from datetime import UTC, datetime
import os
from pathlib import Path

import pytest

from pixel_pipeline.lake import keys
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.sync import rclone
from pixel_pipeline.sync.drive import sync_drive
from pixel_pipeline.sync.options import SyncOptions, Verify
from pixel_pipeline.sync.rclone import SyncError, TransientSyncError
from pixel_pipeline.sync.report import SyncReport, load_report
from pixel_pipeline_tests.faults import Fault, FaultProxy, make_authority
from pixel_pipeline_tests.sync.conftest import FILES

QUICK = SyncOptions(pause_seconds=0)


@pytest.fixture(autouse=True)
def few_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Disable rclone's own ten retries with backoff."""
    monkeypatch.setattr(rclone, "REQUEST_TRIES", 1)


def sync(source: str | Path, lake: Lake, options: SyncOptions = QUICK) -> SyncReport:
    return sync_drive(str(source), lake=lake, options=options)


def in_raw(lake: Lake) -> dict[str, bytes]:
    return {
        item.key.removeprefix(f"{keys.RAW}/"): lake.data.get(item.key) for item in lake.data.list(keys.RAW)
    }


def paths(report: SyncReport, action: str) -> dict[str, str | None]:
    """Names of files with that action, with the reason."""
    return {row["path"]: row["reason"] for row in report.rows.to_pylist() if row["action"] == action}


def test_syncs_of_a_changing_bucket(s3_drive: str, lake: Lake) -> None:
    before = datetime.now(UTC)
    first = sync(s3_drive, lake)
    assert in_raw(lake) == FILES
    assert first.complete
    assert first.counts() == {"copied": len(FILES)}
    assert first.copied_bytes() == sum(map(len, FILES.values()))
    assert first.verdict() == f"all {len(FILES)} files are in raw; sizes and hashes agree"
    sizes = {row["path"]: row["size"] for row in first.rows.to_pylist()}
    assert sizes == {name: len(content) for name, content in FILES.items()}
    assert all(before <= row["at"] <= datetime.now(UTC) for row in first.rows.to_pylist())

    objects = [*lake.data.list(keys.RAW)]
    second = sync(s3_drive, lake)
    assert second.counts() == {"unchanged": len(FILES)}
    assert (second.complete, second.copied_bytes()) == (True, 0)
    assert [*lake.data.list(keys.RAW)] == objects

    # One changed, one deleted, one new.
    lake.checkpoints.put("Team/empty.json", b"no longer")
    lake.checkpoints.put("Team/new.json", b"{}")
    lake.checkpoints.delete(["Team/deep/er/🙂 smile.txt"])
    third = sync(s3_drive, lake)
    assert paths(third, "replaced") == {"empty.json": None}
    assert paths(third, "copied") == {"new.json": None}
    assert paths(third, "kept") == {"deep/er/🙂 smile.txt": None}
    assert third.complete
    assert in_raw(lake) == FILES | {"empty.json": b"no longer", "new.json": b"{}"}


def test_the_report_is_stored_in_the_lake(drive: Path, lake: Lake) -> None:
    with pytest.raises(SyncError, match="pixel sync"):
        load_report(lake)
    report = sync(drive, lake)
    assert load_report(lake) == report


def test_a_dry_run_leaves_no_trace(drive: Path, lake: Lake) -> None:
    report = sync_drive(str(drive), lake=lake, options=QUICK, dry_run=True)
    assert paths(report, "copied").keys() == FILES.keys()
    assert report.copied_bytes() == sum(map(len, FILES.values()))
    assert [*lake.data.list("")] == []


def test_patterns(drive: Path, lake: Lake) -> None:
    json = {"心理咨询/会话 1.json", "empty.json"}
    for include, exclude, expected in (
        (("*.json",), (), json),
        ((), ("*.json", "/deep/**"), FILES.keys() - json - {"deep/er/🙂 smile.txt"}),
        (("*.{json,csv}",), ("/心理咨询/**",), {"empty.json", "Couples & Family/größe – Übung.csv"}),
    ):
        options = SyncOptions(include=include, exclude=exclude)
        report = sync_drive(str(drive), lake=lake, options=options, dry_run=True)
        assert paths(report, "copied").keys() == expected
    report = sync(drive, lake, options)
    assert report.complete
    assert in_raw(lake).keys() == expected


@pytest.mark.parametrize(
    ("options", "variable"),
    [
        pytest.param(SyncOptions(include=("{a",)), "PIXEL_SYNC_INCLUDE", id="pattern"),
        pytest.param(SyncOptions(bandwidth="a lot"), "PIXEL_SYNC_BANDWIDTH", id="bandwidth"),
    ],
)
def test_an_error_names_the_setting_that_rclone_rejects(
    drive: Path, lake: Lake, options: SyncOptions, variable: str
) -> None:
    with pytest.raises(SyncError, match=variable) as caught:
        sync(drive, lake, options)
    assert not caught.value.transient


def test_a_denied_file_does_not_stop_the_others(s3_drive: str, lake: Lake, proxy: FaultProxy) -> None:
    proxy.always = Fault("status", status=403, code="AccessDenied", on=r"^GET /.*/Team/empty.json")
    report = sync(s3_drive, lake)
    assert paths(report, "failed") == {"empty.json": "permission"}
    assert in_raw(lake).keys() == FILES.keys() - {"empty.json"}
    assert not report.complete
    assert report.verdict() == f"of {len(FILES)} files, 1 did not arrive: permission 1"
    assert load_report(lake) == report
    # A permanent error is not retried.
    assert (
        len([request for request in proxy.requests if "GET" in request and "Team/empty.json" in request]) == 1
    )

    proxy.always = None
    assert sync(s3_drive, lake).counts() == {"copied": 1, "unchanged": len(FILES) - 1}
    assert in_raw(lake) == FILES


def test_a_denied_listing_fails_the_sync_and_reports_no_deletions(
    s3_drive: str, lake: Lake, proxy: FaultProxy
) -> None:
    sync(s3_drive, lake)
    proxy.always = Fault("status", status=403, code="AccessDenied", on=r"^GET .*prefix=Team")
    with pytest.raises(SyncError, match="permission") as caught:
        sync(s3_drive, lake)
    assert not caught.value.transient
    kept = load_report(lake)
    assert kept.fault == "permission"
    assert kept.counts() == {}
    assert in_raw(lake) == FILES


def test_transient_faults_of_the_source_are_retried(s3_drive: str, lake: Lake, proxy: FaultProxy) -> None:
    proxy.faults = [
        Fault("status", status=503, code="SlowDown", on=r"^GET .*deep/er"),
        Fault("reset", after=30, on=r"^GET .*Grief"),
        Fault("truncate", after=30, on=r"^GET .*plus"),
        Fault("corrupt", after=1, on=r"^GET .*Couples"),
    ]
    report = sync(s3_drive, lake)
    assert proxy.faults == []
    assert report.complete, report.verdict()
    assert report.counts() == {"copied": len(FILES)}
    assert in_raw(lake) == FILES


def test_transient_faults_of_the_lake_are_retried(
    drive: Path, lake: Lake, proxy: FaultProxy, lake_behind: Callable[[FaultProxy], Lake]
) -> None:
    proxied = lake_behind(proxy)
    proxy.faults = [
        Fault("status", status=503, code="SlowDown", on=r"^PUT .*deep/er"),
        Fault("cut_request", after=2, on=r"^PUT .*Grief"),
        Fault("lose_answer", on=r"^PUT .*plus"),
        Fault("corrupt_request", after=1, on=r"^PUT .*Couples"),
    ]
    report = sync(drive, proxied)
    assert proxy.faults == []
    assert report.complete, report.verdict()
    assert in_raw(lake) == FILES


def test_a_permanent_fault_is_reported_after_the_last_attempt(
    drive: Path, lake: Lake, proxy: FaultProxy, lake_behind: Callable[[FaultProxy], Lake]
) -> None:
    proxied = lake_behind(proxy)
    proxy.always = Fault("cut_request", after=2, on=r"^PUT .*deep/er")
    report = sync(drive, proxied)
    assert paths(report, "failed") == {"deep/er/🙂 smile.txt": "network"}
    # Files of the first attempt count as copied, although the last attempt found them unchanged.
    assert report.counts() == {"copied": len(FILES) - 1, "failed": 1}
    assert in_raw(lake).keys() == FILES.keys() - {"deep/er/🙂 smile.txt"}


def test_an_unreachable_drive_is_a_transient_error(s3_drive: str, lake: Lake, proxy: FaultProxy) -> None:
    proxy.always = Fault("reset")
    with pytest.raises(TransientSyncError, match="network"):
        sync(s3_drive, lake, SyncOptions(attempts=1))
    assert load_report(lake).fault == "network"


def test_a_failed_listing_of_the_lake_copies_nothing_again(
    tmp_path: Path, lake: Lake, proxy: FaultProxy, lake_behind: Callable[[FaultProxy], Lake]
) -> None:
    (tmp_path / "big.bin").write_bytes(os.urandom(3 << 20))
    sync(tmp_path, lake)
    objects = [*lake.data.list(keys.RAW)]
    proxied = lake_behind(proxy)
    proxy.always = Fault("reset", on=r"^GET .*prefix=gdrive")
    # rclone treats an unlisted folder as empty; at this speed it is stopped long before the file is complete.
    with pytest.raises(TransientSyncError, match="network"):
        sync(tmp_path, proxied, SyncOptions(attempts=1, bandwidth="500k"))
    assert [*lake.data.list(keys.RAW)] == objects


def test_verification_finds_a_change_that_copying_misses(tmp_path: Path, lake: Lake) -> None:
    path = tmp_path / "new.json"
    path.write_bytes(b"one")
    (tmp_path / "other.json").write_bytes(b"{}")
    sync(tmp_path, lake)
    stat = path.stat()
    path.write_bytes(b"two")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    detects: dict[Verify, bool] = {"hash": True, "download": True, "size": False, "off": False}
    for method, detected in detects.items():
        report = sync(tmp_path, lake, SyncOptions(verify=method))
        assert paths(report, "unverified") == ({"new.json": "content_differs"} if detected else {})
        assert report.complete != detected
    assert in_raw(lake)["new.json"] == b"one"


def test_a_touched_file_is_not_written_again(drive: Path, lake: Lake) -> None:
    sync(drive, lake)
    objects = [*lake.data.list(keys.RAW)]
    for path in drive.rglob("*.json"):
        os.utime(path, (1_000_000_000, 1_000_000_000))
    assert sync(drive, lake).counts() == {"unchanged": len(FILES)}
    assert [*lake.data.list(keys.RAW)] == objects


def test_each_hostile_name_gets_its_own_key(tmp_path: Path, lake: Lake) -> None:
    names = {
        "new\nline.txt": "new␊line.txt",
        "tab\t\x01\x7f.txt": "tab␉␁␡.txt",
        "picture ␊.txt": "picture ‛␊.txt",
        "back\\slash.txt": "back＼slash.txt",
        "caf\u00e9.txt": "caf\u00e9.txt",
        "cafe\u0301.txt": "cafe\u0301.txt",
        "раyраl.txt": "раyраl.txt",
        "paypal.txt": "paypal.txt",
        "Case.txt": "Case.txt",
        "case.txt": "case.txt",
        "line\u2028separator\x85.txt": "line\u2028separator\x85.txt",
        "quote\"'<&>.txt": "quote\"'<&>.txt",
        " space /x .txt ": " space /x .txt ",
        "...": "...",
        "-- --dry-run": "-- --dry-run",
        "100%25 +#?;=.txt": "100%25 +#?;=.txt",
        "n" * 250: "n" * 250,
    }
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    bad = os.fsencode(tmp_path) + b"/bad\xff.txt"
    Path(os.fsdecode(bad)).write_bytes(b"bad")
    os.mkfifo(tmp_path / "pipe")
    report = sync(tmp_path, lake)
    expected = {key: name.encode() for name, key in names.items()} | {"bad‛FF.txt": b"bad"}
    assert in_raw(lake) == expected
    assert report.complete, report.verdict()
    assert paths(report, "skipped") == {"pipe": "not_a_file"}
    assert sync(tmp_path, lake).counts() == {"unchanged": len(expected), "skipped": 1}


def test_a_name_that_the_server_garbles_is_reported(tmp_path: Path, lake: Lake) -> None:
    # XML cannot contain U+FFFE, so no listing can name such a key.
    (tmp_path / "\ufffe.txt").write_bytes(b"x")
    report = sync(tmp_path, lake)
    assert paths(report, "unverified") == {"\ufffe.txt": "missing_in_raw"}


@pytest.mark.parametrize(
    "source", ["gdrive,token=planted-secret:Team", ":s3,secret_access_key='planted-secret':bucket/Team"]
)
def test_options_in_the_source_are_refused(lake: Lake, source: str) -> None:
    with pytest.raises(SyncError, match="RCLONE_CONFIG_GDRIVE") as caught:
        sync(source, lake)
    assert "planted" not in str(caught.value)


def test_a_folder_with_comma_and_colon_is_a_folder(tmp_path: Path, lake: Lake) -> None:
    folder = tmp_path / "a,b: c"
    folder.mkdir()
    (folder / "x.txt").write_bytes(b"x")
    assert sync(folder, lake).complete


def test_a_private_authority_is_trusted(
    drive: Path,
    lake: Lake,
    proxy: FaultProxy,
    lake_behind: Callable[[FaultProxy], Lake],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    authority = make_authority(tmp_path)
    # `Lake.open` sets it for delta-rs; monkeypatch removes it after the test.
    monkeypatch.setenv("SSL_CERT_FILE", "")
    with FaultProxy(upstream=proxy.upstream, tls=authority.context) as secure:
        monkeypatch.setenv("PIXEL_S3_CA_BUNDLE", str(authority.certificate))
        assert sync(drive, lake_behind(secure)).complete
    assert in_raw(lake) == FILES
