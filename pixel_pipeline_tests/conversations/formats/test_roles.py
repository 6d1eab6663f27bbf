import pytest

from pixel_pipeline.conversations.formats.roles import (
    ROLE_OF,
    assigned_roles,
    normalised,
    required_role,
    role_of,
)
from pixel_pipeline.conversations.model.records import RecordError


@pytest.mark.parametrize(
    ("spelling", "role"),
    [
        ("human", "user"), ("GPT", "assistant"), (" Help Seeker ", "user"), ("help-seeker", "user"), ("Doctor_2", "assistant"),
        ("来访者1", "user"), ("心理咨询师（扮演严肃女性）", "assistant"), ("**Therapist**", "assistant"), ("Guest_family2", "user"),
        ("Therapist [calm]", "assistant"), ("function_response", "tool"), ("DEVELOPER", "system"), ("Danışan", "user"),
    ],
)  # fmt: skip
def test_spellings(spelling: str, role: str) -> None:
    assert role_of(spelling) == role


def test_the_table_of_roles_is_normalised() -> None:
    assert {spelling for spelling in ROLE_OF if role_of(spelling) is None} == set()
    assert set(ROLE_OF.values()) == {"system", "user", "assistant", "tool"}
    assert normalised("Social-Worker 2") in ROLE_OF


@pytest.mark.parametrize(
    ("spelling", "named"), [("stranger", True), ("I am not a role", False), ("x" * 40, False), (7, False)]
)
def test_an_unknown_role_is_named_only_if_short(spelling: object, named: bool) -> None:
    with pytest.raises(RecordError) as caught:
        required_role(spelling)
    assert caught.value.error_class == "unknown_role"
    assert (str(spelling) in caught.value.reason) == named


@pytest.mark.parametrize(
    ("speakers", "roles"),
    [
        (["Therapist", "Sarah", "Therapist"], ["assistant", "user", "assistant"]),
        (["user", "Mixer-7b"], ["user", "assistant"]),
        ([0, 1, 0], ["user", "assistant", "user"]),
        (["B", "A"], ["user", "assistant"]),
        (["User 1", "User 2"], ["user", "assistant"]),
    ],
)
def test_the_role_of_the_other_speaker_is_inferred(speakers: list[object], roles: list[str]) -> None:
    assert assigned_roles(speakers) == (roles, True)


@pytest.mark.parametrize(
    "speakers",
    [
        ["Ann", "Ben"],
        ["Therapist", "Ann", "Ben"],
        ["user", "narrator"],
        ["user", "assistant", "Ann"],
        [1, 2, 3],
        [True, False],
        ["user", "he said this"],
    ],
)
def test_no_other_roles_are_inferred(speakers: list[object]) -> None:
    with pytest.raises(RecordError, match="unknown_role"):
        assigned_roles(speakers)


def test_known_speakers_keep_their_roles() -> None:
    assert assigned_roles(["client", "client"]) == (["user", "user"], False)
    assert assigned_roles(["system", "user", "gpt"]) == (["system", "user", "assistant"], False)
