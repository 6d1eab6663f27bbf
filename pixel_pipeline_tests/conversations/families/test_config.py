from pathlib import Path
import re
import textwrap

from hypothesis import given
from hypothesis import strategies as st
import pyarrow as pa
import pytest

from pixel_pipeline.conversations.families.config import (
    FamilyConfig,
    FamilyConfigError,
    FamilyRule,
    glob_pattern,
    slug,
)
from pixel_pipeline.conversations.model.options import ConversionOptions
from pixel_pipeline.lake.memo import fingerprint
from pixel_pipeline.settings import project_root

RULES = """
rules:
  - match: ["gdrive/raw/Therapy/**/cot/*.json", "acquired/cot_?.csv"]
    category: cot_reasoning
    family: cot
    dataset: triples
  - match: gdrive/raw/Therapy/**
    category: professional_therapeutic
    family: therapy
"""


@pytest.fixture
def config(tmp_path: Path) -> FamilyConfig:
    path = tmp_path / "families.yaml"
    path.write_text(RULES, encoding="utf-8")
    return FamilyConfig.load(path)


@pytest.mark.parametrize(
    ("key", "family"),
    [
        ("gdrive/raw/Therapy/cot/a.json", "cot"),
        ("gdrive/raw/Therapy/x/y/cot/a.json", "cot"),
        ("gdrive/raw/Therapy/cot/deeper/a.json", "therapy"),
        ("gdrive/raw/Therapy/cotta/a.json", "therapy"),
        ("acquired/cot_1.csv", "cot"),
        ("acquired/cot_12.csv", "unsorted"),
        ("gdrive/raw/therapy/a.json", "therapy"),
        ("gdrive/raw/Couples & Family/a/b.json", "couples_family"),
        ("acquired/Élan Vital/x", "elan_vital"),
        ("gdrive/raw/loose.json", "unsorted"),
        ("gdrive/raw//x.json", "unsorted"),
        ("elsewhere/a/b.json", "unsorted"),
    ],
)
def test_classify(config: FamilyConfig, key: str, family: str) -> None:
    assert config.classify(key).family == family


