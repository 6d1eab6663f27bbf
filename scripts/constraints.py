"""Write constraints.txt: every package of this environment, pinned."""

from importlib.metadata import distributions
from pathlib import Path

HEADER = """\
# The versions used in CI: every package, pinned. Update with `make constraints`.
# The code runs on torch 2.11 and newer; a CPU build of this version suffices.
"""
OWN = {"pixel-pipeline", "pip", "setuptools", "wheel"}
# Drop local versions such as +cpu: the index may not have that build.
pins = {
    d.name.lower().replace("_", "-"): d.version.split("+")[0]
    for d in distributions()
    if d.name.lower() not in OWN
}
target = Path(__file__).resolve().parent.parent / "constraints.txt"
target.write_text(HEADER + "".join(f"{name}=={version}\n" for name, version in sorted(pins.items())))
