"""YAML files with settings of a run. Torch-free."""

from pathlib import Path
from typing import Any

import yaml

from pixel_pipeline.training.errors import TrainingConfigError


def read_yaml(path: Path) -> tuple[Any, yaml.Node | None]:
    """The content of a YAML file, {} if it is empty, and its syntax tree for `line_of`.

    Raises:
        TrainingConfigError: the file cannot be read or is not YAML; the message names the line.
    """
    try:
        text = path.read_text(encoding="utf-8")
        content = yaml.safe_load(text)
        return {} if content is None else content, yaml.compose(text, Loader=yaml.SafeLoader)
    except OSError:
        raise TrainingConfigError(
            f"{path} does not exist or cannot be read.", hint="Give the path of a readable YAML file."
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" near line {mark.line + 1}" if mark else ""
        raise TrainingConfigError(f"{path} is not valid YAML{where}.", hint="Correct the file.") from None


def line_of(node: yaml.Node | None, location: tuple[int | str, ...]) -> int:
    """Line, from 1, of a field, or of its innermost existing parent."""
    line = 0
    for part in location:
        if isinstance(node, yaml.MappingNode):
            pair = next((pair for pair in node.value if pair[0].value == str(part)), None)
            if pair is None:
                break
            line, node = pair[0].start_mark.line, pair[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line
        else:
            break
    return line + 1
