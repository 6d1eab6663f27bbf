"""Compose every record of the sample Drive: an original conversation, a copy of another, or a broken one."""

from dataclasses import dataclass
from random import Random
from typing import Literal

from pixel_pipeline.sample import dirt
from pixel_pipeline.sample.dialogue import Conversation, long_running, multi_turn, single_turn
from pixel_pipeline.sample.extras import with_accents, with_contact, with_system
from pixel_pipeline.sample.layout import FILES, JSON_LINES, TURN_LISTS, FileSpec, records_per_file
from pixel_pipeline.sample.texts import books, themes

Kind = Literal["clean", "bad_line", "empty_turn", "exact_duplicate", "near_duplicate"]

BAD_LINE_SHARE = 0.008
EMPTY_TURN_SHARE = 0.008
EXACT_SHARE = 0.015
NEAR_SHARE = 0.02
PHONE_SHARE = 0.018
EMAIL_SHARE = 0.015
_FIRST_DIRTY_LINE = 3
"""The first lines of a file stay intact: tools detect its format from them."""
_SESSIONS_AND_TOPICS = ((3, 2), (3, 3), (4, 2), (5, 2), (4, 3))
_INSTRUCTION_SHARE = 0.4


@dataclass
class Record:
    """One record of a file.

    Attributes:
        spec: The file.
        index: Its position in the file.
        kind: `clean`, a defect, or a copy (`exact_duplicate`, `near_duplicate`).
        conversation: The conversation; for a bad line, before the damage.
        has_phone: Whether it has a telephone number.
        has_email: Whether it has an e-mail address.
    """

    spec: FileSpec
    index: int
    kind: Kind
    conversation: Conversation
    has_phone: bool = False
    has_email: bool = False


@dataclass(frozen=True)
class _Slot:
    file: int
    index: int


def compose(*, seed: int, conversations: int) -> list[list[Record]]:
    """Compose all records.

    Args:
        seed: Source of all choices.
        conversations: Total number of records, broken ones and copies included; layout.MIN_CONVERSATIONS or more.

    Returns:
        Records by file, in the order of layout.FILES.
    """
    counts = records_per_file(conversations)
    rng = Random(f"{seed}:dirt")
    kinds = _planned_kinds(counts, conversations, rng)
    files = [
        [
            _original(seed, spec, index=index, kind=kinds.get(_Slot(number, index), "clean"))
            for index in range(counts[number])
        ]
        for number, spec in enumerate(FILES)
    ]
    _plant_copies(files, kinds, rng)
    return files


def _planned_kinds(counts: list[int], conversations: int, rng: Random) -> dict[_Slot, Kind]:
    """Choose the places of broken records and copies; the unsorted file and the Latin-1 files stay clean."""
    kinds: dict[_Slot, Kind] = {}
    candidates = [
        _Slot(number, index)
        for number, spec in enumerate(FILES)
        if spec.family != "unsorted" and spec.encoding != "latin-1"
        for index in range(counts[number])
    ]
    rng.shuffle(candidates)
    shares: tuple[tuple[Kind, float], ...] = (
        ("bad_line", BAD_LINE_SHARE),
        ("empty_turn", EMPTY_TURN_SHARE),
        ("near_duplicate", NEAR_SHARE),
        ("exact_duplicate", EXACT_SHARE),
    )
    for kind, share in shares:
        number = max(2, round(share * conversations))
        eligible = [slot for slot in candidates if slot not in kinds and _can_be(slot, kind)]
        kinds.update(dict.fromkeys(eligible[:number], kind))
    return kinds


def _can_be(slot: _Slot, kind: Kind) -> bool:
    spec = FILES[slot.file]
    if kind == "bad_line":
        return spec.format in JSON_LINES and slot.index >= _FIRST_DIRTY_LINE
    if kind == "empty_turn":
        return spec.format in TURN_LISTS and slot.index >= _FIRST_DIRTY_LINE
    # A copy needs originals in earlier files, and has no reasoning.
    return spec.format != "chain_of_thought" and not spec.path.startswith("Addiction")


