"""Canonical roles of the many spellings of speakers."""

from collections.abc import Sequence
from functools import lru_cache
import re

from pixel_pipeline.conversations.model.records import RecordError

_SPELLINGS = {
    "system": "system developer sys 系统 系统提示",
    "user": """
        user human prompter usr client patient customer seeker help_seeker helpseeker supportee student caller
        visitor questioner asker person interviewee patients pattor guest_family gest_family guest_patient
        participant member 用户 来访者 求助者 咨询者 患者 病人 访客 提问者 人类 客户 學生 用戶 來訪者 求助者 사용자 내담자 환자 ユーザー 相談者 患者さん kullanıcı
        danışan usuario utilisateur benutzer клиент пациент пользователь
    """,
    "assistant": """
        assistant gpt bot ai model chatbot chatgpt chatgpt_bot gpt4 agent therapist counselor counsellor
        psychologist psychiatrist psychotherapist doctor doc dr physician docotr clinician nurse supporter helper
        listener responder coach advisor expert provider operator interviewer professional bard bing claude
        llm function_call mentor guest_clinician guest_clinican guest_clinic social_worker 助手 助理 咨询师 心理咨询师
        心理医生 治疗师 心理治疗师 支持者 医生 倾听者 专家 机器人 諮商師 心理師 醫生 상담사 상담자 의사 어시스턴트 カウンセラー アシスタント 医師 asistan danışman
        asistente assistent terapeuta терапевт психолог психотерапевт врач ассистент
    """,
    "tool": "tool function function_response tool_response tool_result observation ipython 工具",
}
ROLE_OF = {spelling: role for role, spellings in _SPELLINGS.items() for spelling in spellings.split()}
"""Canonical role by normalised spelling (`normalised`)."""

_IN_BRACKETS = re.compile(r"[(（\[【<][^)）\]】>]*[)）\]】>]")
_AROUND = " \t*_#\"'“”「」-–—:："
_BETWEEN = re.compile(r"[\s\-_./]+")
_NUMBER_AT_END = re.compile(r"_?\d{1,2}$")
_NAMEABLE = re.compile(r"[^\W\d][\w-]{0,23}")
_NAME = re.compile(r"[^\W\d_][\w.'’-]{0,23}(?: [^\W\d_a-z][\w.'’-]{0,23})?")
_NOT_NAMES = frozenset((
    "narrator", "moderator", "nobody", "unknown", "none", "other", "note", "context", "scene", "observer", "all", "旁白",
))  # fmt: skip
# Numbers or letters distinguish speakers without naming them: `A`, `2`, `Speaker 1`, `person_b`, a UUID.
_NUMBERED = re.compile(
    r"(?:speaker|person|participant|interlocutor|party|user|human|worker|turker|spk|spkr|说话人|发言人)[ _-]?(?:\d{1,4}|[a-z])",
    re.IGNORECASE,
)
_BARE = re.compile(r"[a-z]|\d{1,9}|[0-9a-f]{8}[0-9a-f-]{4,32}", re.IGNORECASE)


def normalised(spelling: str) -> str:
    """Return a spelling in lower case, without bracketed text, decoration, and a trailing number."""
    bare = _IN_BRACKETS.sub("", spelling).strip(_AROUND).casefold()
    return _NUMBER_AT_END.sub("", _BETWEEN.sub("_", bare))


@lru_cache(maxsize=4096)
def role_of(spelling: str) -> str | None:
    """Return the canonical role (system, user, assistant or tool) of a spelling, or None if it is unknown."""
    if len(spelling) > 64:
        return None
    return ROLE_OF.get(spelling) or ROLE_OF.get(normalised(spelling))


def required_role(spelling: object) -> str:
    """Return the canonical role of a spelling.

    Raises:
        RecordError: `unknown_role`. The reason names the spelling only if it is a short identifier-like word: anything else may
            be conversation text.
    """
    if not isinstance(spelling, str):
        raise RecordError("unknown_role", f"a role is text, found {type(spelling).__name__}")
    if (role := role_of(spelling)) is not None:
        return role
    is_nameable = _NAMEABLE.fullmatch(spelling)
    described = f"the spelling {spelling!r}" if is_nameable else f"a spelling of {len(spelling)} characters"
    raise RecordError("unknown_role", f"no canonical role is known for {described}")


def assigned_roles(speakers: Sequence[object]) -> tuple[list[str], bool]:
    """Return the canonical roles of a conversation's turns, and whether they were inferred.

    If one of two speakers has a known role and the other a name, the other gets the other role. If two speakers are only
    numbered or lettered, the first to speak is the user. Nothing else is inferred.

    Raises:
        RecordError: `unknown_role`.
    """
    roles = [role_of(speaker) if isinstance(speaker, str) else None for speaker in speakers]
    known = set(roles)
    if None not in known and len(known) != 1:
        return roles, False  # type: ignore[return-value]
    found: dict[object, str | None] = {}
    for speaker, role in zip(speakers, roles, strict=True):
        found[speaker if _is_spelling(speaker) else required_role(speaker)] = role
    sides = known & {"user", "assistant"}
    unknown = [speaker for speaker, role in found.items() if role is None]
    if len(unknown) == 1 and len(sides) == 1 and _is_name(str(unknown[0])):
        found[unknown[0]] = "assistant" if "user" in sides else "user"
    elif len(found) == 2 and len(known) == 1 and all(map(_is_anonymous, found)):
        found = dict(zip(found, ("user", "assistant"), strict=True))
    elif len(found) == 1 and unknown and _is_anonymous(unknown[0]):
        raise RecordError("one_sided", f"one speaker only, in {len(speakers)} turns")
    elif unknown:
        required_role(unknown[0])
    else:
        return roles, False  # type: ignore[return-value]
    return [found[speaker] for speaker in speakers], True  # type: ignore[index,misc]


def share_a_role(speakers: Sequence[object], roles: Sequence[str]) -> bool:
    """Whether several speakers share a role, such as a patient and a relative."""
    if len(set(speakers)) == len(set(roles)):
        return False
    return len({speaker_key(str(name)) for name in speakers}) > len(set(roles))


def speaker_key(spelling: str) -> str:
    """Return the key that distinguishes speakers of one role: their spelling, ignoring case."""
    return spelling.strip().casefold()


def is_numbered(spelling: str) -> bool:
    """Whether a speaker is numbered or lettered: `Speaker 1`, `person_b`."""
    return _NUMBERED.fullmatch(spelling.strip()) is not None


def _is_anonymous(spelling: object) -> bool:
    text = str(spelling).strip()
    return is_numbered(text) or _BARE.fullmatch(text) is not None


def _is_name(spelling: str) -> bool:
    return _NAME.fullmatch(spelling) is not None and spelling.casefold() not in _NOT_NAMES


def _is_spelling(speaker: object) -> bool:
    return isinstance(speaker, str | int) and not isinstance(speaker, bool)
