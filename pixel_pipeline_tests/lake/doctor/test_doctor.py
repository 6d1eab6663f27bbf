"""The doctor's probes against a real server: sound, wrongly configured, and failing on purpose.

Over 300 lines: every probe is tested against the same fixtures.
"""

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

from botocore.stub import Stubber
import pytest

from pixel_pipeline.lake import embedded
from pixel_pipeline.lake.doctor import access as access_module
from pixel_pipeline.lake.doctor import access_probes, bucket_probes
from pixel_pipeline.lake.doctor.access import Access
from pixel_pipeline.lake.doctor.doctor import lake_probes
from pixel_pipeline.lake.doctor.probing import Finding, examine
from pixel_pipeline.lake.keys import PROBES
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.lake.s3.errors import ConditionalWritesError
from pixel_pipeline.settings import Settings, get_settings
from pixel_pipeline_tests.faults import Fault, FaultProxy, make_authority, without_conditions

WRONG_SECRET = "plantedWrongSecret0123456789abcdef"
UNKNOWN_KEY = "PLANTEDUNKNOWNKEY"
Examine = Callable[..., dict[str, Finding]]


@pytest.fixture
def server(lake: Lake, settings: Settings) -> embedded.EmbeddedServer:
    """The embedded server, with this test's two buckets."""
    running = embedded.status(settings.home)
    assert running is not None
    return running


@pytest.fixture
def proxy(server: embedded.EmbeddedServer) -> Iterator[FaultProxy]:
    with FaultProxy(server.ports["s3.port"]) as running:
        yield running


@pytest.fixture
def elsewhere(server: embedded.EmbeddedServer, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Access]:
    """Access to the lake by an endpoint and a key pair in the environment."""
    # Opening a lake with a CA bundle sets SSL_CERT_FILE for the process.
    monkeypatch.setenv("SSL_CERT_FILE", "")
    monkeypatch.delenv("SSL_CERT_FILE")

    def access(endpoint: str = server.endpoint, **variables: str) -> Access:
        monkeypatch.setenv("PIXEL_S3_ENDPOINT", endpoint)
        monkeypatch.setenv("OVH_S3_ACCESS_KEY", server.access_key)
        monkeypatch.setenv("OVH_S3_SECRET_KEY", server.secret_key.get_secret_value())
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        return Access(get_settings())

    return access


@pytest.fixture(autouse=True)
def _short_race(monkeypatch: pytest.MonkeyPatch) -> None:
    # Concurrent writers of one key take seconds on the embedded server. The command's test races all 16.
    monkeypatch.setattr(bucket_probes, "RACING_WRITERS", 2)


def ask(access: Access) -> dict[str, Finding]:
    """Return all findings, after checking that they contain no secret and a fix where they need one."""
    found = {probe.name: finding for probe, finding in examine(lake_probes(access))}
    settings = access.settings
    for secret in (settings.ovh_s3_secret_key, settings.ovh_s3_access_key, settings.aws_secret_access_key):
        assert secret is None or secret.get_secret_value() not in repr(found)
    for finding in found.values():
        assert finding.found
        assert finding.fix or finding.verdict in ("ok", "skip")
    return found


def verdicts(found: dict[str, Finding], verdict: str) -> set[str]:
    return {name for name, finding in found.items() if finding.verdict == verdict}


def left_in(lake: Lake) -> list[str]:
    access = Access(get_settings())
    uploads = [
        upload["Key"]
        for bucket in (lake.data, lake.checkpoints)
        for upload in access.client.list_multipart_uploads(Bucket=bucket.name).get("Uploads", [])
    ]
    return [item.key for bucket in (lake.data, lake.checkpoints) for item in bucket.list(PROBES)] + uploads


def test_every_probe_passes_on_the_embedded_server(settings: Settings, lake: Lake) -> None:
    found = ask(Access(settings))
    assert verdicts(found, "ok") == set(found)
    assert len(found) == 15
    assert left_in(lake) == []


