"""Records of one byte range of an object."""

from collections.abc import Generator, Iterator

from pixel_pipeline.conversations.model.records import Item


class Range:
    """Records from a record boundary on, to the end of a range. To be iterated once.

    Where an object is cut before it is known what its bytes mean, a cut may lie within a record: the range before it tells.

    Args:
        items: The records; what the generator returns is `ends_at_boundary`.

    Attributes:
        ends_at_boundary: Whether the range ended where a record ends. Known once all records were taken.
    """

    def __init__(self, items: Generator[Item, None, bool]) -> None:
        self._items = items
        self.ends_at_boundary = False

    def __iter__(self) -> Iterator[Item]:
        self.ends_at_boundary = yield from self._items
