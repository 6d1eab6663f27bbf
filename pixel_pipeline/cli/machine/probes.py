"""Probes of the machine: rclone, Ray, GPU, disk, Dagster's instance, versions.

Probes that import torch or Dagster run in a process of their own.
"""

from functools import partial
from importlib.metadata import PackageNotFoundError, version
import json
import os
from pathlib import Path
import platform
import re
import shutil
import subprocess
import sys
from typing import Any

from pixel_pipeline.errors import PixelError
from pixel_pipeline.lake.doctor.probing import Finding, Probe, fail, ok, skip, warn
from pixel_pipeline.settings import Settings
from pixel_pipeline.words import counted

PACKAGES = ("dagster", "obstore", "deltalake", "pyarrow", "boto3")
RCLONE_SECONDS = 30
# Importing torch or Dagster takes long on a busy machine.
IMPORT_SECONDS = 90
COMFORTABLE_FREE_BYTES = 5 * 1024**3
# rclone: "failed with a source that was not found", for directories and for files.
NOT_FOUND_EXIT_CODES = (3, 4)


def machine_probes(settings: Settings) -> list[Probe]:
    """All probes of the machine, in the order they are shown."""
    rclone_probe, ray_probe, *instance = settingless_probes()
    return [
        rclone_probe,
        Probe("drive", "sync", partial(drive, settings), needs=("rclone",), seconds=RCLONE_SECONDS + 5),
        Probe("gpu", "compute", partial(gpu, settings), seconds=IMPORT_SECONDS + 5),
        ray_probe,
        Probe("disk", "instance", partial(disk, settings)),
        *instance,
    ]


def settingless_probes() -> list[Probe]:
    """The probes that work even if the settings are wrong."""
    return [
        Probe("rclone", "sync", rclone, seconds=RCLONE_SECONDS + 5),
        Probe("ray", "compute", ray),
        Probe("dagster", "instance", dagster_instance, seconds=IMPORT_SECONDS + 5),
        Probe("versions", "instance", versions),
    ]


def rclone() -> Finding:
    """Check that the binary is installed and runs."""
    done = _run([_binary("rclone"), "version"], seconds=RCLONE_SECONDS)
    found = re.match(r"rclone (v\S+)", done.stdout)
    if done.returncode != 0 or found is None:
        return fail("the rclone binary does not run", "Run `make setup`.")
    return ok(found.group(1))


def drive(settings: Settings) -> Finding:
    """Check that the source of the sync can be listed."""
    source = settings.drive_source
    if settings.drive_remote is None and not Path(source).is_dir():
        return skip(
            "no remote is set and there is no sample Drive yet",
            "Write one with `pixel sample`, or set PIXEL_DRIVE_REMOTE.",
        )
    # rclone's output and configuration can hold a token, so neither is shown.
    command = [
        _binary("rclone"),
        "lsf",
        "--max-depth=1",
        "--retries=1",
        "--low-level-retries=2",
        "--contimeout=5s",
    ]
    done = _run([*command, "--", source], seconds=RCLONE_SECONDS)
    if done.returncode == 0:
        return ok(f"{source}: {counted(len(done.stdout.splitlines()), 'entry')} at the top level")
    if "didn't find section in config file" in done.stderr:
        return fail(
            f"{source}: rclone has no remote of this name",
            "Configure it with `rclone config` or RCLONE_CONFIG_<NAME>_* variables. The name is PIXEL_DRIVE_REMOTE up to the colon.",
        )
    if done.returncode in NOT_FOUND_EXIT_CODES:
        return fail(f"{source}: no such folder", "Correct PIXEL_DRIVE_REMOTE.")
    return fail(
        f"{source} cannot be listed (rclone exit code {done.returncode})",
        f"Run `rclone lsf --max-depth 1 {source}` to see the reason; an expired token is the most common.",
    )


def gpu(settings: Settings) -> Finding:
    """Check for the device that the profile trains on."""
    torch = _installed("torch")
    if torch is None:
        found, fix = "torch is not installed: training cannot run here", "Run `pip install -e '.[train]'`."
        return fail(found, fix) if settings.profile != "demo" else warn(found, fix)
    if settings.profile == "demo":
        return ok(f"none needed: profile demo trains on the CPU, torch {torch}")
    report = _report("pixel_pipeline.training.runtime.device_report")
    cards = [
        f"{card['name']}, {card['memory_bytes'] / 1e9:.0f} GB, compute capability {'.'.join(map(str, card['capability']))}"
        for card in report["gpus"]
    ]
    # The trainer's own requirement: Hopper or later.
    if any(card["capability"] >= [9, 0] for card in report["gpus"]):
        return ok(f"{'; '.join(cards)}; torch {torch}")
    return fail(
        f"profile {settings.profile} needs an NVIDIA H100; found: {'; '.join(cards) or 'no CUDA device'}",
        "Run it where the GPU is, or set PIXEL_PROFILE=demo to train the nano model on the CPU.",
    )