def _original(seed: int, spec: FileSpec, *, index: int, kind: Kind) -> Record:
    rng = Random(f"{seed}:{spec.path}:{index}")
    conversation = _conversation(spec, rng)
    if spec.format in TURN_LISTS and rng.random() < spec.system_share:
        conversation = with_system(conversation, rng)
    if spec.encoding == "latin-1":
        conversation = with_accents(conversation, rng, turns=4 if spec.format == "transcript" else 1)
    record = Record(spec, index, kind, conversation)
    if kind == "empty_turn":
        record.conversation = dirt.with_empty_turn(conversation, rng)
    elif kind == "clean":
        record.has_phone = rng.random() < PHONE_SHARE
        record.has_email = rng.random() < EMAIL_SHARE
        for name, has_contact in (("phone", record.has_phone), ("email", record.has_email)):
            if has_contact:
                record.conversation = with_contact(record.conversation, rng, kind=name)
    return record


def _conversation(spec: FileSpec, rng: Random) -> Conversation:
    theme = rng.choice(themes(rng.choice(spec.groups)))
    if spec.several_sessions:
        sessions, topics = rng.choice(_SESSIONS_AND_TOPICS)
        return long_running(rng, theme, sessions=sessions, topics=topics)
    if spec.format in TURN_LISTS or spec.format == "transcript":
        # A crisis needs room for its safety questions.
        shortest = 4 if "first" in theme.fields else 2
        return multi_turn(rng, theme, exchanges=rng.randint(shortest, 6), greeted=spec.format == "transcript")
    conversation = single_turn(
        rng, theme, paragraphs=spec.format != "alpaca", reasoned=spec.format == "chain_of_thought"
    )
    if spec.format == "alpaca" and rng.random() < _INSTRUCTION_SHARE:
        return _with_instruction(conversation, rng)
    return conversation


def _with_instruction(conversation: Conversation, rng: Random) -> Conversation:
    """Put an instruction before the letter, the way Alpaca's `instruction` and `input` are joined."""
    instruction = rng.choice(books("reasoning")["instruction"].sections["lead"]).text.draw(rng, {})
    (role, letter), answer = conversation.messages
    return Conversation(((role, f"{instruction}\n\n{letter}"), answer), client=conversation.client)


def _plant_copies(files: list[list[Record]], kinds: dict[_Slot, Kind], rng: Random) -> None:
    """Replace the records at the planned places with copies; each original is copied once.

    Raises:
        ValueError: Too few conversations: no suitable original is left for a copy.
    """
    originals = [
        record
        for records in files
        for record in records
        if record.kind == "clean" and record.spec.family != "unsorted"
    ]
    rng.shuffle(originals)
    for slot, kind in sorted(kinds.items(), key=lambda item: (item[0].file, item[0].index)):
        if kind not in ("exact_duplicate", "near_duplicate"):
            continue
        target = files[slot.file][slot.index]
        # Most copies come from another family. Early files go first: they have the fewest earlier originals.
        other_family = rng.random() < 0.8
        for position, original in enumerate(originals):
            if other_family and original.spec.family == target.spec.family:
                continue
            if not _precedes(original.spec, target.spec) or not _can_hold(target.spec, original):
                continue
            if kind == "near_duplicate":
                copy = dirt.near_copy(original.conversation, rng)
            else:
                decompose = target.spec.encoding != "latin-1"
                copy = dirt.exact_copy(original.conversation, rng, decompose=decompose)
            if copy is not None:
                target.conversation = copy
                target.has_phone, target.has_email = original.has_phone, original.has_email
                del originals[position]
                break
        else:
            raise ValueError("too few conversations for the planned copies: ask for more conversations")


def _precedes(original: FileSpec, target: FileSpec) -> bool:
    """Whether the original's file sorts first, with or without regard to case."""
    return original.path < target.path and original.path.casefold() < target.path.casefold()


def _can_hold(spec: FileSpec, original: Record) -> bool:
    """Whether a file's format can represent a conversation without changing it."""
    roles = [role for role, _ in original.conversation.messages]
    if spec.format in TURN_LISTS:
        return True
    if spec.format == "transcript":
        return "system" not in roles
    return roles == ["user", "assistant"]
