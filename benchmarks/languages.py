"""Two synthetic domains for `learning.py`: contradictory languages over the same words. Imports torch.

A language is a random Markov chain: each word has a few successors with random probabilities. A text has a topic, whose own word
starts it and recurs. The base model learns one language for all topics, and learns to remember the topic's word because it recurs.
Then each of two topics gets its own language, in which the same word has other successors.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Self

import torch
from torch import Tensor

from pixel_pipeline.training.data.batch import PackedBatch, pack_batch

WORDS = 64
TOPICS = 2
SUCCESSORS = 4
LENGTH = 64
# Probability that the topic's word comes next; any word may follow it.
TOPIC_RETURNS = 0.1


@dataclass(frozen=True)
class Texts:
    """Rows of tokens with their topics and entropy.

    Attributes:
        batch: One text per row; targets are all tokens except the first two, which no language predicts.
        topic_B: int64, topic of each row.
        entropy: Mean negative log probability of the targets in their own language, in nats: the lowest expected loss of any model.
    """

    batch: PackedBatch
    topic_B: Tensor
    entropy: float

    @property
    def topic_T(self) -> Tensor:
        """Topic of each token."""
        return self.topic_B.repeat_interleave(LENGTH)


@dataclass(frozen=True)
class Languages:
    """The language of each topic.

    Attributes:
        chance_DWW: Probability of the next word given topic and word. A single language is shared by all topics.
    """

    chance_DWW: Tensor

    @classmethod
    def random(cls, count: int, generator: torch.Generator) -> Self:
        logits = torch.full((count, WORDS, WORDS), float("-inf"))
        for language in range(count):
            for word in range(WORDS):
                successors = torch.randperm(WORDS, generator=generator)[:SUCCESSORS]
                logits[language, word, successors] = torch.randn(SUCCESSORS, generator=generator)
        return cls(logits.softmax(-1))

    def texts(self, rows: int, generator: torch.Generator) -> Texts:
        """Draw texts, half of them of each topic, in random order."""
        topic_B = torch.randperm(rows, generator=generator) % TOPICS
        language_B = topic_B % self.chance_DWW.size(0)
        tokens = [WORDS + topic_B, torch.randint(WORDS, (rows,), generator=generator)]
        for _ in range(LENGTH - 2):
            next_BV = self._next(language_B, topic_B, tokens[-1])
            tokens.append(torch.multinomial(next_BV, 1, generator=generator).squeeze(1))
        tokens_BL = torch.stack(tokens, dim=1)
        counted = torch.ones_like(tokens_BL)
        counted[:, :2] = 0
        logs = [
            self._next(language_B, topic_B, last).gather(1, after.unsqueeze(1)).log()
            for last, after in pairwise(tokens[1:])
        ]
        batch = pack_batch(tokens_BL, loss_mask=counted, segments=torch.ones_like(tokens_BL))
        return Texts(batch, topic_B, -float(torch.cat(logs).mean()))

    def _next(self, language_B: Tensor, topic_B: Tensor, last_B: Tensor) -> Tensor:
        """Probabilities [B, WORDS + TOPICS] of the next token."""
        after_topic_B1 = (last_B >= WORDS).unsqueeze(1)
        words_BW = self.chance_DWW[language_B, last_B.clamp(max=WORDS - 1)] * (1 - TOPIC_RETURNS)
        words_BW = torch.where(after_topic_B1, 1 / WORDS, words_BW)
        topics_BD = torch.nn.functional.one_hot(topic_B, TOPICS) * TOPIC_RETURNS
        return torch.cat([words_BW, torch.where(after_topic_B1, 0.0, topics_BD)], dim=1)
