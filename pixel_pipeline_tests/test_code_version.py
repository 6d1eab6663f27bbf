from pathlib import Path

import pytest

from pixel_pipeline.code_version import code_version


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "some_package"
    (folder / "inner").mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "inner" / "__init__.py").write_text("")
    (folder / "inner" / "module.py").write_text("x = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    return folder


def _fresh() -> str:
    code_version.cache_clear()
    return code_version("some_package")


def test_it_changes_with_any_module_and_only_then(package: Path) -> None:
    before = _fresh()
    assert _fresh() == before
    (package / "notes.txt").write_text("not code")
    assert _fresh() == before
    (package / "inner" / "module.py").write_text("x = 2\n")
    assert _fresh() != before


def test_it_changes_when_a_module_moves(package: Path) -> None:
    before = _fresh()
    (package / "inner" / "module.py").rename(package / "inner" / "other.py")
    assert _fresh() != before


def test_one_module_can_be_named(package: Path) -> None:
    before = code_version("some_package.inner.module")
    (package / "inner" / "__init__.py").write_text("y = 1\n")
    code_version.cache_clear()
    assert code_version("some_package.inner.module") == before
