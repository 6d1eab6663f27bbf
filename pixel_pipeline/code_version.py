"""A digest of our own source, so that changed code computes again and unchanged code does not."""

from functools import cache
import hashlib
from importlib.util import find_spec
from pathlib import Path


@cache
def code_version(*packages: str) -> str:
    """Digest (16 hex digits) over the Python files of the named packages or modules, in the order of their paths."""
    digest = hashlib.sha256()
    for package in packages:
        spec = find_spec(package)
        if spec is None or spec.origin is None:
            raise ModuleNotFoundError(f"No module named {package!r}")
        origin = Path(spec.origin)
        root = origin.parent
        for path in sorted(root.rglob("*.py")) if origin.name == "__init__.py" else [origin]:
            digest.update(str(path.relative_to(root)).encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
