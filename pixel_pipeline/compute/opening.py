"""Open the executor chosen in the settings."""

from collections.abc import Mapping
from importlib.util import find_spec

from pixel_pipeline.compute.executor import Executor
from pixel_pipeline.compute.local import LocalExecutor
from pixel_pipeline.errors import SettingsError


def open_executor(
    *, kind: str, workers: int, ray_address: str | None = None, environment: Mapping[str, str] | None = None
) -> Executor:
    """Return an executor; it starts nothing before its first task.

    Args:
        kind: `local` or `ray`.
        workers: Processes on this machine; a Ray cluster uses all its CPUs.
        ray_address: Address of a running Ray cluster; without it, `ray` starts one on this machine.
        environment: Environment variables of Ray's workers, none of them secret. Local workers inherit this process's.

    Raises:
        SettingsError: Ray is not installed, or `kind` is unknown.
    """
    if kind == "local":
        return LocalExecutor(workers=workers)
    if kind != "ray":
        raise SettingsError(f"PIXEL_COMPUTE is {kind!r}.", hint="Set it to local or ray.")
    spec = find_spec("ray")
    # A spec without an origin is just a folder named `ray`, such as the one that Ray leaves in /tmp.
    if spec is None or spec.origin is None:
        raise SettingsError(
            "PIXEL_COMPUTE=ray, but Ray is not installed.",
            hint="pip install -e '.[ray]', or set PIXEL_COMPUTE=local.",
        )
    from pixel_pipeline.compute.ray_executor import RayExecutor

    return RayExecutor(workers=workers, address=ray_address, environment=environment)
