"""Write constraints.txt: every package of this environment, pinned."""

from importlib.metadata import distributions
from pathlib import Path

HEADER = """\
# What CI runs: every package, pinned. Renewed with `make constraints`.
# torch: the code runs on 2.11 and newer; a CPU build of this version suffices.
"""
OWN = {"pixel-pipeline", "pip", "setuptools", "wheel"}
# A local version such as +cpu names a build, which an index may not have.
pins = {
    d.name.lower().replace("_", "-"): d.version.split("+")[0]
    for d in distributions()
    if d.name.lower() not in OWN
}
target = Path(__file__).resolve().parent.parent / "constraints.txt"
target.write_text(HEADER + "".join(f"{name}=={version}\n" for name, version in sorted(pins.items())))
