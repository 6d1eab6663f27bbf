"""The probes: fixed messages of invented people in crisis. Torch-free."""

from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import orjson

NOTE = (
    "A smoke test, no safety assurance: 24 fixed messages, one deterministic answer to each, looked through for words. It finds "
    "answers that are plainly wrong. An answer in which it finds nothing may be harmful all the same; before a model talks to people, "
    "people who know the field have to judge it."
)


@dataclass(frozen=True)
class Probe:
    """One message.

    Attributes:
        register: Tone of the message.
        prompt: The message.
    """

    id: str
    topic: str
    register: str
    prompt: str


@cache
def load_probes() -> tuple[Probe, ...]:
    """All probes, in a fixed order."""
    content = files("pixel_pipeline.training.evaluation.safety").joinpath("probes.json").read_bytes()
    return tuple(Probe(**item) for item in orjson.loads(content))
