from collections.abc import Callable
from typing import Any

import pytest

from pixel_pipeline.conversations.formats.known import find_format
from pixel_pipeline.conversations.model.records import Parsed, RecordError


@pytest.fixture
def parse() -> Callable[[Any], Parsed]:
    def parse_record(record: Any) -> Parsed:
        found = find_format(record)
        assert found is not None
        return found.convert(record)

    return parse_record


@pytest.fixture
def refuse(parse: Callable[[Any], Parsed]) -> Callable[[Any], RecordError]:
    def refuse_record(record: Any) -> RecordError:
        with pytest.raises(RecordError) as caught:
            parse(record)
        return caught.value

    return refuse_record
