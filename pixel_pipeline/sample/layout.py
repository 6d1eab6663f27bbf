"""Files of the sample Drive: names and folders as people leave them, formats as tools export them.

The set of paths is the same for every seed and size, so a rewrite into the same folder leaves no stale files.
"""

from dataclasses import dataclass
import re
from typing import Literal

Format = Literal[
    "chain_of_thought",
    "sessions",
    "sharegpt",
    "chatml",
    "alpaca",
    "csv",
    "transcript",
    "parquet_messages",
    "parquet_pairs",
]

JSON_LINES: frozenset[Format] = frozenset(("sharegpt", "chatml"))
TURN_LISTS: frozenset[Format] = frozenset(("sharegpt", "chatml", "sessions", "parquet_messages"))
"""Formats that allow any number of turns, a system prompt, and an empty turn."""

TRANSCRIPTS = 40
UNSORTED_RECORDS = 20
MIN_CONVERSATIONS = 150
_COUPLES = ("couples_family",)
_EVERYONE = ("addiction", "cptsd", "grief", "couples_family", "professional")


@dataclass(frozen=True)
class FileSpec:
    """One file of the Drive.

    Attributes:
        path: Relative to the Drive's root, with `/`.
        format: File format.
        groups: Theme groups (texts.THEME_GROUPS) of its conversations.
        weight: Relative share of all conversations; 0 for a fixed number of records.
        fixed: Number of records if weight is 0.
        encoding: utf-8, utf-8-sig (byte order mark) or latin-1.
        newline: Line terminator.
        system_share: Share of conversations with a system prompt, 0 to 1.
        several_sessions: Whether each conversation spans several sessions.
    """

    path: str
    format: Format
    groups: tuple[str, ...]
    weight: float = 0.0
    fixed: int = 0
    encoding: Literal["utf-8", "utf-8-sig", "latin-1"] = "utf-8"
    newline: Literal["\n", "\r\n"] = "\n"
    system_share: float = 0.0
    several_sessions: bool = False

    @property
    def family(self) -> str:
        """The path's default family: the first folder as a slug, or `unsorted` outside any folder."""
        folder, slash, _ = self.path.partition("/")
        return re.sub(r"[^a-z0-9]+", "_", folder.casefold()).strip("_") if slash else "unsorted"


def _transcript(number: int) -> FileSpec:
    day = 2 + (number * 9) % 26
    month = 1 + (number * 9) // 26 % 12
    again = " (1)" if number in (7, 23) else ""
    return FileSpec(
        f"Professional Therapeutic/Transcripts 2023/Session {number:02d} - 2023-{month:02d}-{day:02d}{again}.txt",
        "transcript",
        ("professional", "grief"),
        fixed=1,
        encoding="latin-1" if number == 11 else "utf-8",
        newline="\r\n" if number % 10 == 4 else "\n",
    )


FILES: tuple[FileSpec, ...] = (
    FileSpec("Addiction Recovery/Recovery chats (1).jsonl", "sharegpt", ("addiction",), 250),
    FileSpec("Addiction Recovery/Motivational Interviewing FINAL v2.csv", "csv", ("addiction",), 220),
    FileSpec("Addiction Recovery/2023-11 export/recovery_coach_alpaca.json", "alpaca", ("addiction",), 180),
    FileSpec("CPTSD/cptsd_sharegpt_2024-02-11.jsonl", "sharegpt", ("cptsd",), 270, system_share=0.4),
    FileSpec("CPTSD/Parts work/Parts & Shame - chatml.jsonl", "chatml", ("cptsd",), 230),
    FileSpec("CPTSD/CPTSD single turn.parquet", "parquet_pairs", ("cptsd",), 180),
    FileSpec("CoT Reasoning/CoT_Clinical_Reasoning.json", "chain_of_thought", _EVERYONE, 230),
    FileSpec("CoT Reasoning/CoT crisis (copy).json", "chain_of_thought", ("crisis",), 130),
    FileSpec("CoT Reasoning/older/CoT reasoning FINAL FINAL.json", "chain_of_thought", _EVERYONE, 180),
    FileSpec("Couples & Family/couples Q&A from the old site.csv", "csv", _COUPLES, 190, encoding="latin-1"),
    FileSpec("Couples & Family/Family sessions/family_messages.parquet", "parquet_messages", _COUPLES, 220),
    FileSpec("Couples & Family/Couples chat v3 (windows).jsonl", "chatml", _COUPLES, 200, newline="\r\n"),
    FileSpec("Crisis Support/Crisis chats 2024.jsonl", "chatml", ("crisis",), 240, system_share=0.3),
    FileSpec("Crisis Support/crisis role plays (1).json", "sessions", ("crisis",), 160),
    FileSpec("Crisis Support/Safety Planning alpaca.json", "alpaca", ("crisis",), 150),
    FileSpec("Grief and Loss/grief_sharegpt.jsonl.gz", "sharegpt", ("grief",), 230),
    FileSpec(
        "Grief and Loss/Grief letters - context response.csv",
        "csv",
        ("grief",),
        220,
        encoding="utf-8-sig",
        newline="\r\n",
    ),
    FileSpec(
        "Long running therapy/long_running_therapy.json", "sessions", _EVERYONE, 100, several_sessions=True
    ),
    FileSpec(
        "Long running therapy/Multi-session 2021-2023.jsonl", "chatml", _EVERYONE, 100, several_sessions=True
    ),
    FileSpec(
        "Long running therapy/long sessions part 2.parquet",
        "parquet_messages",
        _EVERYONE,
        70,
        several_sessions=True,
    ),
    FileSpec("Professional Therapeutic/CBT homework chats.jsonl", "sharegpt", ("professional",), 270),
    FileSpec("Professional Therapeutic/Counsel chat export.csv", "csv", ("professional",), 260),
    *(_transcript(number) for number in range(1, TRANSCRIPTS + 1)),
    FileSpec(
        "Professional Therapeutic/therapist chats FINAL v2.jsonl",
        "chatml",
        ("professional",),
        300,
        system_share=0.5,
    ),
    FileSpec("Professional Therapeutic/psych_alpaca_cleaned.json", "alpaca", ("professional",), 220),
    FileSpec("new chats from Sam (to sort).jsonl", "sharegpt", ("professional",), fixed=UNSORTED_RECORDS),
)


def records_per_file(conversations: int) -> list[int]:
    """Distribute conversations over FILES by weight (largest remainder), except for files of a fixed size.

    Raises:
        ValueError: Fewer than MIN_CONVERSATIONS.
    """
    if conversations < MIN_CONVERSATIONS:
        raise ValueError(
            f"a sample Drive needs at least {MIN_CONVERSATIONS} conversations, got {conversations}"
        )
    free = conversations - sum(spec.fixed for spec in FILES)
    total = sum(spec.weight for spec in FILES)
    exact = [free * spec.weight / total for spec in FILES]
    counts = [spec.fixed + int(share) for spec, share in zip(FILES, exact, strict=True)]
    by_remainder = sorted(range(len(FILES)), key=lambda index: (int(exact[index]) - exact[index], index))
    for index in by_remainder[: conversations - sum(counts)]:
        counts[index] += 1
    return counts
