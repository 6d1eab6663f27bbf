"""What some conversations have besides the talk: contact details, letters beyond ASCII, a system prompt."""

from random import Random

from pixel_pipeline.sample.dialogue import Conversation
from pixel_pipeline.sample.persona import Persona
from pixel_pipeline.sample.texts import phrases, sentences


def with_contact(conversation: Conversation, rng: Random, *, kind: str) -> Conversation:
    """The conversation with a telephone number (`kind` phone) or an e-mail address (email) at the end of a client's turn."""
    persona = Persona(rng)
    persona["name"] = conversation.client
    persona["email"] = (
        f"{conversation.client}.{persona['surname']}{rng.randrange(10, 99)}@example.org".lower()
    )
    lines = phrases("client").sections[f"contact_{kind}"]
    said = sentences(lines[rng.randrange(len(lines))].says.draw(rng, persona))
    return _added(conversation, rng, said)


def with_accents(conversation: Conversation, rng: Random, *, turns: int) -> Conversation:
    """The conversation with words that are not ASCII in up to `turns` turns of the client: what breaks a wrong encoding."""
    persona = Persona(rng)
    lines = list(phrases("client").sections["accent"])
    rng.shuffle(lines)
    for line in lines[:turns]:
        conversation = _added(conversation, rng, sentences(line.says.draw(rng, persona)))
    return conversation


def with_system(conversation: Conversation, rng: Random) -> Conversation:
    """The conversation with a system prompt before it."""
    lines = phrases("counsellor").sections["system"]
    prompt = lines[rng.randrange(len(lines))].says.draw(rng, Persona(rng))
    return Conversation(
        (("system", prompt), *conversation.messages), conversation.reasoning, conversation.client
    )


def _added(conversation: Conversation, rng: Random, said: str) -> Conversation:
    messages = list(conversation.messages)
    position = rng.choice([index for index, (role, _) in enumerate(messages) if role == "user"])
    messages[position] = ("user", f"{messages[position][1]} {said}")
    return Conversation(tuple(messages), conversation.reasoning, conversation.client)
