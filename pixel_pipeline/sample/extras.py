"""Extras of some conversations: contact details, non-ASCII words, a system prompt."""

from dataclasses import replace
from random import Random

from pixel_pipeline.sample.dialogue import Conversation
from pixel_pipeline.sample.persona import Persona
from pixel_pipeline.sample.texts import phrases, sentences


def with_contact(conversation: Conversation, rng: Random, *, kind: str) -> Conversation:
    """Add a telephone number (`kind` phone) or an e-mail address (email) to the end of a client's turn."""
    persona = Persona(rng)
    persona["name"] = conversation.client
    persona["email"] = (
        f"{conversation.client}.{persona['surname']}{rng.randrange(10, 99)}@example.org".lower()
    )
    line = rng.choice(phrases("client").sections[f"contact_{kind}"])
    return _append(conversation, rng, sentences(line.text.draw(rng, persona)))


def with_accents(conversation: Conversation, rng: Random, *, turns: int) -> Conversation:
    """Add non-ASCII words to up to `turns` of the client's turns; a wrong encoding garbles them."""
    persona = Persona(rng)
    lines = list(phrases("client").sections["accent"])
    rng.shuffle(lines)
    for line in lines[:turns]:
        conversation = _append(conversation, rng, sentences(line.text.draw(rng, persona)))
    return conversation


def with_system(conversation: Conversation, rng: Random) -> Conversation:
    """Put a system prompt before the conversation."""
    prompt = rng.choice(phrases("counsellor").sections["system"]).text.draw(rng, Persona(rng))
    return replace(conversation, messages=(("system", prompt), *conversation.messages))


def _append(conversation: Conversation, rng: Random, text: str) -> Conversation:
    messages = list(conversation.messages)
    position = rng.choice([index for index, (role, _) in enumerate(messages) if role == "user"])
    messages[position] = ("user", f"{messages[position][1]} {text}")
    return replace(conversation, messages=tuple(messages))
