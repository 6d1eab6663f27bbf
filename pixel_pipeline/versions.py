"""Versions of the libraries that results depend on, recorded beside the results."""

from importlib.metadata import version


def library_versions(*names: str) -> dict[str, str]:
    """Installed version of each library. Raises PackageNotFoundError where one is missing."""
    return {name: version(name) for name in names}
