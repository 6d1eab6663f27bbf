"""The shape of the code itself: who may import whom, and what is never used."""

import ast
from collections import Counter
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

import pixel_pipeline

PACKAGE = Path(pixel_pipeline.__file__).parent
LAYERS = (
    "errors",
    "settings",
    "lake",
    "sync",
    "sample",
    "conversations",
    "curation",
    "registry",
    "tokens",
    "training",
    "defs",
    "cli",
)
# Any layer may import these; they import only errors.
SHARED = {"compute", "files", "versions", "words"}
# The rooms of a layer. A room, or a module beside the rooms, imports only earlier ones.
ROOMS = {
    "lake": ("keys", "embedded", "s3", "lake", "raw", "tables", "memo", "inventory", "loader", "doctor"),
    "conversations": (
        "model",
        "text",
        "formats",
        "threads",
        "containers",
        "convert",
        "families",
        "quarantine",
        "work",
        "inspect",
    ),
    "training": (
        "errors",
        "config",
        "runtime",
        "data",
        "base",
        "checkpoints",
        "model",
        "loop",
        "inference",
        "evaluation",
        "export",
        "planning",
        "train",
        "promotion",
    ),
}
MOST_FILES = 15
MOST_LINES = 300
# A longer file gives its reason in its docstring, with one of these.
REASONS = ("one file", "over 300 lines")
# Keyword arguments that decide whether foreign data may run code.
WANTED_VALUES = {"weights_only": "True", "allow_pickle": "False", "trust_remote_code": "False"}
HEAVY = {"torch", "lightning", "transformers"}


class Import(NamedTuple):
    """One imported module, by its full name."""

    path: Path
    line: int
    module: str

    def __str__(self) -> str:
        return f"{self.path.relative_to(PACKAGE)}:{self.line} imports {self.module}"


def sources() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(path: Path) -> Iterator[Import]:
    """Every import, those inside functions too."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            for name in node.names:
                yield Import(path, node.lineno, name.name)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} is a relative import"
            assert node.module is not None
            # `from pixel_pipeline import lake` imports a module of ours by its last name.
            ours = node.module == "pixel_pipeline"
            for suffix in [f".{name.name}" for name in node.names] if ours else [""]:
                yield Import(path, node.lineno, node.module + suffix)


def _module(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def layer(path: Path) -> str:
    """`lake` for `lake/store.py`, `cli` for `cli.py`."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


ALL_IMPORTS = [found for path in sources() for found in imports(path)]


def test_the_package_is_looked_at() -> None:
    assert {*LAYERS, *SHARED, "__init__", "definitions"} == {layer(path) for path in sources()}
    assert len(ALL_IMPORTS) > 300


def test_no_module_imports_from_a_later_layer() -> None:
    wrong = []
    for found in ALL_IMPORTS:
        top, *rest = found.module.split(".")
        ours, imported = layer(found.path), rest[0] if rest else ""
        if top != "pixel_pipeline" or ours in {"definitions", "__init__"} or imported == ours:
            continue
        if imported in SHARED and ours not in SHARED:
            continue
        allowed = LAYERS[:1] if ours in SHARED else LAYERS[: LAYERS.index(ours)]
        if imported not in allowed:
            wrong.append(str(found))
    assert wrong == []


def test_no_room_imports_from_a_later_room() -> None:
    wrong = []
    for found in ALL_IMPORTS:
        top, *rest = found.module.split(".")
        ours = found.path.relative_to(PACKAGE).with_suffix("").parts
        if (
            top != "pixel_pipeline"
            or len(rest) < 2
            or len(ours) < 2
            or ours[0] != rest[0]
            or ours[0] not in ROOMS
        ):
            continue
        rooms = ROOMS[ours[0]]
        if ours[1] != "__init__" and rooms.index(rest[1]) > rooms.index(ours[1]):
            wrong.append(str(found))
    assert wrong == []


def test_no_import_circle() -> None:
    """Imports inside functions and for type checking count too."""
    modules = {_module(path) for path in sources()}
    edges: dict[str, set[str]] = {name: set() for name in modules}
    for path in sources():
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.ImportFrom) and node.module:
                names = {f"{node.module}.{name.name}" for name in node.names}
                edges[_module(path)] |= (names & modules) or ({node.module} & modules)
    for name, imported in edges.items():
        imported.discard(name)
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


def test_rooms_and_files_stay_small() -> None:
    folders = Counter(path.parent for path in sources() if path.name != "__init__.py")
    assert {str(folder): count for folder, count in folders.items() if count > MOST_FILES} == {}
    long = {
        str(path.relative_to(PACKAGE)): lines
        for path in sources()
        if (lines := len((text := path.read_text(encoding="utf-8")).splitlines())) > MOST_LINES
        and not any(reason in text[:1000].lower() for reason in REASONS)
    }
    assert long == {}


def test_dagster_is_the_face_not_the_brain() -> None:
    def faces(found: Import) -> bool:
        return layer(found.path) in {"defs", "definitions"}

    wrong = [
        str(found)
        for found in ALL_IMPORTS
        if (found.module.split(".")[0] in {"dagster", "dagster_aws"} and not faces(found))
        or (found.module.split(".")[0] == "dagster_pipes" and layer(found.path) not in {"training", "defs"})
        or (found.module.startswith("pixel_pipeline.defs") and not faces(found))
    ]
    assert wrong == []


def test_heavy_libraries_stay_in_training() -> None:
    wrong = [
        str(found)
        for found in ALL_IMPORTS
        if found.module.split(".")[0] in HEAVY and layer(found.path) != "training"
    ]
    assert wrong == []


def test_the_code_server_imports_no_heavy_module_of_ours() -> None:
    """What defs imports at module level must not import torch at module level, however many steps away."""

    def top_level(path: Path) -> set[str]:
        found = set()
        for node in tree(path).body:
            if isinstance(node, ast.Import):
                found |= {name.name for name in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found |= {node.module, *(f"{node.module}.{name.name}" for name in node.names)}
        return found

    def path_of(module: str) -> Path | None:
        if not module.startswith("pixel_pipeline."):
            return None
        base = PACKAGE.parent / module.replace(".", "/")
        return next(
            (path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()), None
        )

    seen: set[Path] = set()
    waiting = [path for path in sources() if layer(path) in {"defs", "definitions", "cli"}]
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        imported = top_level(path)
        assert not {module.split(".")[0] for module in imported} & HEAVY, path.relative_to(PACKAGE)
        waiting += [target for module in imported if (target := path_of(module)) is not None]
    assert len(seen) > 30


def test_nothing_unpickles() -> None:
    """A pickle from a bucket is code from a bucket."""
    wrong = [
        str(found)
        for found in ALL_IMPORTS
        if found.module.split(".")[0] in {"pickle", "cloudpickle", "dill", "shelve", "marshal", "joblib"}
    ]
    for path in sources():
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Attribute) and node.attr == "load" and ast.unparse(node.value) == "torch":
                wrong.append(f"{path}:{node.lineno} torch.load")
            if isinstance(node, ast.keyword) and node.arg in WANTED_VALUES:
                value = ast.unparse(node.value)
                if value != WANTED_VALUES[node.arg]:
                    wrong.append(f"{path}:{node.lineno} {node.arg}={value}")
    assert wrong == []


@pytest.mark.parametrize(
    "word", ["verify=False", "CERT_NONE", "allow_invalid_certificates", "--no-check-certificate"]
)
def test_tls_verification_is_never_off(word: str) -> None:
    assert [str(path) for path in sources() if word in path.read_text(encoding="utf-8")] == []
