"""What goes wrong in a Drive: near and exact copies, empty turns, lines that are no JSON."""

from dataclasses import replace
from random import Random
import re
import unicodedata

from pixel_pipeline.sample.dialogue import Conversation, Message

SHINGLE_WORDS = 5
LEAST_NEAR, MOST_NEAR = 0.87, 0.97
LEAST_SHINGLES = 120
"""A shorter conversation leaves too little room between one edit and the threshold."""

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
    """Returns the runs of five lower-case words over the contents of all turns, roles left out."""
    words = _WORD.findall(" ".join(content for _, content in conversation.messages).lower())
    return set(zip(*(words[start:] for start in range(SHINGLE_WORDS)), strict=False))


def jaccard(left: set[tuple[str, ...]], right: set[tuple[str, ...]]) -> float:
    """Returns the shared part of two sets of shingles, 0 to 1."""
    return len(left & right) / len(left | right)


def near_copy(original: Conversation, rng: Random) -> Conversation | None:
    """Returns a copy with small edits: words swapped, a phrase added, a telephone number changed.

    Its similarity to the original is between LEAST_NEAR and MOST_NEAR. None where the conversation is too short for that.
    """
    before = shingles(original)
    if len(before) < LEAST_SHINGLES:
        return None
    wanted = MOST_NEAR - 0.07 * rng.random()
    messages = [_other_phone(message, rng) for message in original.messages]
    good: Conversation | None = None
    for _ in range(200):
        index = rng.randrange(len(messages))
        messages[index] = _edited(messages[index], rng)
        copy = replace(original, messages=tuple(messages), reasoning="")
        similarity = jaccard(before, shingles(copy))
        if similarity < LEAST_NEAR:
            break
        # The phone alone does not count: it may be masked before copies are looked for.
        if similarity <= MOST_NEAR and _text_differs(original, copy):
            good = copy
        if similarity <= wanted:
            break
    return good


def _text_differs(left: Conversation, right: Conversation) -> bool:
    masked = [
        [_PHONE.sub("", content) for _, content in conversation.messages] for conversation in (left, right)
    ]
    return masked[0] != masked[1]


def _other_phone(message: Message, rng: Random) -> Message:
    role, content = message
    return role, _PHONE.sub(
        lambda found: f"555{found[1]}01{(int(found[2]) + rng.randint(1, 98)) % 100:02d}", content
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


def exact_copy(original: Conversation, rng: Random, *, is_ascii_only: bool) -> Conversation:
    """Returns a copy that is the same conversation, though not always the same bytes: other whitespace, decomposed accents.

    Args:
        original: What is copied.
        rng: Decides whether whitespace changes.
        is_ascii_only: Whether the copy must stay within its encoding's letters (no decomposed accents).
    """
    messages = list(original.messages)
    if not is_ascii_only:
        messages = [(role, unicodedata.normalize("NFD", content)) for role, content in messages]
    if rng.random() < 0.35:
        index = rng.randrange(len(messages))
        role, content = messages[index]
        messages[index] = (role, content.replace(". ", ".  ", 1) + rng.choice((" ", "\n")))
    return replace(original, messages=tuple(messages), reasoning="")


def with_empty_turn(conversation: Conversation, rng: Random) -> Conversation:
    """Returns the conversation with nothing, or only whitespace, in one of its middle turns."""
    messages = list(conversation.messages)
    index = rng.randrange(1, len(messages) - 1)
    messages[index] = (messages[index][0], rng.choice(("", "  ", "\n", " \t ")))
    return replace(conversation, messages=tuple(messages))


def bad_line(line: bytes, rng: Random) -> bytes:
    """Returns what a line of JSON looks like after a broken download: cut off, or overwritten by bytes that are no text."""
    if rng.random() < 0.6:
        return line[: rng.randrange(20, max(21, len(line) - 10))].rstrip()
    noise = bytes(rng.randrange(0xA0, 0x100) for _ in range(rng.randrange(24, 60)))
    cut = rng.randrange(10, max(11, len(line) // 2))
    return line[:cut] + b"\xff" + noise + b"\xfe"
