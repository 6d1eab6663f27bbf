"""Parses `read` and `budget` of a rule in families.yaml into ConversionOptions."""

import codecs
from collections.abc import Callable, Iterable
from typing import Any

from pixel_pipeline.conversations.containers.known import CONTAINERS
from pixel_pipeline.conversations.formats.known import FORMATS
from pixel_pipeline.conversations.model.options import ConversionOptions
from pixel_pipeline.errors import PixelError


class FamilyConfigError(PixelError):
    """families.yaml is missing, is not YAML, or has an invalid rule; the message names the file and the rule."""


class _InvalidValue(Exception):
    """An invalid value of a setting; the message describes valid values."""


def parse_options(rule: dict[str, Any], where: str) -> ConversionOptions:
    """Return the options of a rule.

    Args:
        rule: The rule as parsed from YAML.
        where: File and number of the rule, for errors.

    Raises:
        FamilyConfigError: A setting is unknown or has an invalid value.
    """
    given: dict[str, Any] = {}
    for part, settings in (("read", _READ), ("budget", _BUDGET)):
        values = rule.get(part)
        if values is None:
            continue
        if not isinstance(values, dict):
            raise FamilyConfigError(
                f"{where}: `{part}` is not a mapping.", hint=f"It has: {', '.join(settings)}."
            )
        for name, value in values.items():
            if name not in settings:
                raise FamilyConfigError(
                    f"{where}: `{part}` has no setting {name!r}.", hint=f"It has: {', '.join(settings)}."
                )
            if value is None:
                continue  # keep the default
            try:
                given[name] = settings[name](value)
            except _InvalidValue as error:
                raise FamilyConfigError(
                    f"{where}: `{part}.{name}` is {value!r}.", hint=f"Give {error}."
                ) from None
    return ConversionOptions(**given)


def _one_of(*names: str) -> Callable[[Any], str]:
    def parse(value: Any) -> str:
        if not isinstance(value, str) or value not in names:
            raise _InvalidValue(f"one of {', '.join(names)}")
        return value

    return parse


def _names(kinds: Iterable[Any]) -> list[str]:
    return [kind.name for kind in kinds]


def _encoding(value: Any) -> str:
    try:
        name = codecs.lookup(value).name
        codecs.getincrementaldecoder(name)
        # Refuse Python codecs that do not encode text, such as `hex`.
        "a".encode(name)
    except (LookupError, TypeError, ValueError):
        raise _InvalidValue("the name of a text encoding, such as utf-8, utf-16, cp1252 or gb18030") from None
    return name


def _count(value: Any) -> int:
    if type(value) is not int or value < 1:
        raise _InvalidValue("a whole number above 0")
    return value


def _share(value: Any) -> float:
    if type(value) not in (int, float) or not 0 <= value <= 1:
        raise _InvalidValue("a share from 0 to 1, such as 0.05")
    return float(value)


_READ: dict[str, Callable[[Any], Any]] = {
    "container": _one_of(*_names(CONTAINERS)),
    "encoding": _encoding,
    "format": _one_of(*_names(FORMATS)),
    "one_sided": _one_of("quarantine", "keep"),
    "reasoning": _one_of("apart", "think"),
    "longest": _count,
}
_BUDGET: dict[str, Callable[[Any], Any]] = {"max_bad_share": _share, "max_bad_run": _count}
