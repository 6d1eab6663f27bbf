"""Golden results: what each recipe makes of fixed input.

A recipe's version names its results in the lake. A change that alters results has to raise the version, or old and new results are
taken for the same. After raising it, record the new results:

    PIXEL_UPDATE_GOLDEN=1 pytest pixel_pipeline_tests/golden
"""

import hashlib
import os
from pathlib import Path
from typing import Any

import orjson
import pytest

FOLDER = Path(__file__).parent / "results"


def digest(value: Any) -> str:
    """Digest (16 hex digits) of JSON-like content."""
    return hashlib.sha256(orjson.dumps(value, option=orjson.OPT_SORT_KEYS, default=repr)).hexdigest()[:16]


def check(recipe: str, results: dict[str, Any], *, libraries: dict[str, str] | None = None) -> None:
    """Compare results with those recorded for the recipe's version.

    Args:
        recipe: Its version, `<name>-<number>`.
        results: By the name of the input; floats are compared to 1 in 1,000, all else exactly.
        libraries: Versions that results may depend on. With others than the recorded ones, nothing can be said.
    """
    path = FOLDER / f"{recipe.rsplit('-', 1)[0]}.json"
    found = {"recipe": recipe, "libraries": libraries or {}, "results": results}
    if os.environ.get("PIXEL_UPDATE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(orjson.dumps(found, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS) + b"\n")
    recorded = orjson.loads(path.read_bytes())
    if recorded["recipe"] != recipe:
        pytest.fail(
            f"Results are recorded for {recorded['recipe']}: record those of {recipe} (see {__name__})."
        )
    if recorded["libraries"] != found["libraries"]:
        pytest.skip(f"recorded with {recorded['libraries']}")
    changed = [
        name
        for name in results.keys() | recorded["results"].keys()
        if not _same(name, results, recorded["results"])
    ]
    assert not changed, (
        f"{recipe} gives other results: raise its version, or undo the change. Changed: {sorted(changed)}"
    )


def _same(name: str, results: dict[str, Any], recorded: dict[str, Any]) -> bool:
    if name not in results or name not in recorded:
        return False
    value, old = results[name], recorded[name]
    if isinstance(value, list) and all(isinstance(item, float) for item in value):
        return bool(value == pytest.approx(old, rel=1e-3))
    return bool(value == old)
