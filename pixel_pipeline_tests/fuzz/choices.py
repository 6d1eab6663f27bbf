"""Choices derived from bytes: equal bytes make equal choices, and changing one byte changes one choice."""

from collections.abc import Sequence
from typing import TypeVar

_T = TypeVar("_T")
_PIECES = (
    "", " ", "hello", "你好。", "Therapist: ", "Client: ", "来访者：", "支持者：", "Human:", "\n\nHuman: ", "\n\nAssistant: ", "Mum: ",
    "\n", "\r", "\t", "\0", "\u200b", "\ufeff", "\x85", "\ud800", "😀", "é", "â€™", "Ã©", "&amp;", "&#x110000;", "&amp;amp;lt;", "<p>",
    "</p>", "<br>", "<think>", "</think>", "<|im_start|>user\n", "<|im_start|>assistant\n", "<|im_end|>", "[INST]", "[/INST]",
    "<<SYS>>", "<</SYS>>", "### Instruction:", "### Response:", "[00:01:02] ", "00:01.000 --> 00:02.000\n", "<v Ann>", "(pause)", "Q: ",
    "A: ", "Speaker 1: ", "Speaker 2  0:03\n", "**Client:** ", "## User\n", "# ", "- ", '"', "'", ",", ";", "|", "NaN", "1e999", "[deleted]",
    "http://a.b/c", "12/05/2023, 10:03 - ", "=1+1", "x" * 300,
)  # fmt: skip


class Choices:
    """Makes choices from a string of bytes; after its end, every choice is the first option."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def below(self, n: int) -> int:
        """Choose a number from 0 to n - 1."""
        if n <= 1 or self._at >= len(self._data):
            return 0
        size = 1 if n <= 256 else 3
        value = int.from_bytes(self._data[self._at : self._at + size], "little")
        self._at += size
        return value % n

    def one_of(self, options: Sequence[_T]) -> _T:
        """Choose one of the options."""
        return options[self.below(len(options))]

    def text(self) -> str:
        """Choose a few pieces of text."""
        return "".join(self.one_of(_PIECES) for _ in range(self.below(6)))
