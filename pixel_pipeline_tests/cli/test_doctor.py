"""`pixel doctor` on the command line, and its probes of the machine."""

from collections.abc import Iterator
import os
from pathlib import Path
import signal

import orjson
import pytest

from pixel_pipeline.cli.machine import probes
from pixel_pipeline.errors import PixelError
from pixel_pipeline.lake import embedded
from pixel_pipeline.lake.keys import PROBES
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.settings import Settings, get_settings, project_root
from pixel_pipeline_tests.activated import shell, start
from pixel_pipeline_tests.faults import Fault, FaultProxy

KEYS = {"AWS_ACCESS_KEY_ID": "AKIDPLANTED", "AWS_SECRET_ACCESS_KEY": "planted-secret-of-nobody"}
TOKEN = "planted-token-of-nobody"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("doctor")
    embedded.ensure_running(folder)
    yield folder
    embedded.stop(folder)


def test_the_defaults_pass(home: Path) -> None:
    result = shell("pixel doctor --json", home=home)
    assert result.code == 0, result.text
    document = orjson.loads(result.stdout)
    assert set(document) == {"ok", "profile", "checks"}
    assert document["ok"] is True
    assert document["profile"] == "demo"
    for check in document["checks"]:
        assert set(check) == {"name", "group", "verdict", "found", "fix"}
        assert check["verdict"] in {"ok", "skip"}, check
    found = {check["name"]: check["found"] for check in document["checks"]}
    assert found["conditional create"].startswith("16 concurrent creates")
    names = [check["name"] for check in document["checks"]]
    assert len(set(names)) == len(names)
    assert {"credentials", "conditional create", "versioning", "drive", "gpu", "ray", "dagster"} <= set(names)


def test_failures_fit_a_narrow_terminal_and_show_no_secret(home: Path) -> None:
    server = embedded.ensure_running(home)
    result = shell(
        "pixel doctor",
        home=home,
        COLUMNS="80",
        PIXEL_PROFILE="h100",
        CUDA_VISIBLE_DEVICES="",
        PIXEL_S3_ENDPOINT=server.endpoint,
        PIXEL_DRIVE_REMOTE="nowhere:",
        RCLONE_CONFIG="/dev/null",
        RCLONE_CONFIG_GDRIVE_TOKEN=TOKEN,
        **KEYS,
    )
    assert result.code == 1
    assert max(map(len, result.stdout.splitlines())) <= 80
    words = " ".join(result.stdout.split())
    assert "fail signature InvalidAccessKeyId" in words
    assert "from AWS_ACCESS_KEY_ID" in words
    assert "fail drive nowhere:: rclone has no remote of this name" in words
    assert "needs an NVIDIA H100" in words
    assert "skip write not checked: needs buckets" in words
    assert "Profile h100 cannot work here" in words
    for secret in (*KEYS.values(), TOKEN):
        assert secret not in result.text


def test_wrong_settings_do_not_hide_other_checks(home: Path) -> None:
    result = shell("pixel doctor --json", home=home, PIXEL_S3_ENDPOINT="http://s3.example.org")
    assert result.code == 1
    document = orjson.loads(result.stdout)
    checks = {check["name"]: check["verdict"] for check in document["checks"]}
    assert document["ok"] is False
    assert checks["settings"] == "fail"
    assert checks["rclone"] == checks["dagster"] == "ok"


