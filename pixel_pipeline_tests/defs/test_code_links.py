"""Links from assets to their code."""

from pathlib import Path
import subprocess

import dagster as dg
import pytest

from pixel_pipeline.defs import code_links
from pixel_pipeline.defs.code_links import link_to_code, remote_page, web_page
from pixel_pipeline_tests.defs.loaded import defs


@pytest.mark.parametrize(
    ("url", "page"),
    [
        ("git@github.com:team/pixel.git", "https://github.com/team/pixel"),
        ("https://user:planted@github.com/team/pixel.git", "https://github.com/team/pixel"),
        ("ssh://git@gitlab.example.org:2222/team/pixel", "https://gitlab.example.org/team/pixel"),
        ("/srv/git/pixel.git", None),
        ("https://git.example.org/team/pixel", None),
    ],
)
def test_the_page_of_a_remote(url: str, page: str | None) -> None:
    assert web_page(url) == page


def test_a_revision_has_a_page_once_it_is_pushed(tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        who = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        return subprocess.run(
            ["git", *who, *arguments], cwd=tmp_path, capture_output=True, text=True, check=True
        ).stdout.strip()

    assert remote_page(tmp_path) is None
    git("init", "-q")
    git("commit", "-q", "--allow-empty", "-m", "one")
    git("remote", "add", "origin", "git@github.com:team/pixel.git")
    assert remote_page(tmp_path) is None
    git("update-ref", "refs/remotes/origin/main", "HEAD")
    assert remote_page(tmp_path) == ("https://github.com/team/pixel", git("rev-parse", "HEAD"))


def test_a_pushed_revision_is_linked_with_file_and_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code_links, "remote_page", lambda root: ("https://github.com/team/pixel", "abc"))
    from pixel_pipeline.defs.registry.assets import dataset_registry

    (asset,) = link_to_code(dg.Definitions([dataset_registry])).assets or []
    assert isinstance(asset, dg.AssetsDefinition)
    (spec,) = asset.specs
    (reference,) = spec.metadata["dagster/code_references"].code_references
    page = "https://github.com/team/pixel/tree/abc/pixel_pipeline/defs/registry/assets.py#L"
    assert reference.source.startswith(page)


def test_without_a_page_the_local_file_is_linked() -> None:
    spec = defs.resolve_asset_graph().get(dg.AssetKey("curated"))
    (reference, *_) = spec.metadata["dagster/code_references"].code_references
    assert "pixel_pipeline/defs/curation/assets.py" in reference.source
