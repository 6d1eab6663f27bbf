"""Messages of a Pipes process arrive whole, however they are written."""

from pathlib import Path
from time import sleep
from typing import Any

import orjson

from pixel_pipeline.defs.training.messages import LineMessageReader


class Handler:
    def __init__(self) -> None:
        self.messages: list[Any] = []

    def handle_message(self, message: Any) -> None:
        self.messages.append(message)


def test_a_message_written_in_parts_is_read_as_one() -> None:
    plot = {"plot": "x" * 300_000}
    line = orjson.dumps(plot) + b"\n"
    handler = Handler()
    with (
        LineMessageReader().read_messages(handler) as parameters,
        Path(parameters["path"]).open("ab", buffering=0) as file,
    ):
        for start in range(0, len(line), 100_000):
            file.write(line[start : start + 100_000])
            sleep(0.1)
        file.write(b'{"last": 1}\n{"cut off')
    assert handler.messages == [plot, {"last": 1}]