def ray() -> Finding:
    """Check for Ray, which is needed only where work is spread over machines."""
    installed = _installed("ray")
    if installed is not None:
        return ok(f"{installed} installed")
    if os.environ.get("PIXEL_COMPUTE") == "ray":
        return fail("PIXEL_COMPUTE is ray, but Ray is not installed", "Run `pip install -e '.[ray]'`.")
    return skip("not installed, and not needed: PIXEL_COMPUTE is not ray")


def disk(settings: Settings) -> Finding:
    """Check the free space at PIXEL_HOME."""
    # It may not exist yet; its nearest parent is on the same disk.
    folder = next(path for path in (settings.home, *settings.home.parents) if path.exists())
    if not os.access(folder, os.W_OK):
        return fail(f"{folder} cannot be written to", "Set PIXEL_HOME to a folder that you may write to.")
    free = shutil.disk_usage(folder).free
    found = f"{free / 1024**3:,.1f} GiB free at {settings.home}"
    if free < settings.min_free_bytes:
        return fail(found, "Free some space, or set PIXEL_HOME to a folder on a larger disk.")
    if free < COMFORTABLE_FREE_BYTES:
        return warn(found, "The embedded server, caches and checkpoints are stored there: free some space.")
    return ok(found)


def dagster_instance() -> Finding:
    """Check that Dagster's instance loads and its storage answers."""
    home = os.environ.get("DAGSTER_HOME")
    activate = "Run `. .venv/bin/activate`, which sets it."
    if home is None:
        return warn("DAGSTER_HOME is not set: runs started here would not be recorded", activate)
    if not (Path(home) / "dagster.yaml").is_file():
        return fail(f"DAGSTER_HOME is {home}, which has no dagster.yaml", activate)
    report = _report("pixel_pipeline.defs.instance_report")
    daemon = "running" if report["healthy_daemons"] else "not running"
    found = f"{report['storage']} storage, {counted(report['runs'], 'run')}, {report['compute_logs']} compute logs, daemon {daemon}"
    if not report["compute_logs_work"]:
        return fail(
            f"{found}; a compute log reads back differently than written",
            "Check `compute_logs` in dagster.yaml.",
        )
    return ok(found)


def versions() -> Finding:
    """Show the versions of Python and of the packages that access the lake."""
    packages = ", ".join(f"{name} {_installed(name) or 'missing'}" for name in PACKAGES)
    return ok(f"Python {platform.python_version()}, {packages}")


def _report(module: str) -> dict[str, Any]:
    done = _run([sys.executable, "-W", "ignore", "-m", module], seconds=IMPORT_SECONDS)
    if done.returncode != 0:
        # A traceback may quote connection strings, so only the error type and missing names are shown.
        signs = (
            (r"environment variable \"(\w+)\"", "{} is not set"),
            (r"No module named '([\w.]+)'", "the module {} is not installed"),
            (r"^(?:\w+\.)*(\w*(?:Error|Exception))\b", "{}"),
        )
        reasons = (
            meaning.format(found[-1])
            for sign, meaning in signs
            if (found := re.findall(sign, done.stderr, re.M))
        )
        why = next(reasons, "no reason given")
        raise PixelError(
            f"{module.rsplit('.', 1)[1]} failed with exit code {done.returncode}: {why}",
            hint=f"Run `python -m {module}` to see the whole error.",
        )
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return report


def _run(command: list[str], *, seconds: float) -> "subprocess.CompletedProcess[str]":
    try:
        return subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise PixelError(
            f"no answer within {seconds:.0f} s",
            hint="Check the network, and try again when the machine is less busy.",
        ) from None


def _binary(name: str) -> str:
    # Wheels install their binaries beside Python, which may not be on the PATH.
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    found = shutil.which(name, path=path)
    if found is None:
        raise PixelError(f"the {name} binary is not installed", hint="Run `make setup`.")
    return found


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
