"""Answers to the probes, next to those of the base model. Torch-free.

They are stored only in the lake, with the evaluation, because a model may recite its training data.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pixel_pipeline.training.evaluation.safety.probes import NOTE, load_probes


@dataclass(frozen=True)
class Samples:
    """Answers by probe id; `base_answers` if there is a base model."""

    checkpoint: str
    answers: Mapping[str, str]
    base_answers: Mapping[str, str] | None

    def to_json(self) -> dict[str, Any]:
        """`samples.json`."""
        samples = [
            {
                "probe": probe.id,
                "topic": probe.topic,
                "prompt": probe.prompt,
                "answer": self.answers[probe.id],
                "base_answer": self.base_answers[probe.id] if self.base_answers else None,
            }
            for probe in load_probes()
        ]
        return {
            "format": "pixel-samples/1",
            "checkpoint": self.checkpoint,
            "note": NOTE,
            "samples": samples,
        }

    def markdown(self) -> str:
        """`samples.md`, for reading."""
        parts = [
            f"# Answers of {self.checkpoint}",
            NOTE,
            "Each is the likeliest continuation, cut off. What was trained on may show through: treat this file as you treat that.",
        ]
        for probe in load_probes():
            parts += [f"## {probe.id}", f"*{probe.topic}, {probe.register}:* {probe.prompt}"]
            parts += ["**model**", _quoted(self.answers[probe.id])]
            if self.base_answers:
                parts += ["**base alone**", _quoted(self.base_answers[probe.id])]
        return "\n\n".join(parts) + "\n"


def _quoted(text: str) -> str:
    # As code, so that Markdown in an answer is not rendered.
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}\n{text}\n{fence}"
