"""All settings of the project, from the environment or `.env`. In one file, as a reference of every variable."""

from dataclasses import dataclass, field
import os
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import SplitResult, urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from pixel_pipeline.errors import SettingsError

LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "::1")

# Settings passed to workers on other machines, which have their own paths and credentials.
SHARED_FIELDS = ("bucket", "checkpoint_bucket", "endpoint", "region", "conditional_writes")
# Settings passed only to workers on this machine.
MACHINE_FIELDS = ("home", "ca_bundle")

# The first pair with either variable set wins; both must be set.
CREDENTIAL_CHAIN = (
    ("OVH_S3_ACCESS_KEY", "OVH_S3_SECRET_KEY"),
    ("OVH_ACCESS_KEY", "OVH_SECRET_KEY"),
    ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
)


def project_root() -> Path:
    """Return the checkout that this package runs from, or the working directory if it is installed."""
    checkout = Path(__file__).resolve().parent.parent
    return checkout if (checkout / "pyproject.toml").is_file() else Path.cwd()


@dataclass(frozen=True)
class Credentials:
    """An S3 key pair; `source` names its variable."""

    access_key: str = field(repr=False)
    secret_key: SecretStr
    session_token: SecretStr | None
    source: str


class Settings(BaseSettings):
    """Settings of one process; read them with `get_settings()`."""

    model_config = SettingsConfigDict(
        env_prefix="PIXEL_",
        env_file=project_root() / ".env",
        # Shells and CI systems often leave unset variables empty.
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
        populate_by_name=True,
    )

    home: Path = Field(
        default_factory=lambda: project_root() / ".pixel",
        description="Folder of all local data: embedded S3, Dagster's storage, caches, the sample Drive.",
    )
    profile: Literal["demo", "chat", "h100"] = Field(
        "demo",
        description="demo trains a nano model on the CPU, chat trains adapters for SmolLM2, h100 needs an H100.",
    )
    bucket: str = Field("pixel-data", min_length=3, description="Bucket of the data lake.")
    checkpoint_bucket: str = Field(
        "pixel-checkpoints", min_length=3, description="Bucket of the checkpoints."
    )
    endpoint: str | None = Field(
        None,
        validation_alias=AliasChoices("PIXEL_S3_ENDPOINT", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
        description="S3 endpoint URL. Without endpoint and credentials, an embedded server is started.",
    )
    region: str = Field(
        "us-east-1",
        validation_alias=AliasChoices("PIXEL_S3_REGION", "AWS_REGION", "AWS_DEFAULT_REGION"),
        description="S3 region.",
    )
    ca_bundle: Path | None = Field(
        None,
        validation_alias="PIXEL_S3_CA_BUNDLE",
        description="PEM file of certificate authorities to trust for the endpoint. TLS verification cannot be disabled.",
    )
    conditional_writes: Literal["auto", "on", "off"] = Field(
        "auto",
        validation_alias="PIXEL_S3_CONDITIONAL_WRITES",
        description="auto: test whether the endpoint honours If-None-Match; on: assume that it does; off: the lake is read-only.",
    )
    cache_bytes: int = Field(
        20 * 1024**3, ge=0, description="Maximum size of the local object cache, in bytes."
    )
    offline: bool = Field(False, description="Load datasets only from the local cache, never from S3.")
    training_steps: int | None = Field(None, ge=1, description="Training steps. Default: the profile's.")
    base_model: str | None = Field(
        None,
        description="Base model in the lake whose tokenizer and chat template are used. Default: train a tokenizer on the corpus.",
    )
    sequence_length: int = Field(512, ge=2, le=32_767, description="Tokens in a packed row.")
    curriculum_file: Path | None = Field(
        None, description="YAML file of the training curriculum. Default: all data throughout."
    )
    training_hours: float | None = Field(
        None,
        gt=0,
        description="Time limit of a training process, in hours; the next process continues the run.",
    )
    priority: Literal["fast", "balanced", "quality", "memory"] | None = Field(
        None,
        description="Training priority. Default: balanced for adapters; the profile's own steps from scratch.",
    )
    promotion_tolerance: float = Field(
        0.005,
        ge=0,
        lt=1,
        description="Largest relative increase of the test loss over the previously promoted model.",
    )
    loggers: Annotated[tuple[Literal["tensorboard", "wandb", "mlflow"], ...], NoDecode] = Field(
        ("tensorboard",),
        description="Loggers of training curves in addition to Dagster: `tensorboard`, `wandb`, `mlflow`, comma-separated; or `none`.",
    )
    workers: int = Field(
        default_factory=lambda: os.cpu_count() or 1, ge=1, description="Worker processes on this machine."
    )
    compute: Literal["local", "ray"] = Field(
        "local", description="Where conversion tasks run: processes on this machine, or Ray."
    )
    ray_address: str | None = Field(
        None,
        description="Ray cluster: `auto`, `ray://host:port` or `host:port`. Without it, `ray` starts one on this machine.",
    )
    drive_remote: str | None = Field(
        None,
        description="rclone remote or folder to sync from, e.g. `gdrive:`. Default: the sample Drive in the home folder.",
    )
    sync_cron: str = Field("0 3 * * *", description="Cron schedule of the Drive sync.")
    inventory_cron: str = Field(
        "*/30 * * * *", description="Cron schedule of extra listings of the raw tiers."
    )
    timezone: str = Field("UTC", description="IANA time zone of both cron schedules, e.g. `Europe/Paris`.")
    sync_transfers: int = Field(8, ge=1, le=64, description="Files that the Drive sync copies in parallel.")
    sync_bandwidth: str | None = Field(
        None,
        description="Bandwidth limit of the Drive sync, as for rclone: `20M` (MiB/s), or a timetable `08:00,5M 19:00,off`.",
    )
    sync_include: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Sync only matching files: rclone filter patterns, separated by `;`, e.g. `*.jsonl;/Team A/**`.",
    )
    sync_exclude: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Never sync matching files, even if included: rclone filter patterns, separated by `;`.",
    )
    sync_verify: Literal["hash", "size", "download", "off"] = Field(
        "hash",
        description="How the Drive is compared with raw after a sync; `download` reads all bytes of both.",
    )
    families_file: Path | None = Field(
        default_factory=lambda: _families_file(),
        description="Rules that map raw keys to category, family and dataset. Default: families.yaml of the project, if there is one.",
    )
    ui_url: str = Field(
        "http://127.0.0.1:3000", description="Address of the Dagster UI, for links in alerts."
    )
    alerts_slack: SecretStr | None = Field(
        None, description="Incoming-webhook URL of the Slack channel that is notified of failed runs."
    )
    alerts_webhook: SecretStr | None = Field(
        None, description="URL that receives a JSON document about every failed run, by POST."
    )
    alerts_email_to: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Addresses that receive an e-mail about every failed run, separated by commas."
    )
    alerts_email_from: str | None = Field(None, description="Sender of these e-mails.")
    alerts_email_password: SecretStr | None = Field(
        None, description="Password of the sender on the mail server."
    )
    alerts_smtp_host: str | None = Field(None, description="Mail server of these e-mails.")
    alerts_smtp_port: int | None = Field(
        None, ge=1, le=65_535, description="Port of the mail server. Default: 465 for SSL, 587 for STARTTLS."
    )
    alerts_smtp_user: str | None = Field(
        None, description="User name on the mail server. Default: the sender."
    )
    alerts_smtp_type: Literal["SSL", "STARTTLS"] = Field(
        "SSL", description="Encryption of the connection to the mail server."
    )
    seed: int = Field(7, description="Seed of the sample Drive and of training.")
    min_free_bytes: int = Field(
        512 * 1024**2, ge=0, description="Free disk space that the embedded server needs to start, in bytes."
    )

    ovh_s3_access_key: SecretStr | None = Field(None, validation_alias="OVH_S3_ACCESS_KEY")
    ovh_s3_secret_key: SecretStr | None = Field(None, validation_alias="OVH_S3_SECRET_KEY")
    ovh_access_key: SecretStr | None = Field(None, validation_alias="OVH_ACCESS_KEY")
    ovh_secret_key: SecretStr | None = Field(None, validation_alias="OVH_SECRET_KEY")
    aws_access_key_id: SecretStr | None = Field(None, validation_alias="AWS_ACCESS_KEY_ID")
    aws_secret_access_key: SecretStr | None = Field(None, validation_alias="AWS_SECRET_ACCESS_KEY")
    aws_session_token: SecretStr | None = Field(None, validation_alias="AWS_SESSION_TOKEN")

    @field_validator("home", "families_file", "ca_bundle", "curriculum_file")
    @classmethod
    def _absolute(cls, path: Path | None) -> Path | None:
        # Subprocesses have other working directories, and `~` is not expanded in a `.env`.
        return None if path is None else path.expanduser().absolute()

    @field_validator("timezone")
    @classmethod
    def _known_timezone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError("not an IANA time zone, such as Europe/Paris or UTC") from None
        return name

    @field_validator("sync_include", "sync_exclude", mode="before")
    @classmethod
    def _patterns(cls, patterns: object) -> object:
        if not isinstance(patterns, str):
            return patterns
        return tuple(pattern.strip() for pattern in patterns.split(";") if pattern.strip())

    @field_validator("alerts_email_to", mode="before")
    @classmethod
    def _addresses(cls, addresses: object) -> object:
        if not isinstance(addresses, str):
            return addresses
        return tuple(address.strip() for address in addresses.split(",") if address.strip())

    @field_validator("alerts_slack", "alerts_webhook")
    @classmethod
    def _encrypted(cls, address: SecretStr | None) -> SecretStr | None:
        url = None if address is None else _parsed_url(address.get_secret_value())
        if address is not None and (
            url is None
            or not url.hostname
            or (url.scheme != "https" and (url.scheme != "http" or url.hostname not in LOOPBACK_HOSTS))
        ):
            raise ValueError("not an https:// URL")
        return address

    @model_validator(mode="after")
    def _check_email(self) -> Self:
        if self.alerts_email_to and not (
            self.alerts_email_from and self.alerts_email_password and self.alerts_smtp_host
        ):
            raise SettingsError(
                "PIXEL_ALERTS_EMAIL_TO is set without a sender, its password or its mail server.",
                hint="Set PIXEL_ALERTS_EMAIL_FROM, PIXEL_ALERTS_EMAIL_PASSWORD and PIXEL_ALERTS_SMTP_HOST.",
            )
        return self

    @field_validator("loggers", mode="before")
    @classmethod
    def _names(cls, names: object) -> object:
        if not isinstance(names, str):
            return names
        return tuple(name.strip() for name in names.split(",") if name.strip() not in ("", "none"))

    @model_validator(mode="after")
    def _check_endpoint(self) -> Self:
        if self.endpoint is None:
            return self
        url = _parsed_url(self.endpoint)
        if url is None or url.scheme not in ("http", "https") or not url.hostname or url.query:
            raise SettingsError("PIXEL_S3_ENDPOINT is not a URL.", hint="Set it to https://host[:port].")
        if url.username or url.password:
            raise SettingsError(
                "PIXEL_S3_ENDPOINT contains a user name or password.",
                hint="Set credentials in the credential variables.",
            )
        if url.scheme == "http" and url.hostname not in LOOPBACK_HOSTS:
            raise SettingsError(
                f"PIXEL_S3_ENDPOINT is plain http to {url.hostname}, but conversations must be encrypted in transit.",
                hint="Use https, with PIXEL_S3_CA_BUNDLE for a private certificate authority.",
            )
        return self

    def credentials(self) -> Credentials | None:
        """Return the first key pair of the credential chain, or None if none is set.

        Raises:
            SettingsError: only one half of a pair is set.
        """
        for pair in CREDENTIAL_CHAIN:
            access: SecretStr | None
            secret: SecretStr | None
            access, secret = (getattr(self, variable.lower()) for variable in pair)
            if access is None and secret is None:
                continue
            if access is None or secret is None:
                missing, present = pair if access is None else reversed(pair)
                raise SettingsError(
                    f"{present} is set but {missing} is not.", hint=f"Set {missing}, or unset {present}."
                )
            return Credentials(
                access_key=access.get_secret_value(),
                secret_key=secret,
                session_token=self.aws_session_token if pair[0].startswith("AWS_") else None,
                source=pair[0],
            )
        return None

    @property
    def uses_embedded_s3(self) -> bool:
        """Whether neither an endpoint nor any credential variable is set."""
        return self.endpoint is None and self.credentials() is None

    def executor_options(self) -> dict[str, Any]:
        """Return the arguments of `compute.opening.open_executor`."""
        return {
            "kind": self.compute,
            "workers": self.workers,
            "ray_address": self.ray_address,
            "environment": self.worker_environment(),
        }

    def worker_environment(self) -> dict[str, str]:
        """Return the variables that point Ray's workers to this lake. No secrets: workers use their machine's credentials.

        Raises:
            SettingsError: Ray runs on a cluster, but only this machine can reach the embedded S3.
        """
        if self.compute == "ray" and self.ray_address is not None and self.uses_embedded_s3:
            raise SettingsError(
                "PIXEL_RAY_ADDRESS names a cluster, but the lake is the embedded S3 of this machine.",
                hint="Set PIXEL_S3_ENDPOINT and credentials, or unset PIXEL_RAY_ADDRESS for a Ray on this machine.",
            )
        fields = SHARED_FIELDS if self.ray_address else SHARED_FIELDS + MACHINE_FIELDS
        values = {_variable((name,)): getattr(self, name) for name in fields}
        return {variable: str(value) for variable, value in values.items() if value is not None}

    @property
    def drive_source(self) -> str:
        """Source of the Drive sync: the configured remote, or the sample Drive."""
        return self.drive_remote or str(self.home / "drive")


