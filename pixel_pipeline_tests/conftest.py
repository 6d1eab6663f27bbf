"""Fixtures that talk to real parts: an embedded S3 server for the whole test session, fresh buckets for each test."""

from collections.abc import Iterator
import os
from pathlib import Path
import sys
import uuid

import pytest

from pixel_pipeline.lake import embedded
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.settings import CREDENTIAL_CHAIN, Settings, get_settings
from pixel_pipeline_tests.examples import register_profiles

register_profiles()
# Tests run side by side on small models: more threads would mostly wait for each other, and by default they spin while they
# wait. torch reads both variables when it is imported; processes that tests start inherit them.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@pytest.fixture(scope="session")
def session_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A PIXEL_HOME whose embedded server lives as long as the test session."""
    home = tmp_path_factory.mktemp("home")
    embedded.ensure_running(home)
    yield home
    embedded.stop(home)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the developer's own credentials or endpoint."""
    for pair in CREDENTIAL_CHAIN:
        for variable in pair:
            monkeypatch.delenv(variable, raising=False)
    for variable in (
        "PIXEL_S3_ENDPOINT",
        "AWS_ENDPOINT_URL",
        "AWS_ENDPOINT_URL_S3",
        "AWS_SESSION_TOKEN",
        "PIXEL_PROFILE",
        "PIXEL_COMPUTE",
        "PIXEL_RAY_ADDRESS",
    ):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setitem(Settings.model_config, "env_file", None)


@pytest.fixture(autouse=True)
def fresh_arithmetic() -> None:
    """Undo the process-wide settings of a training run, so that no test depends on those before it."""
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)
        torch.use_deterministic_algorithms(False)
        torch.utils.deterministic.fill_uninitialized_memory = True


@pytest.fixture
def settings(session_home: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings of a lake with two buckets of its own; also exported to the environment, for subprocesses."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    monkeypatch.setenv("PIXEL_HOME", str(session_home))
    monkeypatch.setenv("PIXEL_BUCKET", f"{name}-data")
    monkeypatch.setenv("PIXEL_CHECKPOINT_BUCKET", f"{name}-checkpoints")
    monkeypatch.setenv("PIXEL_WORKERS", "2")
    return get_settings()


@pytest.fixture
def lake(settings: Settings) -> Lake:
    """An empty lake on the real embedded S3."""
    return Lake.open(settings)
