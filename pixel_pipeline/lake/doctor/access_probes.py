"""Probes of the connection: key pair, endpoint, certificate, clock, signature, region."""

from datetime import UTC, datetime, timedelta
import socket
import ssl
from typing import Any

from pixel_pipeline.lake.doctor.access import Access
from pixel_pipeline.lake.doctor.probing import Finding, fail, ok, skip, warn
from pixel_pipeline.lake.s3.control import CONNECT_SECONDS, ControlError

CERTIFICATE_DAYS = 14
# Servers refuse signatures beyond 15 minutes.
SKEW_WARN = timedelta(seconds=60)
SKEW_FAIL = timedelta(minutes=15)
SIGNATURE_ERRORS = {
    "InvalidAccessKeyId": "the server does not know the access key",
    "SignatureDoesNotMatch": "the secret key is not the one of this access key",
    "ExpiredToken": "the session has expired",
    "InvalidToken": "the session token is not valid",
    "TokenRefreshRequired": "the session has expired",
    "RequestTimeTooSkewed": "the clocks of this machine and the server are too far apart",
}


def credentials(access: Access) -> Finding:
    """Report the variable that the credentials come from, never their values."""
    if access.settings.uses_embedded_s3:
        return ok("from the embedded server: no endpoint and no key pair is set")
    found = access.settings.credentials()
    if found is None:
        # Raises an error with the missing variables.
        access.lake  # noqa: B018
        return ok("found")
    token = ", with a session token" if found.session_token else ""
    return ok(f"key pair from {found.source}{token}")


def endpoint(access: Access) -> Finding:
    """Check that the host name resolves and the port accepts connections."""
    host, port = access.address
    if not access.settings.uses_embedded_s3:
        fix = "Check PIXEL_S3_ENDPOINT, the network and its firewalls."
        try:
            with socket.create_connection((host, port), timeout=CONNECT_SECONDS):
                pass
        except socket.gaierror:
            return fail(f"the host name {host} does not resolve", fix)
        except TimeoutError:
            return fail(f"{host}:{port} does not answer within {CONNECT_SECONDS} s", fix)
        except OSError as error:
            return fail(f"{host}:{port} cannot be reached: {error.strerror or 'no connection'}", fix)
    # Created here, before probes run in parallel: two threads must not create boto3's session at once.
    access.client  # noqa: B018
    kind = "embedded server" if access.settings.uses_embedded_s3 else "answers"
    return ok(f"{access.url.geturl()} ({kind})")


def tls(access: Access) -> Finding:
    """Check that the certificate is trusted, and for how long."""
    if access.url.scheme == "http":
        return ok("plain http, on this machine only")
    host = access.address[0]
    fix = "Set PIXEL_S3_CA_BUNDLE to the PEM file of the authority that signed the server's certificate."
    try:
        context = access.tls_context()
    except ssl.SSLError:
        return fail("PIXEL_S3_CA_BUNDLE contains no certificate in PEM format", fix)
    try:
        with (
            socket.create_connection(access.address, timeout=CONNECT_SECONDS) as plain,
            context.wrap_socket(plain, server_hostname=host) as connection,
        ):
            certificate: dict[str, Any] = dict(connection.getpeercert() or {})
            version = connection.version()
    except ssl.SSLCertVerificationError as error:
        return fail(f"the certificate of {host} is not trusted: {error.verify_message}", fix)
    except OSError as error:
        reason = getattr(error, "reason", None) or error.strerror or "the connection broke"
        return fail(
            f"TLS with {host} failed: {reason}",
            "Check that PIXEL_S3_ENDPOINT names a port that speaks https.",
        )
    expires = datetime.fromtimestamp(ssl.cert_time_to_seconds(certificate["notAfter"]), UTC)
    days = (expires - datetime.now(UTC)).days
    issuer = {name: value for part in certificate["issuer"] for name, value in part}
    name = issuer.get("organizationName") or issuer.get("commonName") or "an unnamed authority"
    found = f"{version}, certificate by {name}, {days} days left"
    if days < CERTIFICATE_DAYS:
        return warn(found, f"Have the certificate renewed before {expires:%Y-%m-%d %H:%M} UTC.")
    return ok(found)


def clock(access: Access) -> Finding:
    """Compare the clocks: servers refuse signatures with a wrong time."""
    skew = access.lake.target.clock_skew()
    if skew is None:
        return skip("the server sends no date")
    size = abs(skew)
    # The server's date has whole seconds.
    if size < timedelta(seconds=2):
        return ok("same as the server's")
    found = f"{_span(size)} {'ahead of' if skew > timedelta() else 'behind'} the server's"
    fix = "Set this machine's clock: `sudo timedatectl set-ntp true`."
    if size > SKEW_FAIL:
        return fail(f"{found}; beyond {_span(SKEW_FAIL)} signed requests are refused", fix)
    return warn(found, fix) if size > SKEW_WARN else ok(found)


def signature(access: Access) -> Finding:
    """Check that the server accepts signatures of this key pair."""
    source = access.lake.target.source
    try:
        with access.controlled("list"):
            access.client.list_objects_v2(Bucket=access.lake.data.name, MaxKeys=1)
    except ControlError as error:
        if error.code in SIGNATURE_ERRORS:
            return fail(
                f"{error.code}: {SIGNATURE_ERRORS[error.code]}", f"Check the key pair (from {source})."
            )
        # Other errors (missing bucket, no right to list) come after the check of the signature.
    return ok(f"accepted (key pair from {source})")


def region(access: Access) -> Finding:
    """Check that requests are signed for the bucket's region."""
    configured = access.lake.target.region
    answer: dict[str, Any]
    try:
        with access.controlled("list"):
            answer = {**access.client.list_objects_v2(Bucket=access.lake.data.name, MaxKeys=1)}
    except ControlError as error:
        answer = error.answer
    headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    named = headers.get("x-amz-bucket-region") or answer.get("Error", {}).get("Region")
    if named is None:
        return ok(f"{configured} (the server names none)")
    if named != configured:
        return fail(f"{configured}, but the bucket is in {named}", f"Set PIXEL_S3_REGION={named}.")
    return ok(f"{configured}, confirmed by the server")


def _span(time: timedelta) -> str:
    seconds = round(time.total_seconds())
    if seconds < 120:
        return f"{seconds} s"
    return f"{seconds // 60} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
