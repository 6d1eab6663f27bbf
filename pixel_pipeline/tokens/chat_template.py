"""ChatML: encodes a conversation as tokens with a loss mask.

    <|im_start|>user\\n...<|im_end|>\\n<|im_start|>assistant\\n...<|im_end|>\\n

Loss falls on the assistant's contents and the <|im_end|> that ends each.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

PAD = "<|pad|>"
START = "<|im_start|>"
END = "<|im_end|>"
SPECIAL_TOKENS = (PAD, START, END)
PAD_ID, START_ID, END_ID = range(3)

JINJA = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
"""The same template for `tokenizer_config.json`."""


@dataclass(frozen=True)
class EncodedConversation:
    """`tokens` int32 [T]; `loss_mask` uint8 [T], 1 for training targets."""

    tokens: NDArray[np.int32]
    loss_mask: NDArray[np.uint8]


def encode_conversations(
    tokenizer: Tokenizer, conversations: Sequence[Sequence[tuple[str, str]]]
) -> list[EncodedConversation]:
    """Encode conversations given as (role, content) turns.

    Contents are tokenized as plain text: a special token's spelling inside a message stays text.
    """
    pieces: list[str] = []
    for turns in conversations:
        for role, content in turns:
            pieces += (f"{role}\n", content)
    encodings = iter(tokenizer.encode_batch_fast(pieces, add_special_tokens=False))
    newline = tokenizer.encode("\n", add_special_tokens=False).ids
    result = []
    for turns in conversations:
        tokens: list[int] = []
        mask: list[int] = []
        for role, _ in turns:
            head, body = next(encodings).ids, next(encodings).ids
            learned = int(role == "assistant")
            tokens += [START_ID, *head, *body, END_ID, *newline]
            mask += [0] * (1 + len(head)) + [learned] * (len(body) + 1) + [0] * len(newline)
        result.append(
            EncodedConversation(tokens=np.array(tokens, np.int32), loss_mask=np.array(mask, np.uint8))
        )
    return result
