"""The git commit of the code. Torch-free."""

import subprocess

from pixel_pipeline.settings import project_root


def git_revision() -> str:
    """Commit of the checkout, with `-dirty` if files differ from it; `unknown` outside a checkout."""
    try:
        revision = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"],
            cwd=project_root(),
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (FileNotFoundError, subprocess.CalledProcessError):
        return "unknown"
    return revision
