"""Every setting of the project, from the environment or `.env`, in one place."""

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

# What a worker on another machine is told; paths and credentials are its own.
SHARED_FIELDS = ("bucket", "checkpoint_bucket", "endpoint", "region", "conditional_writes")
# What a worker on this machine is told besides.
MACHINE_FIELDS = ("home", "ca_bundle")

# First pair with anything set wins; within it both halves must be there.
CREDENTIAL_CHAIN = (
    ("OVH_S3_ACCESS_KEY", "OVH_S3_SECRET_KEY"),
    ("OVH_ACCESS_KEY", "OVH_SECRET_KEY"),
    ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
)


def project_root() -> Path:
    """The checkout this package runs from, or the working directory when it is installed elsewhere."""
    checkout = Path(__file__).resolve().parent.parent
    return checkout if (checkout / "pyproject.toml").is_file() else Path.cwd()


@dataclass(frozen=True)
class Credentials:
    """An S3 key pair and the name of the variable that it came from."""

    access_key: str = field(repr=False)
    secret_key: SecretStr
    session_token: SecretStr | None
    source: str


class Settings(BaseSettings):
    """Settings of one process. `Settings.load()` turns a bad value into a `SettingsError` that names its variable."""

    model_config = SettingsConfigDict(
        env_prefix="PIXEL_",
        env_file=project_root() / ".env",
        # An empty variable is how shells and CI systems spell "not set".
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
        populate_by_name=True,
    )

    home: Path = Field(
        default_factory=lambda: project_root() / ".pixel",
        description="Folder for everything local: embedded S3, Dagster's storage, caches, the sample Drive.",
    )
    profile: Literal["demo", "chat", "h100"] = Field(
        "demo",
        description="demo trains a nano model on the CPU, chat adapters on SmolLM2; h100 needs an H100.",
    )
    bucket: str = Field("pixel-data", min_length=3, description="Bucket of the data lake.")
    checkpoint_bucket: str = Field(
        "pixel-checkpoints", min_length=3, description="Bucket of the checkpoints."
    )
    endpoint: str | None = Field(
        None,
        validation_alias=AliasChoices("PIXEL_S3_ENDPOINT", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
        description="S3 endpoint URL. Without it and without credentials, an embedded server is started.",
    )
    region: str = Field(
        "us-east-1",
        validation_alias=AliasChoices("PIXEL_S3_REGION", "AWS_REGION", "AWS_DEFAULT_REGION"),
        description="S3 region.",
    )
    ca_bundle: Path | None = Field(
        None,
        validation_alias="PIXEL_S3_CA_BUNDLE",
        description="PEM file of certificate authorities to trust for the endpoint. Verification itself is never off.",
    )
    conditional_writes: Literal["auto", "on", "off"] = Field(
        "auto",
        validation_alias="PIXEL_S3_CONDITIONAL_WRITES",
        description="auto asks the endpoint whether it honours If-None-Match; off: single-writer mode.",
    )
    cache_bytes: int = Field(
        20 * 1024**3, ge=0, description="Size that the local cache of objects is kept to, in bytes."
    )
    offline: bool = Field(False, description="Load datasets from the local cache alone, whatever lies in S3.")
    training_steps: int | None = Field(None, ge=1, description="Steps to train in place of the profile's.")
    base_model: str | None = Field(
        None,
        description="Base model in the lake whose tokenizer and chat template make the tokens. Default: a tokenizer of the corpus's own.",
    )
    sequence_length: int = Field(512, ge=2, le=32_767, description="Tokens in a packed row.")
    curriculum_file: Path | None = Field(
        None, description="Which data is read when in training, as YAML. Default: all of it, all the time."
    )
    training_hours: float | None = Field(
        None, gt=0, description="Hours that a training process has; what is left is done by the next."
    )
    priority: Literal["fast", "balanced", "quality", "memory"] | None = Field(
        None,
        description="What training is to be best at. Default: balanced for adapters, the profile's own steps from scratch.",
    )
    promotion_tolerance: float = Field(
        0.005,
        ge=0,
        lt=1,
        description="Share by which the test loss of what is promoted may be worse than that of what was promoted before.",
    )
    loggers: Annotated[tuple[Literal["tensorboard", "wandb", "mlflow"], ...], NoDecode] = Field(
        ("tensorboard",),
        description="Where training curves go besides Dagster: `tensorboard`, `wandb`, `mlflow`, separated by commas; `none`: nowhere.",
    )
    workers: int = Field(
        default_factory=lambda: os.cpu_count() or 1, ge=1, description="Worker processes of this machine."
    )
    compute: Literal["local", "ray"] = Field(
        "local", description="Where conversion tasks run: processes of this machine, or Ray."
    )
    ray_address: str | None = Field(
        None,
        description="Ray cluster: `auto`, `ray://host:port` or `host:port`. Without it, `ray` starts one on this machine.",
    )
    drive_remote: str | None = Field(
        None,
        description="rclone remote or folder to sync from, e.g. `gdrive:`. Default: the sample Drive in the home folder.",
    )
    sync_cron: str = Field("0 3 * * *", description="When the Drive is synced, as a cron expression.")
    inventory_cron: str = Field(
        "*/30 * * * *", description="When the raw tiers are listed besides, as a cron expression."
    )
    timezone: str = Field(
        "UTC", description="Time zone of the two crons, by its IANA name, e.g. `Europe/Paris`."
    )
    sync_transfers: int = Field(
        8, ge=1, le=64, description="Files that the Drive sync copies at the same time."
    )
    sync_bandwidth: str | None = Field(
        None,
        description="Limit of the Drive sync in rclone's terms: `20M` (MiB/s), or a timetable `08:00,5M 19:00,off`.",
    )
    sync_include: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Sync only what matches: rclone filter patterns, separated by `;`, e.g. `*.jsonl;/Team A/**`.",
    )
    sync_exclude: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Never sync what matches, included or not: rclone filter patterns, separated by `;`."
    )
    sync_verify: Literal["hash", "size", "download", "off"] = Field(
        "hash",
        description="How the Drive is compared with raw after a copy; `download` reads both sides again.",
    )
    families_file: Path = Field(
        default_factory=lambda: project_root() / "families.yaml",
        description="Rules: raw key to category, family, dataset.",
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
        512 * 1024**2, ge=0, description="Refuse to start the embedded server with less free disk, in bytes."
    )

    ovh_s3_access_key: SecretStr | None = Field(None, validation_alias="OVH_S3_ACCESS_KEY")
    ovh_s3_secret_key: SecretStr | None = Field(None, validation_alias="OVH_S3_SECRET_KEY")
    ovh_access_key: SecretStr | None = Field(None, validation_alias="OVH_ACCESS_KEY")
    ovh_secret_key: SecretStr | None = Field(None, validation_alias="OVH_SECRET_KEY")
    aws_access_key_id: SecretStr | None = Field(None, validation_alias="AWS_ACCESS_KEY_ID")
    aws_secret_access_key: SecretStr | None = Field(None, validation_alias="AWS_SECRET_ACCESS_KEY")
    aws_session_token: SecretStr | None = Field(None, validation_alias="AWS_SESSION_TOKEN")

    @classmethod
    def load(cls) -> Self:
        """Read the environment and `.env`.

        Raises:
            SettingsError: naming each variable that is wrong; values are not repeated, they may be secrets.
        """
        try:
            return cls()
        except ValidationError as error:
            problems = "; ".join(f"{_variable(cls, item['loc'])}: {item['msg']}" for item in error.errors())
        raise SettingsError(f"Bad settings: {problems}", hint="Correct them in the environment or in .env.")

    @field_validator("home", "families_file", "ca_bundle", "curriculum_file")
    @classmethod
    def _absolute(cls, path: Path | None) -> Path | None:
        # Subprocesses have working directories of their own, and nobody expands `~` in a `.env`.
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
        url = None if address is None else _split_url(address.get_secret_value())
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
        url = _split_url(self.endpoint)
        if url is None or url.scheme not in ("http", "https") or not url.hostname or url.query:
            raise SettingsError("PIXEL_S3_ENDPOINT is not a URL.", hint="Give it as https://host[:port].")
        if url.username or url.password:
            raise SettingsError(
                "PIXEL_S3_ENDPOINT carries a user name or password.",
                hint="Pass credentials in the credential variables.",
            )
        if url.scheme == "http" and url.hostname not in LOOPBACK_HOSTS:
            raise SettingsError(
                f"PIXEL_S3_ENDPOINT is plain http to {url.hostname}; conversations only travel encrypted.",
                hint="Use https, with PIXEL_S3_CA_BUNDLE for a private certificate authority.",
            )
        return self

    def credentials(self) -> Credentials | None:
        """The first key pair of the credential chain, or None when no variable of it is set.

        Raises:
            SettingsError: one half of a pair is set and the other is not.
        """
        for access_variable, secret_variable in CREDENTIAL_CHAIN:
            access = self._secret(access_variable)
            secret = self._secret(secret_variable)
            if access is None and secret is None:
                continue
            if access is None or secret is None:
                missing, present = (
                    (access_variable, secret_variable)
                    if access is None
                    else (secret_variable, access_variable)
                )
                raise SettingsError(
                    f"{present} is set but {missing} is not.", hint=f"Set {missing}, or unset {present}."
                )
            token = self.aws_session_token if access_variable.startswith("AWS_") else None
            return Credentials(
                access_key=access.get_secret_value(),
                secret_key=secret,
                session_token=token,
                source=access_variable,
            )
        return None

    def _secret(self, variable: str) -> SecretStr | None:
        value: SecretStr | None = getattr(self, variable.lower())
        return value

    @property
    def uses_embedded_s3(self) -> bool:
        """True when neither an endpoint nor any credential variable is set."""
        return self.endpoint is None and self.credentials() is None

    def executor_options(self) -> dict[str, Any]:
        """Arguments of `compute.opening.open_executor`."""
        return {
            "kind": self.compute,
            "workers": self.workers,
            "ray_address": self.ray_address,
            "environment": self.worker_environment(),
        }

    def worker_environment(self) -> dict[str, str]:
        """Variables that give Ray's workers this lake. Nothing secret: a worker has its credentials from its machine.

        Raises:
            SettingsError: a cluster is to work on the embedded S3, which this machine alone can reach.
        """
        if self.compute == "ray" and self.ray_address is not None and self.uses_embedded_s3:
            raise SettingsError(
                "PIXEL_RAY_ADDRESS names a cluster, but the lake is the embedded S3 of this machine.",
                hint="Set PIXEL_S3_ENDPOINT and credentials, or unset PIXEL_RAY_ADDRESS for a Ray on this machine.",
            )
        fields = SHARED_FIELDS if self.ray_address else SHARED_FIELDS + MACHINE_FIELDS
        values = {_variable(type(self), (name,)): getattr(self, name) for name in fields}
        return {variable: str(value) for variable, value in values.items() if value is not None}

    @property
    def drive_source(self) -> str:
        """What rclone copies from: the configured remote, or the sample Drive."""
        return self.drive_remote or str(self.home / "drive")


def get_settings() -> Settings:
    """Settings of the present environment. Cheap; not cached, so that tests and tools may change the environment."""
    return Settings.load()


def _split_url(text: str) -> SplitResult | None:
    """The URL's parts, or None where host or port cannot be."""
    try:
        url = urlsplit(text)
        url.port  # noqa: B018  the standard library checks the port when it is asked for
    except ValueError:
        return None
    return url


def _variable(model: type[BaseSettings], location: tuple[int | str, ...]) -> str:
    if not location:
        return "settings"
    name = str(location[0])
    field = model.model_fields.get(name)
    if field is None:
        return name
    if isinstance(field.validation_alias, AliasChoices):
        return str(field.validation_alias.choices[0])
    return field.validation_alias if isinstance(field.validation_alias, str) else f"PIXEL_{name.upper()}"