def test_a_family_has_one_table_for_rules_and_folders(config: FamilyConfig) -> None:
    rule = FamilyRule(category="professional_therapeutic", family="therapy", dataset="therapy")
    assert config.classify("gdrive/raw/Therapy/a.json") == config.classify("acquired/THERAPY!/a.json") == rule
    assert config.classify("acquired/cot/x") == FamilyRule(
        category="cot_reasoning", family="cot", dataset="triples"
    )
    assert FamilyConfig().classify("acquired/New/x") == FamilyRule(
        category="new", family="new", dataset="new"
    )


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("rules: [{family: a}]", "rule 1: `match`"),
        ("rules: [{match: x, family: A B}]", "rule 1: `family` is 'A B'"),
        ("rules: [{match: x}]", "rule 1: `family` is None"),
        ("rules: [{match: x, family: a, colour: red}]", "rule 1: unknown keys colour"),
        ("rules: [7]", "rule 1"),
        ("rules: {a: b}", "`rules` is not a list"),
        ("- a", "`rules`"),
        ("words: [a]", "`words` is not a mapping"),
        ("words: {A B: [a]}", "`words` has the category 'A B'"),
        ("words: {a: [x, 7]}", "`words.a` is not a list of words"),
        ("words: {a: [--]}", "`words.a` is not a list of words"),
        ("rules: [", "YAML"),
        (
            "rules: [{match: x, family: a}, {match: y, family: a, dataset: b}]",
            "rule 2: the family a has the table",
        ),
        (
            "rules: [{match: x, family: a, category: c, dataset: d}, {match: y, family: b, category: c, dataset: d}]",
            "rule 2",
        ),
        ("rules: [{match: x, family: a, category: d, dataset: d}]", "rule 1: the table d/d is reserved"),
        ("rules: [{match: x, family: unsorted, category: c, dataset: d}]", "rule 1"),
    ],
)
def test_errors_name_the_file(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "families.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(FamilyConfigError) as caught:
        FamilyConfig.load(path)
    assert complaint in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_an_error_and_an_empty_one_has_no_rules(tmp_path: Path) -> None:
    with pytest.raises(FamilyConfigError, match="does not exist"):
        FamilyConfig.load(tmp_path / "none.yaml")
    (tmp_path / "empty.yaml").write_text("")
    assert FamilyConfig.load(tmp_path / "empty.yaml") == FamilyConfig()


def test_slugs_of_names_in_other_scripts_are_distinct() -> None:
    assert slug("心理咨询").startswith("folder_")
    assert slug("心理咨询") != slug("情感")
    assert slug("心理 data").startswith("data_")
    assert slug("心理 data") != slug("情感 data")
    assert slug("Straße – Nr. 5") == "strasse_nr_5"
    assert slug("心理咨询") == "folder_81ed3ae7"


@given(st.text(min_size=1, max_size=40))
def test_slugs_are_slugs(name: str) -> None:
    assert set(slug(name)) <= set("abcdefghijklmnopqrstuvwxyz0123456789_")
    assert slug(name) == slug(name)
    assert slug(name)


@given(st.data())
def test_columns_of_keys_are_classified_like_single_keys(data: st.DataObject) -> None:
    """Single keys use Python's regular expressions, columns use RE2."""
    text = st.text(alphabet="ab*? .+()[]{}|^$\\\"'é心\n\t&~#-/", max_size=6)
    folders = st.sampled_from(["gdrive/raw/", "acquired/", "gdrive/", ""])
    paths = st.builds("/".join, st.lists(text, min_size=1, max_size=3))
    keys = data.draw(st.lists(st.builds(str.__add__, folders, paths), max_size=8))
    globs = data.draw(st.lists(st.builds(str.__add__, folders, paths).filter(bool), max_size=3))
    rules = tuple(
        (re.compile(glob_pattern(glob)), FamilyRule("c", f"family_{number}", "d"))
        for number, glob in enumerate(globs)
    )
    config = FamilyConfig(rules)
    column = pa.chunked_array([keys], pa.string())
    assert config.family_column(column).to_pylist() == [config.classify(key).family for key in keys]
    assert config.rule_column(column).to_pylist() == [
        next((number for number, (pattern, _) in enumerate(rules) if pattern.fullmatch(key)), None)
        for key in keys
    ]


def test_rules_of_one_family_may_differ_in_their_options(tmp_path: Path) -> None:
    path = tmp_path / "families.yaml"
    path.write_text(
        """
rules:
  - match: acquired/a/*.csv
    family: notes
    read: {container: csv_table, encoding: GBK, format: pair, one_sided: keep, reasoning: think, longest: 9}
    budget: {max_bad_share: 0, max_bad_run: 3}
  - match: acquired/b/**
    family: notes
""",
        encoding="utf-8",
    )
    config = FamilyConfig.load(path)
    read = config.classify("acquired/a/x.csv")
    assert read.options == ConversionOptions(
        container="csv_table",
        encoding="gbk",
        format="pair",
        one_sided="keep",
        reasoning="think",
        longest=9,
        max_bad_share=0.0,
        max_bad_run=3,
    )
    plain = FamilyRule(category="notes", family="notes", dataset="notes")
    assert config.classify("acquired/b/x") == config.rule_of("notes") == plain
    assert config.classify("acquired/Notes/x") == plain
    assert read.place == plain.place
    assert fingerprint(read.options) != fingerprint(plain.options)
    assert len({read, plain, config.classify("acquired/a/y.csv")}) == 2


@pytest.mark.parametrize(
    ("options", "complaint", "hint"),
    [
        ("read: csv", "`read` is not a mapping", "container, encoding"),
        ("read: {colour: red}", "`read` has no setting 'colour'", "one_sided"),
        ("budget: {share: 1}", "`budget` has no setting 'share'", "max_bad_share"),
        ("read: {container: csv}", "`read.container` is 'csv'", "csv_table"),
        ("read: {format: [pair]}", "`read.format` is ['pair']", "sharegpt"),
        ("read: {encoding: hex}", "`read.encoding` is 'hex'", "utf-16"),
        ("read: {encoding: 8}", "`read.encoding` is 8", "utf-16"),
        ("read: {encoding: klingon}", "`read.encoding` is 'klingon'", "utf-16"),
        ("read: {one_sided: yes}", "`read.one_sided` is True", "quarantine, keep"),
        ("read: {longest: 0}", "`read.longest` is 0", "whole number"),
        ("read: {longest: true}", "`read.longest` is True", "whole number"),
        ("budget: {max_bad_share: 5}", "`budget.max_bad_share` is 5", "from 0 to 1"),
        ("budget: {max_bad_run: 1.5}", "`budget.max_bad_run` is 1.5", "whole number"),
    ],
)
def test_invalid_options_are_named(tmp_path: Path, options: str, complaint: str, hint: str) -> None:
    path = tmp_path / "families.yaml"
    path.write_text(f"rules: [{{match: x, family: a, {options}}}]", encoding="utf-8")
    with pytest.raises(FamilyConfigError) as caught:
        FamilyConfig.load(path)
    assert f"{path}, rule 1: {complaint}" in str(caught.value)
    assert hint in str(caught.value)


@pytest.mark.parametrize("document", ["docs/detection.md", "families.yaml"])
def test_documented_rules_are_valid(tmp_path: Path, document: str) -> None:
    text = (project_root() / document).read_text(encoding="utf-8")
    if document == "families.yaml":
        comments = text[text.index("#   - match") : text.index("# `pixel families suggest`")].splitlines()
        rules = "\n".join(["rules:", *(line[1:] for line in comments if line.startswith("#  "))])
    else:
        rules = text[text.index("    rules:") :].split("\n\n")[0]
    path = tmp_path / "families.yaml"
    path.write_text(textwrap.dedent(rules), encoding="utf-8")
    loaded = FamilyConfig.load(path).rules
    assert loaded
    # What the file itself shows are the defaults.
    assert (document != "families.yaml") == any(rule.options != ConversionOptions() for _, rule in loaded)
