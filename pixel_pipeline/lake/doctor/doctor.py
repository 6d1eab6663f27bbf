"""The probes of the lake."""

from collections.abc import Callable
from functools import partial

from pixel_pipeline.lake.doctor import access_probes, bucket_probes
from pixel_pipeline.lake.doctor.access import Access
from pixel_pipeline.lake.doctor.probing import Finding, Probe


def lake_probes(access: Access) -> list[Probe]:
    """Return all probes of the lake in the order of display. Call `access.clear_away()` afterwards."""

    def probe(name: str, group: str, ask: Callable[[Access], Finding], *needs: str) -> Probe:
        return Probe(name=name, group=group, ask=partial(ask, access), needs=needs)

    return [
        probe("credentials", "access", access_probes.credentials),
        probe("endpoint", "access", access_probes.endpoint, "credentials"),
        probe("tls", "access", access_probes.tls, "endpoint"),
        probe("clock", "access", access_probes.clock, "tls"),
        probe("signature", "access", access_probes.signature, "tls"),
        probe("region", "access", access_probes.region, "tls"),
        probe("buckets", "lake", bucket_probes.buckets, "signature"),
        probe("list", "lake", bucket_probes.listing, "buckets"),
        probe("write", "lake", bucket_probes.write, "buckets"),
        probe("read", "lake", bucket_probes.read, "write"),
        probe("delete", "lake", bucket_probes.delete, "write"),
        probe("multipart", "lake", bucket_probes.multipart, "write"),
        probe("conditional create", "lake", bucket_probes.conditional_create, "write"),
        probe("versioning", "lake", bucket_probes.versioning, "buckets"),
        probe("leftovers", "lake", bucket_probes.leftovers, "list"),
    ]
