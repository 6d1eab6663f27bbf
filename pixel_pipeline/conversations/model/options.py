"""How a rule of families.yaml may change the conversion of the objects it matches."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class ConversionOptions:
    """How objects are read, what counts as a conversation, and how much of an object may be bad.

    Attributes:
        container: Name of the container (`containers.known.CONTAINERS`) that reads the objects. None: their content decides.
            Objects are still unpacked and archives opened: the name applies to the members.
        encoding: Python's name of their text encoding. None: their content decides.
        format: Name of the one format (`formats.known.FORMATS`) of their records. None: each record decides.
        one_sided: Whether a conversation in which only the user or only the assistant speaks is quarantined.
        reasoning: `apart` keeps the chain of thought in its own column; `think` puts it into the last answer as
            `<think>…</think>` and leaves the column null.
        longest: Maximum characters of a conversation, all turns together; a longer one is quarantined as `too_long`, never
            truncated. None: no limit.
        max_bad_share: Share of an object's records that may be quarantined, from 0 to 1.
        max_bad_run: Number of records in a row that may be quarantined.
    """

    container: str | None = None
    encoding: str | None = None
    format: str | None = None
    one_sided: Literal["quarantine", "keep"] = "quarantine"
    reasoning: Literal["apart", "think"] = "apart"
    longest: int | None = None
    max_bad_share: float = 0.5
    max_bad_run: int = 1_000


DEFAULT_OPTIONS = ConversionOptions()