def test_another_endpoint_names_the_source_of_the_key_pair_and_warns_about_versioning(
    elsewhere: Callable[..., Access],
) -> None:
    found = ask(elsewhere())
    assert verdicts(found, "warn") == {"versioning"}
    assert verdicts(found, "fail") == set()
    assert "OVH_S3_ACCESS_KEY" in found["credentials"].found
    assert "put-bucket-versioning" in str(found["versioning"].fix)


@pytest.mark.parametrize(
    ("variable", "value", "code"),
    [
        ("OVH_S3_SECRET_KEY", WRONG_SECRET, "SignatureDoesNotMatch"),
        ("OVH_S3_ACCESS_KEY", UNKNOWN_KEY, "InvalidAccessKeyId"),
    ],
)
def test_a_wrong_key_pair(elsewhere: Callable[..., Access], variable: str, value: str, code: str) -> None:
    found = ask(elsewhere(**{variable: value}))
    assert verdicts(found, "fail") == {"signature"}
    assert code in found["signature"].found
    assert "OVH_S3_ACCESS_KEY" in str(found["signature"].fix)
    assert found["buckets"].verdict == found["write"].verdict == "skip"
    assert found["clock"].verdict == "ok"


def test_half_a_key_pair(elsewhere: Callable[..., Access], monkeypatch: pytest.MonkeyPatch) -> None:
    access = elsewhere()
    monkeypatch.delenv("OVH_S3_SECRET_KEY")
    found = ask(Access(get_settings()))
    assert verdicts(found, "fail") == {"credentials"}
    assert "OVH_S3_SECRET_KEY is not" in found["credentials"].found
    assert access.settings.endpoint


def test_a_missing_bucket(elsewhere: Callable[..., Access]) -> None:
    found = ask(elsewhere(PIXEL_CHECKPOINT_BUCKET="no-such-bucket"))
    assert verdicts(found, "fail") == {"buckets"}
    assert found["buckets"].found.startswith("no-such-bucket")
    assert "PIXEL_CHECKPOINT_BUCKET" in str(found["buckets"].fix)


def test_a_dead_endpoint(elsewhere: Callable[..., Access], server: embedded.EmbeddedServer) -> None:
    with FaultProxy(server.ports["s3.port"]) as gone:
        endpoint = gone.endpoint
    found = ask(elsewhere(endpoint))
    assert verdicts(found, "fail") == {"endpoint"}
    assert verdicts(found, "ok") == {"credentials"}
    assert "PIXEL_S3_ENDPOINT" in str(found["endpoint"].fix)


def test_an_unknown_host(elsewhere: Callable[..., Access]) -> None:
    found = ask(elsewhere("https://no-such-host.invalid"))
    assert verdicts(found, "fail") == {"endpoint"}
    assert "no-such-host.invalid does not resolve" in found["endpoint"].found


