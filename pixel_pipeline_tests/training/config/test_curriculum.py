"""Stages of a run: their steps and weights, and errors in their file."""

from pathlib import Path
import re

from hypothesis import given
from hypothesis import strategies as st
import pytest

from pixel_pipeline.training.config.curriculum import Curriculum, Stage
from pixel_pipeline.training.errors import TrainingConfigError

DOCS = Path(__file__).parents[3] / "docs" / "curriculum.md"


def write(folder: Path, text: str) -> Path:
    path = folder / "curriculum.yaml"
    path.write_text(text)
    return path


@given(
    parts=st.lists(st.integers(1, 50), min_size=1, max_size=6),
    fixed=st.integers(0, 30),
    steps=st.integers(300, 5000),
)
def test_stages_follow_each_other_without_gaps(parts: list[int], fixed: int, steps: int) -> None:
    stages: list[dict[str, object]] = [
        {"name": f"s{number}", "share": part / sum(parts)} for number, part in enumerate(parts)
    ]
    if fixed:
        stages.insert(len(stages) // 2, {"name": "fixed", "steps": fixed})
    resolved = Curriculum.model_validate({"stages": stages}).resolve(steps)
    assert [part.stage.name for part in resolved] == [stage["name"] for stage in stages]
    assert [part.start for part in resolved] == [0, *(part.end for part in resolved[:-1])]
    assert resolved[-1].end == steps
    for part in resolved:
        free = steps - fixed
        wanted = fixed if part.stage.steps else free * (part.stage.share or 0)
        assert abs(part.end - part.start - wanted) <= (0 if part.stage.steps else 1)


def test_the_default_is_one_stage_with_all_families() -> None:
    (part,) = Curriculum().resolve(7)
    assert (part.start, part.end, part.stage.learning_rate) == (0, 7, 1.0)
    assert part.stage.matched(["b", "a"], categories={}) == {"*": ["a", "b"]}


def test_mixed_stages_merge_into_one() -> None:
    curriculum = Curriculum.model_validate(
        {
            "mode": "mixed",
            "stages": [
                {"name": "a", "share": 0.75, "families": {"calm": 3, "*": 1}},
                {"name": "b", "share": 0.25, "families": {"*": 5}},
            ],
        }
    )
    (part,) = curriculum.resolve(100)
    assert (part.start, part.end) == (0, 100)
    assert part.stage.families == pytest.approx({"calm": 0.5625, "*": 0.4375})


def test_patterns_match_families_and_categories() -> None:
    stage = Stage(name="a", families={"grief*": 1, "hard": 2}, share=1)
    found = stage.matched(
        ["grief_1", "anger", "calm"], categories={"anger": "hard", "grief_1": "hard", "calm": "soft"}
    )
    assert found == {"grief*": ["grief_1"], "hard": ["anger", "grief_1"]}
    with pytest.raises(
        TrainingConfigError, match=r"'grief\*'.*\n?.*Families: anger, calm; categories: hard, soft"
    ):
        stage.matched(["anger", "calm"], categories={"anger": "hard", "calm": "soft"})


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("stages:\n  - name: a\n    share: 1\n    weigth: 3\n", r"line 4: stages\.0\.weigth: Extra inputs"),
        (
            "stages:\n  - name: a\n    share: 1\n    families:\n      calm: 0\n",
            r"line 5: stages\.0\.families\.calm",
        ),
        (
            "stages:\n  - name: a\n    share: 1\n    families: {calm: .inf}\n",
            r"line 4: stages\.0\.families\.calm",
        ),
        ("mode: both\nstages:\n  - {name: a, share: 1}\n", "line 1: mode"),
        ("stages:\n  - share: 1\n", r"line 2: stages\.0\.name: Field required"),
        ("stages: []\n", "line 1: stages"),
        ("stages:\n  - {name: a, share: 0.5}\n", "sum to 0.5, not to 1"),
        ("stages:\n  - {name: a}\n", "'a' needs either a share or steps"),
        ("stages:\n  - {name: a, share: 1, steps: 3}\n", "'a' needs either a share or steps"),
        ("stages:\n  - {name: a, steps: 1}\n  - {name: a, steps: 3}\n", "two stages are named 'a'"),
        ("mode: mixed\nstages:\n  - {name: a, share: 1, learning_rate: 2}\n", "has its own learning rate"),
        ("stages: [\n", "not valid YAML near line 2"),
        ("- a\n", "line 1: curriculum"),
    ],
)
def test_an_error_names_its_line(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(TrainingConfigError, match=problem):
        Curriculum.load(write(tmp_path, text))


def test_a_missing_file_is_reported_and_an_empty_one_is_the_default(tmp_path: Path) -> None:
    with pytest.raises(TrainingConfigError, match="does not exist"):
        Curriculum.load(tmp_path / "none.yaml")
    assert Curriculum.load(write(tmp_path, "")) == Curriculum()


@pytest.mark.parametrize(
    ("stages", "steps", "problem"),
    [
        ([{"name": "a", "steps": 5}], 6, "fix 5 steps; the run has 6"),
        ([{"name": "a", "steps": 5}], 4, "fix 5 steps; the run has 4"),
        ([{"name": "a", "steps": 5}, {"name": "b", "share": 1}], 5, "'b' gets none of the 5 steps"),
        ([{"name": "a", "share": 0.01}, {"name": "b", "share": 0.99}], 10, "'a' gets none"),
    ],
)
def test_a_curriculum_has_to_fit_the_run(stages: list[dict[str, object]], steps: int, problem: str) -> None:
    with pytest.raises(TrainingConfigError, match=problem):
        Curriculum.model_validate({"stages": stages}).resolve(steps)


def test_the_examples_in_the_docs_are_valid(tmp_path: Path) -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", DOCS.read_text(), re.DOTALL)
    assert blocks
    for block in blocks:
        assert len(Curriculum.load(write(tmp_path, block)).resolve(1000)) > 1


def test_a_curriculum_survives_json() -> None:
    """As it reaches the trainer's process."""
    curriculum = Curriculum.model_validate(
        {"stages": [{"name": "a", "steps": 3, "families": {"calm": 2}}, {"name": "b", "share": 1}]}
    )
    assert Curriculum.model_validate_json(curriculum.model_dump_json()) == curriculum
