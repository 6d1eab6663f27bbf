"""The lake's endpoint and credentials."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
import http.client
from pathlib import Path
import ssl
from typing import Self
from urllib.parse import SplitResult, urlsplit

from pydantic import SecretStr

from pixel_pipeline.errors import SettingsError
from pixel_pipeline.lake import embedded
from pixel_pipeline.settings import CREDENTIAL_CHAIN, Settings

CLOCK_SECONDS = 5.0


@dataclass(frozen=True)
class Target:
    """The lake's endpoint and credentials. Clients unwrap the secrets; no repr and no debugger shows them."""

    endpoint: str | None
    region: str
    access_key: str
    secret_key: SecretStr
    session_token: SecretStr | None
    ca_bundle: Path | None
    source: str

    def __repr__(self) -> str:
        return f"Target(endpoint={self.endpoint!r}, region={self.region!r}, credentials from {self.source})"

    @property
    def where(self) -> str:
        """The place, for messages."""
        return f"S3 at {self.endpoint}" if self.endpoint else f"S3 in {self.region}"

    @property
    def url(self) -> SplitResult:
        """The endpoint, by default AWS's for the region."""
        return urlsplit(self.endpoint or f"https://s3.{self.region}.amazonaws.com")

    @property
    def allow_http(self) -> bool:
        # Settings allow http only for loopback.
        return bool(self.endpoint and self.endpoint.startswith("http://"))

    def clock_skew(self) -> timedelta | None:
        """Return how far this machine's clock is ahead of the server's; None if the server sends no date."""
        url = self.url
        connection: http.client.HTTPConnection
        if url.scheme == "http":
            connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=CLOCK_SECONDS)
        else:
            context = ssl.create_default_context(cafile=self.ca_bundle)
            connection = http.client.HTTPSConnection(
                url.hostname or "", url.port, timeout=CLOCK_SECONDS, context=context
            )
        try:
            # Unsigned: every answer, even a refusal, has a date.
            connection.request("HEAD", "/")
            date = connection.getresponse().headers["Date"]
            return datetime.now(UTC) - parsedate_to_datetime(date)
        except (OSError, http.client.HTTPException, ValueError, TypeError):
            return None
        finally:
            connection.close()

    @classmethod
    def resolve(cls, settings: Settings) -> Self:
        """Find the endpoint and key pair, starting the embedded server if nothing is configured.

        Raises:
            SettingsError: an endpoint without credentials, or OVH credentials without an endpoint.
        """
        credentials = settings.credentials()
        if settings.ca_bundle is not None and not settings.ca_bundle.is_file():
            raise SettingsError(f"PIXEL_S3_CA_BUNDLE: there is no file {settings.ca_bundle}.")
        if credentials is None:
            if settings.endpoint is not None:
                names = ", ".join("/".join(pair) for pair in CREDENTIAL_CHAIN)
                raise SettingsError(
                    "PIXEL_S3_ENDPOINT is set but no credentials are.", hint=f"Set one pair of {names}."
                )
            server = embedded.ensure_running(settings.home, min_free_bytes=settings.min_free_bytes)
            return cls(
                endpoint=server.endpoint,
                region=settings.region,
                access_key=server.access_key,
                secret_key=server.secret_key,
                session_token=None,
                ca_bundle=None,
                source="the embedded server",
            )
        if settings.endpoint is None and credentials.source.startswith("OVH_"):
            raise SettingsError(
                f"{credentials.source} is set but PIXEL_S3_ENDPOINT is not.",
                hint="Set PIXEL_S3_ENDPOINT, e.g. https://s3.gra.io.cloud.ovh.net, and PIXEL_S3_REGION, e.g. gra.",
            )
        return cls(
            endpoint=settings.endpoint,
            region=settings.region,
            access_key=credentials.access_key,
            secret_key=credentials.secret_key,
            session_token=credentials.session_token,
            ca_bundle=settings.ca_bundle,
            source=credentials.source,
        )
