"""Links from assets to their code: a page of the git host where the revision has been pushed, else the local file."""

from pathlib import Path
import re
import subprocess
from urllib.parse import urlsplit

import dagster as dg

from pixel_pipeline.settings import project_root

GIT_SECONDS = 5
HOSTS = ("github", "gitlab")
# git@host:owner/name.git
SCP_LIKE = re.compile(r"^(?:[^@/]+@)?([^:/]+):(?!//)(.+)$")


def link_to_code(definitions: dg.Definitions) -> dg.Definitions:
    """Add code references to every asset."""
    assets = [item for item in definitions.assets or [] if isinstance(item, dg.AssetsDefinition)]
    linked = dg.with_source_code_references(assets)
    root = project_root()
    remote = remote_page(root)
    if remote is not None:
        page, revision = remote
        linked = dg.link_code_references_to_git(
            linked,
            git_url=page,
            git_branch=revision,
            file_path_mapping=dg.AnchorBasedFilePathMapping(
                local_file_anchor=root, file_anchor_path_in_repository=""
            ),
        )
    references = {
        spec.key: spec.metadata["dagster/code_references"]
        for item in linked
        if isinstance(item, dg.AssetsDefinition)
        for spec in item.specs
    }
    return definitions.map_asset_specs(
        func=lambda spec: spec.merge_attributes(metadata={"dagster/code_references": references[spec.key]})
    )


def remote_page(root: Path) -> tuple[str, str] | None:
    """Web page of the git remote and the checked-out revision; None unless a branch of the remote contains it."""
    revision = _git(root, "rev-parse", "HEAD")
    url = _git(root, "remote", "get-url", "origin")
    page = None if url is None else web_page(url)
    if page is None or revision is None or not _git(root, "branch", "--remotes", "--contains", revision):
        return None
    return page, revision


def web_page(url: str) -> str | None:
    """The page of a remote on GitHub or GitLab, without credentials; None for other hosts."""
    scp_like = SCP_LIKE.match(url)
    if scp_like is not None:
        host, path = scp_like.groups()
    else:
        parts = urlsplit(url)
        host, path = parts.hostname or "", parts.path
    if not any(name in host for name in HOSTS):
        return None
    return f"https://{host}/{path.strip('/').removesuffix('.git')}"


def _git(root: Path, *arguments: str) -> str | None:
    """Output of a git command; None if it fails or git is not installed."""
    try:
        return subprocess.run(
            ["git", *arguments], cwd=root, capture_output=True, text=True, check=True, timeout=GIT_SECONDS
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