def test_certificates(
    elsewhere: Callable[..., Access],
    server: embedded.EmbeddedServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    authority = make_authority(tmp_path)
    with FaultProxy(server.ports["s3.port"], tls=authority.context) as proxy:
        found = ask(elsewhere(proxy.endpoint))
        assert verdicts(found, "fail") == {"tls"}
        assert "not trusted" in found["tls"].found
        assert "PIXEL_S3_CA_BUNDLE" in str(found["tls"].fix)
        trusting = elsewhere(proxy.endpoint, PIXEL_S3_CA_BUNDLE=str(authority.certificate))
        found = ask(trusting)
        assert verdicts(found, "fail") == set()
        assert "Throwaway CA" in found["tls"].found
        # The certificate expires in a day.
        assert found["tls"].verdict == "warn"
        assert "renewed" in str(found["tls"].fix)
        monkeypatch.setattr(access_probes, "CERTIFICATE_DAYS", 0)
        assert access_probes.tls(trusting).verdict == "ok"
        nonsense = tmp_path / "nonsense.pem"
        nonsense.write_text("no certificate")
        assert verdicts(ask(elsewhere(proxy.endpoint, PIXEL_S3_CA_BUNDLE=str(nonsense))), "ok") <= {
            "credentials"
        }


def test_https_on_an_http_port(elsewhere: Callable[..., Access], server: embedded.EmbeddedServer) -> None:
    found = ask(elsewhere(server.endpoint.replace("http:", "https:")))
    assert verdicts(found, "fail") == {"tls"}
    assert "https" in str(found["tls"].fix)


@pytest.mark.parametrize(
    ("skew", "verdict"),
    [
        (timedelta(seconds=20), "ok"),
        (timedelta(minutes=5), "warn"),
        (timedelta(minutes=-5), "warn"),
        (timedelta(minutes=20), "fail"),
        (timedelta(hours=-9), "fail"),
    ],
    ids=str,
)
def test_clocks(elsewhere: Callable[..., Access], proxy: FaultProxy, skew: timedelta, verdict: str) -> None:
    proxy.clock_skew = skew
    finding = access_probes.clock(elsewhere(proxy.endpoint))
    assert finding.verdict == verdict
    assert ("behind" if skew > timedelta() else "ahead of") in finding.found


def test_a_region_that_the_server_corrects(elsewhere: Callable[..., Access]) -> None:
    access = elsewhere(PIXEL_S3_REGION="gra")
    for answer in ("header", "error"):
        with Stubber(access.client) as stub:
            if answer == "header":
                metadata = {"HTTPHeaders": {"x-amz-bucket-region": "sbg"}, "HTTPStatusCode": 200}
                stub.add_response("list_objects_v2", {"ResponseMetadata": metadata})
            else:
                stub.add_client_error(
                    "list_objects_v2", "AuthorizationHeaderMalformed", service_error_meta={"Region": "sbg"}
                )
            finding = access_probes.region(access)
        assert finding.verdict == "fail"
        assert finding.fix == "Set PIXEL_S3_REGION=sbg."


def test_a_server_that_ignores_conditions(
    elsewhere: Callable[..., Access], proxy: FaultProxy, server: embedded.EmbeddedServer, lake: Lake
) -> None:
    proxy.rewrite = without_conditions(server)
    access = elsewhere(proxy.endpoint)
    found = ask(access)
    assert verdicts(found, "fail") == {"conditional create"}
    assert "If-None-Match" in found["conditional create"].found
    assert left_in(lake) == []
    # The lake keeps the verdict, and the doctor replaces it once the server is repaired.
    reopened = Lake.open(access.settings)
    with pytest.raises(ConditionalWritesError):
        reopened.data.require_conditional_writes()
    proxy.rewrite = None
    assert bucket_probes.conditional_create(access).verdict == "ok"
    Lake.open(access.settings).data.require_conditional_writes()


def test_a_server_that_refuses_conditions(elsewhere: Callable[..., Access], proxy: FaultProxy) -> None:
    proxy.always = Fault("status", status=501, code="NotImplemented", on=rf"^PUT .*{PROBES}/")
    finding = bucket_probes.conditional_create(elsewhere(proxy.endpoint))
    assert finding.verdict == "fail"
    assert "If-None-Match" in finding.found


@pytest.mark.parametrize(
    ("setting", "sound", "verdict"), [("on", False, "fail"), ("off", True, "warn"), ("on", True, "ok")]
)
def test_the_setting_of_conditional_writes(
    elsewhere: Callable[..., Access],
    proxy: FaultProxy,
    server: embedded.EmbeddedServer,
    setting: str,
    sound: bool,
    verdict: str,
) -> None:
    if not sound:
        proxy.rewrite = without_conditions(server)
    finding = bucket_probes.conditional_create(elsewhere(proxy.endpoint, PIXEL_S3_CONDITIONAL_WRITES=setting))
    assert finding.verdict == verdict
    assert verdict == "ok" or "PIXEL_S3_CONDITIONAL_WRITES" in str(finding.fix)


@pytest.mark.parametrize(
    ("refused", "failed", "right"),
    [
        (r"^(PUT|POST) ", "write", "s3:PutObject"),
        (rf"^GET .*{PROBES}/", "read", "s3:GetObject"),
        (r"^(DELETE |POST .*delete)", "delete", "s3:DeleteObject"),
        (r"^GET .*list-type", "list", "s3:ListBucket"),
    ],
    ids=["write", "read", "delete", "list"],
)
def test_a_missing_right_is_named(
    elsewhere: Callable[..., Access], proxy: FaultProxy, refused: str, failed: str, right: str
) -> None:
    proxy.always = Fault("status", status=403, code="AccessDenied", on=refused)
    found = ask(elsewhere(proxy.endpoint))
    assert failed in verdicts(found, "fail")
    assert right in str(found[failed].fix)
    assert "OVH_S3_ACCESS_KEY" in str(found[failed].fix)
    assert found["signature"].verdict == found["buckets"].verdict == "ok"
    if failed == "write":
        assert found["multipart"].verdict == found["conditional create"].verdict == "skip"


def test_corrupted_bytes_are_reported(elsewhere: Callable[..., Access], proxy: FaultProxy) -> None:
    proxy.always = Fault("corrupt", after=1000, on=rf"^GET .*{PROBES}/")
    found = ask(elsewhere(proxy.endpoint))
    assert {"read", "multipart"} <= verdicts(found, "fail")


def test_a_part_that_is_refused_leaves_no_upload(
    elsewhere: Callable[..., Access], proxy: FaultProxy, lake: Lake
) -> None:
    proxy.always = Fault("status", status=403, code="AccessDenied", on="partNumber=2")
    found = ask(elsewhere(proxy.endpoint))
    assert verdicts(found, "fail") == {"multipart"}
    assert left_in(lake) == []


@pytest.mark.parametrize(
    ("status", "verdict", "word"), [("Enabled", "ok", "on"), ("Suspended", "warn", "suspended")]
)
def test_versioning_is_reported(
    elsewhere: Callable[..., Access], lake: Lake, status: str, verdict: str, word: str
) -> None:
    access = elsewhere()
    access.client.put_bucket_versioning(
        Bucket=lake.data.name,
        VersioningConfiguration={"Status": status},  # type: ignore[typeddict-item]
    )
    finding = bucket_probes.versioning(access)
    assert (finding.verdict, finding.found.split()[0]) == (verdict, word)


def test_old_leftovers_are_deleted(settings: Settings, lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    access = Access(settings)
    lake.data.put(f"{PROBES}/of-a-killed-doctor", b"x")
    lake.data.put(f"{PROBES}-not-ours", b"x")
    for key in (f"{PROBES}/large", "somebody/large"):
        access.client.create_multipart_upload(Bucket=lake.data.name, Key=key)
    assert bucket_probes.leftovers(access).verdict == "ok"
    assert len(left_in(lake)) == 3
    # As if the limits had passed.
    monkeypatch.setattr(bucket_probes, "LEFTOVER_AGE", timedelta(seconds=-60))
    monkeypatch.setattr(bucket_probes, "STRAY_UPLOAD_AGE", timedelta(seconds=-60))
    finding = bucket_probes.leftovers(access)
    assert finding.verdict == "warn"
    assert "2 objects of a killed doctor" in finding.found
    assert "1 unfinished upload" in finding.found
    assert left_in(lake) == ["somebody/large"]
    assert lake.data.exists(f"{PROBES}-not-ours")


def test_objects_of_an_interrupted_probe_are_deleted(
    elsewhere: Callable[..., Access], proxy: FaultProxy, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    access = elsewhere(proxy.endpoint)
    # The probe `read` waits for a response that never comes, and its object exists.
    proxy.always = Fault("hold", on=rf"^GET .*{PROBES}/")
    path = ("credentials", "endpoint", "tls", "signature", "buckets", "write", "read")
    examined = examine([probe for probe in lake_probes(access) if probe.name in path])
    while next(examined)[0].name != "write":
        pass
    assert proxy.silent.wait(timeout=30)
    assert len(left_in(lake)) == 1
    monkeypatch.setattr(access_module, "SETTLE_SECONDS", 0.1)
    access.clear_away()
    assert left_in(lake) == []