def test_ctrl_c_leaves_nothing_in_the_lake(home: Path) -> None:
    server = embedded.ensure_running(home)
    lake = Lake.open(Settings(home=home))
    with FaultProxy(server.ports["s3.port"]) as proxy:
        proxy.always = Fault("hold", on=rf"^GET .*{PROBES}/")
        process = start(
            "pixel doctor",
            home=home,
            PIXEL_S3_ENDPOINT=proxy.endpoint,
            OVH_S3_ACCESS_KEY=server.access_key,
            OVH_S3_SECRET_KEY=server.secret_key.get_secret_value(),
        )
        # The probe object is stored now, and its bytes never arrive.
        assert proxy.silent.wait(timeout=60)
        os.killpg(process.pid, signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    asked = {request.partition("/pixel-data/")[2] for request in proxy.requests if request.startswith("GET ")}
    held = {key for key in asked if key.startswith(PROBES)}
    assert held
    # Racing creates may outlast the cleanup; a later doctor removes them.
    assert held.isdisjoint(item.key for item in lake.data.list(PROBES))


def test_the_drive(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def found(remote: str | None) -> probes.Finding:
        monkeypatch.delenv("PIXEL_DRIVE_REMOTE", raising=False)
        if remote is not None:
            monkeypatch.setenv("PIXEL_DRIVE_REMOTE", remote)
        return probes.drive(get_settings())

    monkeypatch.setenv("RCLONE_CONFIG", "/dev/null")
    assert found(None).verdict == "skip"
    (tmp_path / "a.json").write_text("[]")
    assert found(str(tmp_path)).verdict == "ok"
    assert "1 entry" in found(str(tmp_path)).found
    assert found(str(tmp_path / "gone")).verdict == "fail"
    assert "RCLONE_CONFIG_" in str(found("gdrive:").fix)
    # A name that rclone could read as an option.
    assert found("--config=x").verdict == "fail"
    # A configured remote whose token is not accepted.
    monkeypatch.setenv("RCLONE_CONFIG_BROKEN_TYPE", "drive")
    monkeypatch.setenv("RCLONE_CONFIG_BROKEN_TOKEN", TOKEN)
    broken = found("broken:")
    assert broken.verdict == "fail"
    assert TOKEN not in repr(broken)


def test_the_disk(settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(probes, "COMFORTABLE_FREE_BYTES", 0)
    monkeypatch.setenv("PIXEL_HOME", str(tmp_path / "not" / "yet"))
    assert probes.disk(get_settings()).verdict == "ok"
    monkeypatch.setattr(probes, "COMFORTABLE_FREE_BYTES", 1 << 60)
    assert probes.disk(get_settings()).verdict == "warn"
    monkeypatch.setenv("PIXEL_MIN_FREE_BYTES", str(1 << 60))
    assert probes.disk(get_settings()).verdict == "fail"


def test_the_dagster_instance(settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    assert probes.dagster_instance().verdict == "warn"
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    assert probes.dagster_instance().verdict == "fail"
    monkeypatch.setenv("DAGSTER_HOME", str(project_root()))
    monkeypatch.delenv("PIXEL_DAGSTER_STORAGE", raising=False)
    with pytest.raises(PixelError, match="PIXEL_DAGSTER_STORAGE is not set"):
        probes.dagster_instance()


def test_ray_fails_only_if_it_is_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "_installed", lambda package: None)
    monkeypatch.delenv("PIXEL_COMPUTE", raising=False)
    assert probes.ray().verdict == "skip"
    monkeypatch.setenv("PIXEL_COMPUTE", "ray")
    assert probes.ray().verdict == "fail"
    monkeypatch.setattr(probes, "_installed", lambda package: "2.60.0")
    assert probes.ray().verdict == "ok"


@pytest.mark.parametrize(
    ("capability", "verdict"), [([8, 0], "fail"), ([9, 0], "ok"), ([10, 0], "ok"), (None, "fail")], ids=str
)
def test_the_gpu_of_profile_h100(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capability: list[int] | None, verdict: str
) -> None:
    cards = [{"name": "Some GPU", "capability": capability, "memory_bytes": 80 * 10**9}] if capability else []
    monkeypatch.setattr(probes, "_report", lambda module: {"torch": "2.13", "gpus": cards})
    assert probes.gpu(settings).verdict == "ok"
    monkeypatch.setenv("PIXEL_PROFILE", "h100")
    finding = probes.gpu(get_settings())
    assert finding.verdict == verdict
    if capability:
        assert "80 GB" in finding.found
        assert ".".join(map(str, capability)) in finding.found
