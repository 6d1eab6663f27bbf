"""What a rule of families.yaml may say about the objects it matches, besides where they belong."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class ConversionOptions:
    """How objects are read, what counts as a conversation, and how much of an object may be bad.

    Attributes:
        container: Name of the container (`containers.CONTAINERS`) that reads them, whatever their content looks like; None:
            their content decides. Packings are taken off and archives opened all the same: it is meant for their members.
        encoding: Python's name of the encoding of their text; None: their content decides.
        format: Name of the one format (`formats.FORMATS`) that their records have; None: each record decides.
        one_sided: What becomes of conversations in which only the user or only the assistant speaks.
        reasoning: `apart`: in its own column; `think`: as `<think>…</think>` in front of the last answer, the column is null.
        longest: Characters that the turns of a conversation may have together; one that is longer is quarantined as
            `too_long`, never cut. None: any length.
        max_bad_share: Share of an object's records that may go to quarantine, from 0 to 1.
        max_bad_run: How many records in a row may go there.
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
