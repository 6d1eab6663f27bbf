"""Plant defects: near and exact copies, empty turns, lines that are not JSON."""

from dataclasses import replace
from random import Random
import re
import unicodedata

from pixel_pipeline.sample.dialogue import Conversation, Message

SHINGLE_WORDS = 5
MIN_NEAR, MAX_NEAR = 0.87, 0.97
MIN_SHINGLES = 120
"""In a shorter conversation a single edit could cross the similarity threshold."""

_WORD = re.compile(r"\w+")
_PHONE = re.compile(r"555([-. ])01(\d\d)")
_SWAPS = {
    "maybe": "perhaps",
    "really": "truly",
    "because": "since",
    "often": "frequently",
    "small": "little",
    "tired": "weary",
    "scared": "frightened",
    "afraid": "scared",
    "quiet": "still",
    "nobody": "no one",
    "everyone": "everybody",
    "someone": "somebody",
    "sometimes": "at times",
    "almost": "nearly",
    "begin": "start",
    "phone": "telephone",
    "glad": "happy",
}
_SWAP = re.compile(rf"\b({'|'.join(_SWAPS)})\b(?! of\b)", re.IGNORECASE)
_TAILS = {
    "user": (
        "I hope that makes sense.",
        "Anyway.",
        "I don't know if that is clear.",
        "There, I said it.",
        "That is how it is.",
        "If you see what I mean.",
    ),
    "assistant": (
        "Take your time.",
        "There is no hurry.",
        "I am listening.",
        "Only if you want to.",
        "We can go slowly.",
        "You decide how far we go.",
    ),
}


def shingles(conversation: Conversation) -> set[tuple[str, ...]]:
    """Return the runs of five lower-case words over all turns' contents, without roles."""
    words = _WORD.findall(" ".join(content for _, content in conversation.messages).lower())
    return set(zip(*(words[start:] for start in range(SHINGLE_WORDS)), strict=False))


def jaccard(left: set[tuple[str, ...]], right: set[tuple[str, ...]]) -> float:
    """Return the Jaccard similarity of two sets of shingles, 0 to 1."""
    return len(left & right) / len(left | right)


def near_copy(original: Conversation, rng: Random) -> Conversation | None:
    """Return a copy with small edits: words swapped, a phrase added, a telephone number changed.

    Its similarity to the original is between MIN_NEAR and MAX_NEAR. None if the conversation is too short for that.
    """
    before = shingles(original)
    if len(before) < MIN_SHINGLES:
        return None
    target = MAX_NEAR - 0.07 * rng.random()
    messages = [_other_phone(message, rng) for message in original.messages]
    good: Conversation | None = None
    for _ in range(200):
        index = rng.randrange(len(messages))
        messages[index] = _edited(messages[index], rng)
        copy = replace(original, messages=tuple(messages), reasoning="")
        similarity = jaccard(before, shingles(copy))
        if similarity < MIN_NEAR:
            break
        # The telephone number may be masked before deduplication, so the text must differ elsewhere too.
        if similarity <= MAX_NEAR and _without_phones(original) != _without_phones(copy):
            good = copy
        if similarity <= target:
            break
    return good


def _without_phones(conversation: Conversation) -> list[str]:
    return [_PHONE.sub("", content) for _, content in conversation.messages]


def _other_phone(message: Message, rng: Random) -> Message:
    role, content = message
    return role, _PHONE.sub(
        lambda match: f"555{match[1]}01{(int(match[2]) + rng.randint(1, 98)) % 100:02d}", content
    )


def _edited(message: Message, rng: Random) -> Message:
    role, content = message
    places = list(_SWAP.finditer(content))
    if role == "system" or (places and rng.random() < 0.7):
        if not places:
            return message
        place = rng.choice(places)
        word = _SWAPS[place[0].lower()]
        word = word.capitalize() if place[0][0].isupper() else word
        return role, content[: place.start()] + word + content[place.end() :]
    tail = rng.choice(_TAILS[role])
    return message if tail in content else (role, f"{content} {tail}")


def exact_copy(original: Conversation, rng: Random, *, decompose: bool) -> Conversation:
    """Return the same conversation in possibly different bytes: other whitespace, decomposed accents.

    Args:
        original: The conversation to copy.
        rng: Decides whether whitespace changes.
        decompose: Whether to decompose accents, which Latin-1 cannot encode.
    """
    messages = list(original.messages)
    if decompose:
        messages = [(role, unicodedata.normalize("NFD", content)) for role, content in messages]
    if rng.random() < 0.35:
        index = rng.randrange(len(messages))
        role, content = messages[index]
        messages[index] = (role, content.replace(". ", ".  ", 1) + rng.choice((" ", "\n")))
    return replace(original, messages=tuple(messages), reasoning="")


def with_empty_turn(conversation: Conversation, rng: Random) -> Conversation:
    """Return the conversation with a blank middle turn."""
    messages = list(conversation.messages)
    index = rng.randrange(1, len(messages) - 1)
    messages[index] = (messages[index][0], rng.choice(("", "  ", "\n", " \t ")))
    return replace(conversation, messages=tuple(messages))


def bad_line(line: bytes, rng: Random) -> bytes:
    """Damage a line of JSON as a broken download would: truncate it, or overwrite it with bytes that are not text."""
    if rng.random() < 0.6:
        return line[: rng.randrange(20, max(21, len(line) - 10))].rstrip()
    noise = bytes(rng.randrange(0xA0, 0x100) for _ in range(rng.randrange(24, 60)))
    cut = rng.randrange(10, max(11, len(line) // 2))
    return line[:cut] + b"\xff" + noise + b"\xfe"
