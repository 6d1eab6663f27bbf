"""Records that hold several conversations: `{"conversations": [session, session, …], …}`."""

from typing import Any, NamedTuple

from pixel_pipeline.conversations.formats import find_format

_SESSION_KEYS = (
    "conversations",
    "sessions",
    "dialogues",
    "dialogs",
    "data",
    "records",
    "examples",
    "items",
    "rows",
)
_LOOKED_AT = 20
_SMALL = (str, int, float, bool, type(None))
_LONGEST_SHARED = 256


class Sessions(NamedTuple):
    """The conversations of one record, and what stands beside them.

    Attributes:
        values: One record each.
        shared: Short scalars beside them: they describe every session.
        rest: Everything else beside them: kept once, with the first session.
    """

    values: list[Any]
    shared: dict[str, Any]
    rest: dict[str, Any]

    def context_of(self, index: int, outer: dict[str, Any] | None = None) -> dict[str, Any] | None:
        """Returns what the metadata of one session gets from its surroundings."""
        context = dict(outer or {})
        if self.shared or (self.rest and index == 0):
            context["document"] = {**self.shared, **self.rest} if index == 0 else self.shared
        return context or None


def sessions_of(value: Any) -> Sessions | None:
    """Returns the sessions of a record that no format matches as a whole; None where it holds none."""
    if not isinstance(value, dict):
        return None
    for key in _SESSION_KEYS:
        values = value.get(key)
        if not isinstance(values, list):
            continue
        if any(isinstance(item, dict | list) and find_format(item) for item in values[:_LOOKED_AT]):
            shared: dict[str, Any] = {}
            rest: dict[str, Any] = {}
            for name, item in value.items():
                if name == key:
                    continue
                short = isinstance(item, _SMALL) and not (
                    isinstance(item, str) and len(item) > _LONGEST_SHARED
                )
                (shared if short else rest)[name] = item
            return Sessions(values, shared, rest)
    return None
