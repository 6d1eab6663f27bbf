"""A lake that changes, and a real Dagster instance that follows it."""

from dataclasses import dataclass
import json

import dagster as dg

from pixel_pipeline.defs.resources import LakeResource
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline_tests.defs.loaded import defs


def sensor(name: str) -> dg.SensorDefinition:
    """A sensor of the project."""
    (found,) = [item for item in defs.sensors or [] if item.name == name]
    assert isinstance(found, dg.SensorDefinition)
    return found


@dataclass
class Scenario:
    """One lake with one instance."""

    lake: Lake
    instance: dg.DagsterInstance

    def put(self, key: str, question: str) -> None:
        """One conversation in one raw object."""
        messages = [
            {"role": "user", "content": question},
            {"role": "assistant", "content": f"About {question}?"},
        ]
        self.lake.data.put(key, json.dumps({"messages": messages}).encode() + b"\n")

    def run(self, job: str, *, succeeds: bool = True) -> dg.ExecuteInProcessResult:
        """Run a job to its end."""
        result = defs.resolve_job_def(job).execute_in_process(instance=self.instance, raise_on_error=False)
        assert result.success == succeeds
        return result

    def tick(self, cursor: str | None) -> dg.SensorResult | dg.SkipReason:
        """One evaluation of the sensor `raw_changes`, in our own process."""
        context = dg.build_sensor_context(
            instance=self.instance, cursor=cursor, resources={"lake": LakeResource()}
        )
        result = sensor("raw_changes")(context)
        assert isinstance(result, dg.SensorResult | dg.SkipReason)
        return result

    def start(self, request: dg.RunRequest) -> dg.ExecuteInProcessResult:
        """What the daemon does with a request of the sensor."""
        job = defs.resolve_implicit_global_asset_job_def()
        result = job.execute_in_process(
            instance=self.instance,
            asset_selection=[dg.AssetKey("conversations")],
            partition_key=request.partition_key,
            tags=request.tags,
        )
        assert result.success
        return result
