"""Searches for bytes that fail `target.check`, guided by coverage: `python -m pixel_pipeline_tests.fuzz [KIND] -max_total_time=60`.

Needs the extra `fuzz`. Arguments of libFuzzer may follow, such as a folder for the corpus, or a file with a failing input to run
again; KIND restricts inputs to one of `target.KINDS`.
"""

from pathlib import Path
import sys
import tempfile

import atheris

with atheris.instrument_imports(
    include=["pixel_pipeline.conversations", "pixel_pipeline.lake.loader.json_elements"]
):
    from pixel_pipeline_tests.fuzz.seeds import seeds
    from pixel_pipeline_tests.fuzz.target import KINDS, check


def main() -> None:
    arguments = sys.argv[1:]
    only = arguments.pop(0) if arguments and arguments[0] in KINDS else None
    with tempfile.TemporaryDirectory() as folder:
        for number, (kind, seed) in enumerate(seeds()):
            if only in (None, kind):
                Path(folder, f"{kind}-{number}").write_bytes(seed)
        inputs = [] if any(Path(argument).is_file() for argument in arguments) else [folder]
        atheris.Setup([sys.argv[0], "-max_len=65536", *arguments, *inputs], lambda data: check(data, only))
        atheris.Fuzz()


main()
