"""The executor that the settings ask for."""

from collections.abc import Mapping
from importlib.util import find_spec

from pixel_pipeline.compute.executor import Executor
from pixel_pipeline.compute.local import LocalExecutor
from pixel_pipeline.errors import SettingsError


def open_executor(
    *, kind: str, workers: int, ray_address: str | None = None, environment: Mapping[str, str] | None = None
) -> Executor:
    """An executor that has started nothing yet.

    Args:
        kind: `local` or `ray`.
        workers: Processes of this machine; a cluster has as many as CPUs.
        ray_address: Of a running Ray cluster; without it, `ray` starts one on this machine.
        environment: Variables of Ray's workers, none of them secret. Local workers inherit this process's.

    Raises:
        SettingsError: Ray is asked for and not installed, or `kind` is unknown.
    """
    if kind == "local":
        return LocalExecutor(workers=workers)
    if kind != "ray":
        raise SettingsError(f"PIXEL_COMPUTE is {kind!r}.", hint="Set it to local or ray.")
    spec = find_spec("ray")
    # Without an origin it is some folder named `ray`, such as the one Ray itself leaves in /tmp.
    if spec is None or spec.origin is None:
        raise SettingsError(
            "PIXEL_COMPUTE=ray, but Ray is not installed.",
            hint="pip install -e '.[ray]', or set PIXEL_COMPUTE=local.",
        )
    from pixel_pipeline.compute.ray_executor import RayExecutor

    return RayExecutor(workers=workers, address=ray_address, environment=environment)
