"""The executor chosen in the settings; Ray is imported only if needed."""

from importlib.machinery import ModuleSpec
import subprocess
import sys

import pytest

from pixel_pipeline.compute import opening
from pixel_pipeline.compute.opening import open_executor
from pixel_pipeline.errors import SettingsError

ASSET_GRAPH = """
import sys
import pixel_pipeline.definitions
from pixel_pipeline.defs.resources import LakeResource

pixel_pipeline.definitions.defs()
with LakeResource().executor() as executor:
    assert [*executor.map(abs, [-1])] == [1]
print(type(executor).__name__, "ray" in sys.modules)
"""


@pytest.mark.parametrize(("compute", "name"), [("local", "LocalExecutor"), ("ray", "RayExecutor")])
def test_ray_is_not_imported_before_its_first_task(
    monkeypatch: pytest.MonkeyPatch, compute: str, name: str
) -> None:
    monkeypatch.setenv("PIXEL_COMPUTE", compute)
    done = subprocess.run([sys.executable, "-c", ASSET_GRAPH], capture_output=True, text=True, check=True)
    assert done.stdout == f"{name} False\n"


@pytest.mark.parametrize("found", [None, ModuleSpec("ray", None)], ids=["nothing", "a folder named ray"])
def test_a_missing_ray_is_an_error_with_the_install_command(
    monkeypatch: pytest.MonkeyPatch, found: ModuleSpec | None
) -> None:
    monkeypatch.setattr(opening, "find_spec", lambda name: found)
    with pytest.raises(SettingsError, match=r"pip install -e '\.\[ray\]'"):
        open_executor(kind="ray", workers=2)
    assert open_executor(kind="local", workers=2).workers == 2


def test_an_unknown_kind_is_rejected() -> None:
    with pytest.raises(SettingsError, match="local or ray"):
        open_executor(kind="dask", workers=2)
