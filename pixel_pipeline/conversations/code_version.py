"""A digest of the converter's own source: when the code changes, objects are converted again."""

from functools import cache
from pathlib import Path

import xxhash


@cache
def code_version() -> str:
    """Returns xxh3-64 (16 hex digits) over the path and bytes of every module of this package, in path
    order."""
    package = Path(__file__).parent
    digest = xxhash.xxh3_64()
    for module in sorted(package.rglob("*.py"), key=lambda path: path.relative_to(package).as_posix()):
        source = module.read_bytes().replace(b"\r\n", b"\n")
        digest.update(f"{module.relative_to(package).as_posix()}:{len(source)}:".encode())
        digest.update(source)
    return digest.hexdigest()


CODE_VERSION = code_version()