def get_settings() -> Settings:
    """Read the environment and `.env`; not cached, so that tests and tools can change the environment.

    Raises:
        SettingsError: naming every wrong variable; their values may be secrets and are not repeated.
    """
    try:
        return Settings()
    except ValidationError as error:
        problems = "; ".join(f"{_variable(item['loc'])}: {item['msg']}" for item in error.errors())
    raise SettingsError(f"Bad settings: {problems}", hint="Correct them in the environment or in .env.")


def _variable(location: tuple[int | str, ...]) -> str:
    if not location:
        return "settings"
    name = str(location[0])
    field = Settings.model_fields.get(name)
    if field is None:
        return name
    if isinstance(field.validation_alias, AliasChoices):
        return str(field.validation_alias.choices[0])
    return field.validation_alias if isinstance(field.validation_alias, str) else f"PIXEL_{name.upper()}"


def _families_file() -> Path | None:
    """families.yaml of the checkout, which must exist, or of the working directory, which may have none."""
    root = project_root()
    path = root / "families.yaml"
    return path if path.is_file() or (root / "pyproject.toml").is_file() else None


def _parsed_url(text: str) -> SplitResult | None:
    """Split a URL; None if its host or port is invalid."""
    try:
        url = urlsplit(text)
        url.port  # noqa: B018  the property validates the port
    except ValueError:
        return None
    return url
