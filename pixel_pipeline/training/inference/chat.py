"""A conversation of several turns. Torch-free until the first answer."""

from collections.abc import Iterator

from pixel_pipeline.training.inference.generate import Message, Sampling, Speaker, encode_messages


class Conversation:
    """The turns so far, and the model that continues them.

    Args:
        system: System message before all turns.
    """

    def __init__(self, speaker: Speaker, sampling: Sampling, *, system: str | None = None) -> None:
        self._speaker = speaker
        self._sampling = sampling
        self._system: list[Message] = [{"role": "system", "content": system}] if system else []
        self.turns: list[Message] = []

    def clear(self) -> None:
        """Forget all turns."""
        self.turns = []

    def say(self, text: str) -> Iterator[str]:
        """Stream the answer to the user's next message. Both are added to the conversation when the answer is complete.

        If the context is full, drops the oldest turns to leave room for the answer, up to a quarter of the context.

        Raises:
            PixelError: The message alone is longer than the context.
        """
        turns = [*self.turns, {"role": "user", "content": text}]
        room = min(self._sampling.max_new_tokens, self._speaker.context // 4)
        while len(turns) > 1 and self._length(turns) + room > self._speaker.context:
            turns = turns[2:]
        pieces = []
        for piece in self._speaker.answer([*self._system, *turns], self._sampling):
            pieces.append(piece)
            yield piece
        self.turns = [*turns, {"role": "assistant", "content": "".join(pieces)}]

    def _length(self, turns: list[Message]) -> int:
        return len(encode_messages(self._speaker.tokenizer, [*self._system, *turns]))
