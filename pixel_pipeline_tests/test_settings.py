"""Settings from the environment and `.env`, without leaking secrets."""

from itertools import product
from pathlib import Path
import traceback

import pytest

from pixel_pipeline.errors import PixelError, SettingsError
from pixel_pipeline.lake.s3.target import Target
from pixel_pipeline.settings import CREDENTIAL_CHAIN, Settings, get_settings, project_root

SECRET = "plantedSecret0123456789"
KEY_ID = "PLANTEDKEYID"


@pytest.fixture
def dotenv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `.env` file that the settings read."""
    path = tmp_path / ".env"
    monkeypatch.setitem(Settings.model_config, "env_file", path)
    return path


def set_pair(monkeypatch: pytest.MonkeyPatch, pair: tuple[str, str], suffix: str = "") -> None:
    monkeypatch.setenv(pair[0], KEY_ID + suffix)
    monkeypatch.setenv(pair[1], SECRET + suffix)


def test_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("PIXEL_HOME", "PIXEL_BUCKET", "PIXEL_CHECKPOINT_BUCKET", "PIXEL_WORKERS", "AWS_REGION"):
        monkeypatch.delenv(variable, raising=False)
    settings = get_settings()
    assert (settings.bucket, settings.checkpoint_bucket) == ("pixel-data", "pixel-checkpoints")
    assert settings.profile == "demo"
    assert settings.region == "us-east-1"
    assert settings.home == project_root() / ".pixel"
    assert settings.workers >= 1
    assert settings.endpoint is None
    assert settings.credentials() is None
    assert settings.uses_embedded_s3


def test_the_first_pair_of_the_chain_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    for number, pair in reversed([*enumerate(CREDENTIAL_CHAIN)]):
        set_pair(monkeypatch, pair, str(number))
        credentials = get_settings().credentials()
        assert credentials is not None
        assert credentials.source == pair[0]
        assert credentials.access_key == f"{KEY_ID}{number}"
        assert credentials.secret_key.get_secret_value() == f"{SECRET}{number}"


@pytest.mark.parametrize(("pair", "half"), [*product(CREDENTIAL_CHAIN, (0, 1))])
def test_an_error_names_the_missing_half_of_a_pair(
    monkeypatch: pytest.MonkeyPatch, pair: tuple[str, str], half: int
) -> None:
    """Even if a later pair of the chain is complete: a typo must not silently switch accounts."""
    for other in CREDENTIAL_CHAIN[CREDENTIAL_CHAIN.index(pair) :]:
        set_pair(monkeypatch, other)
    monkeypatch.delenv(pair[half])
    with pytest.raises(SettingsError, match=f"{pair[1 - half]} is set but {pair[half]} is not") as caught:
        get_settings().credentials()
    assert SECRET not in str(caught.value)
    assert KEY_ID not in str(caught.value)


def test_empty_variables_count_as_unset(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for pair in CREDENTIAL_CHAIN:
        for variable in pair:
            monkeypatch.setenv(variable, "")
    for variable in (
        "PIXEL_S3_ENDPOINT",
        "PIXEL_S3_CA_BUNDLE",
        "PIXEL_WORKERS",
        "PIXEL_PROFILE",
        "AWS_SESSION_TOKEN",
    ):
        monkeypatch.setenv(variable, "")
    settings = get_settings()
    assert settings.uses_embedded_s3
    assert settings.ca_bundle is None
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://s3.example.org")
    assert get_settings().endpoint == "https://s3.example.org"


def test_the_session_token_belongs_to_the_aws_pair_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token")
    set_pair(monkeypatch, CREDENTIAL_CHAIN[2])
    credentials = get_settings().credentials()
    assert credentials is not None
    assert credentials.session_token is not None
    set_pair(monkeypatch, CREDENTIAL_CHAIN[0])
    credentials = get_settings().credentials()
    assert credentials is not None
    assert credentials.session_token is None


@pytest.mark.parametrize(
    "endpoint", ["http://127.0.0.1:8333", "http://localhost:1", "http://[::1]:1", "https://s3.gra.io"]
)
def test_valid_endpoints(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    monkeypatch.setenv("PIXEL_S3_ENDPOINT", endpoint)
    settings = get_settings()
    assert settings.endpoint == endpoint
    assert not settings.uses_embedded_s3


@pytest.mark.parametrize(
    "endpoint",
    [
        f"https://someone:{SECRET}@s3.example.org",
        f"https://{SECRET}@s3.example.org",
        f"https://s3.example.org/?signature={SECRET}",
        "http://s3.example.org",
        "http://127.0.0.1.example.org",
        "http://10.0.0.5:9000",
        "ftp://s3.example.org",
        "s3.example.org",
        "https://",
        "https://[broken",
        "https://s3.example.org:port",
        "https://s3.example.org:99999",
    ],
)
def test_rejected_endpoints(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    monkeypatch.setenv("PIXEL_S3_ENDPOINT", endpoint)
    with pytest.raises(SettingsError, match="PIXEL_S3_ENDPOINT") as caught:
        get_settings()
    assert SECRET not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("PIXEL_PROFILE", "h200"),
        ("PIXEL_WORKERS", "0"),
        ("PIXEL_WORKERS", "many"),
        ("PIXEL_BUCKET", "x"),
        ("PIXEL_SEED", "1.5"),
        ("PIXEL_MIN_FREE_BYTES", "-1"),
    ],
)
def test_a_bad_value_names_its_variable_and_is_not_repeated(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError, match=variable) as caught:
        get_settings()
    monkeypatch.setenv(variable, SECRET if variable != "PIXEL_BUCKET" else value)
    with pytest.raises(SettingsError, match=variable) as caught:
        get_settings()
    assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_dotenv_is_read_and_the_environment_overrides_it(
    dotenv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PIXEL_BUCKET", raising=False)
    dotenv.write_text(
        f"PIXEL_BUCKET=from-file\nPIXEL_S3_ENDPOINT=https://s3.example.org\n"
        f"OVH_ACCESS_KEY={KEY_ID}\nOVH_SECRET_KEY={SECRET}\nUNRELATED=1\n"
    )
    settings = get_settings()
    assert settings.bucket == "from-file"
    assert settings.endpoint == "https://s3.example.org"
    credentials = settings.credentials()
    assert credentials is not None
    assert credentials.source == "OVH_ACCESS_KEY"
    monkeypatch.setenv("PIXEL_BUCKET", "from-environment")
    assert get_settings().bucket == "from-environment"


def test_paths_are_absolute_and_the_home_folder_is_expanded(
    dotenv: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("PIXEL_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    dotenv.write_text("PIXEL_HOME=~/lake\nPIXEL_FAMILIES_FILE=rules.yaml\n")
    assert get_settings().home == tmp_path / "lake"
    assert get_settings().families_file == tmp_path / "rules.yaml"


def test_no_representation_contains_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    for pair in CREDENTIAL_CHAIN:
        set_pair(monkeypatch, pair)
    monkeypatch.setenv("AWS_SESSION_TOKEN", SECRET)
    monkeypatch.setenv("PIXEL_S3_ENDPOINT", "https://s3.example.org")
    settings = get_settings()
    target = Target.resolve(settings)
    for value in (settings, settings.credentials(), target):
        for text in (repr(value), str(value), f"{value}"):
            assert SECRET not in text
            assert KEY_ID not in text
    assert SECRET not in settings.model_dump_json()


def test_an_endpoint_without_credentials_names_the_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIXEL_S3_ENDPOINT", "https://s3.example.org")
    with pytest.raises(SettingsError, match="OVH_S3_ACCESS_KEY/OVH_S3_SECRET_KEY"):
        Target.resolve(get_settings())


def test_ovh_credentials_need_an_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    set_pair(monkeypatch, CREDENTIAL_CHAIN[0])
    with pytest.raises(SettingsError, match="PIXEL_S3_ENDPOINT is not"):
        Target.resolve(get_settings())


def test_an_error_names_a_missing_ca_bundle(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    set_pair(monkeypatch, CREDENTIAL_CHAIN[0])
    monkeypatch.setenv("PIXEL_S3_ENDPOINT", "https://s3.example.org")
    monkeypatch.setenv("PIXEL_S3_CA_BUNDLE", str(tmp_path / "nothing.pem"))
    with pytest.raises(PixelError, match="PIXEL_S3_CA_BUNDLE"):
        Target.resolve(get_settings())


def test_workers_receive_the_lake_and_no_secret(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIXEL_COMPUTE", "ray")
    here = get_settings().worker_environment()
    assert here == {
        "PIXEL_BUCKET": settings.bucket,
        "PIXEL_CHECKPOINT_BUCKET": settings.checkpoint_bucket,
        "PIXEL_S3_REGION": "us-east-1",
        "PIXEL_S3_CONDITIONAL_WRITES": "auto",
        "PIXEL_HOME": str(settings.home),
    }
    monkeypatch.setenv("PIXEL_RAY_ADDRESS", "ray://head:10001")
    monkeypatch.setenv("PIXEL_S3_ENDPOINT", "https://s3.example.com")
    monkeypatch.setenv("PIXEL_S3_CA_BUNDLE", "/etc/ca.pem")
    for pair in CREDENTIAL_CHAIN:
        set_pair(monkeypatch, pair)
    monkeypatch.setenv("AWS_SESSION_TOKEN", SECRET)
    there = get_settings().worker_environment()
    # Paths of this machine are not passed to others.
    assert there.keys() == here.keys() - {"PIXEL_HOME"} | {"PIXEL_S3_ENDPOINT"}
    assert not {SECRET, KEY_ID} & set(there.values())


def test_a_cluster_cannot_use_the_embedded_server(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIXEL_RAY_ADDRESS", "auto")
    get_settings().worker_environment()
    monkeypatch.setenv("PIXEL_COMPUTE", "ray")
    with pytest.raises(SettingsError, match="PIXEL_RAY_ADDRESS names a cluster"):
        get_settings().worker_environment()


def test_loggers_are_comma_separated(monkeypatch: pytest.MonkeyPatch) -> None:
    assert get_settings().loggers == ("tensorboard",)
    monkeypatch.setenv("PIXEL_LOGGERS", "tensorboard, mlflow")
    assert get_settings().loggers == ("tensorboard", "mlflow")
    monkeypatch.setenv("PIXEL_LOGGERS", "none")
    assert get_settings().loggers == ()
    monkeypatch.setenv("PIXEL_LOGGERS", "paper")
    with pytest.raises(SettingsError, match="PIXEL_LOGGERS"):
        get_settings()
