"""The asset `token_shards` is made once for its inputs, and again when they change."""

from collections.abc import Iterator

import dagster as dg
import pytest

from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.tokens.shards import ShardManifest, current_manifest_key
from pixel_pipeline_tests.defs.scenario import Scenario
from pixel_pipeline_tests.tokens.base_files import put_base


@pytest.fixture
def scenario(lake: Lake) -> Iterator[Scenario]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield Scenario(lake, instance)


def test_a_base_model_is_chosen_by_the_settings(scenario: Scenario, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(40):
        scenario.put(f"gdrive/raw/Calm/{number}.jsonl", f"sleep number {number}")

    def made() -> tuple[ShardManifest, bool]:
        (event,) = scenario.run("prepare_data").asset_materializations_for_node("token_shards")
        manifest = ShardManifest.load(scenario.lake.data, current_manifest_key(scenario.lake.data))
        return manifest, bool(event.metadata["reused"].value)

    own, reused = made()
    assert (own.base, own.sequence_length, reused) == (None, 512, False)
    first = put_base(scenario.lake, name="tiny", kind="llama3")
    monkeypatch.setenv("PIXEL_BASE_MODEL", "tiny")
    monkeypatch.setenv("PIXEL_SEQUENCE_LENGTH", "64")
    manifest, reused = made()
    assert (manifest.base, manifest.base_digest, manifest.sequence_length) == ("tiny", first.digest, 64)
    assert not reused
    assert made() == (manifest, True)
    second = put_base(scenario.lake, name="tiny", kind="llama3", config=b'{"a": 1}')
    manifest, reused = made()
    assert (manifest.base_digest, reused) == (second.digest, False)
