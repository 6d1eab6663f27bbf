"""Conversations of several turns, and `pixel chat` as it is piped to."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from pixel_pipeline.cli import app
from pixel_pipeline.errors import PixelError
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.training.config.config import TrainingConfig
from pixel_pipeline.training.inference.chat import Conversation
from pixel_pipeline.training.inference.generate import Sampling, Speaker, open_speaker
from pixel_pipeline.training.train import train
from pixel_pipeline_tests.training.base.models import write_base

GREEDY = Sampling(max_new_tokens=8, temperature=0)


def no_lake() -> Lake:
    raise AssertionError("a folder needs no lake")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_base(tmp_path / "model", max_position_embeddings=200)


@pytest.fixture
def speaker(folder: Path) -> Speaker:
    return open_speaker(str(folder), no_lake)


def test_turns_are_what_the_model_is_given(speaker: Speaker) -> None:
    conversation = Conversation(speaker, GREEDY, system="a friend")
    first = "".join(conversation.say("calm sleep"))
    second = "".join(conversation.say("tired"))
    said = [
        {"role": "system", "content": "a friend"},
        {"role": "user", "content": "calm sleep"},
        {"role": "assistant", "content": first},
        {"role": "user", "content": "tired"},
    ]
    assert "".join(speaker.answer(said, GREEDY)) == second
    assert len(conversation.turns) == 4
    conversation.clear()
    assert "".join(conversation.say("calm sleep")) == first


def test_where_the_context_is_full_the_oldest_turns_go(speaker: Speaker) -> None:
    conversation = Conversation(speaker, GREEDY, system="a friend")
    for number in range(12):
        "".join(conversation.say(f"calm sleep {number}"))
    assert len(conversation.turns) < 24
    assert conversation.turns[0]["role"] == "user"
    assert conversation.turns[-2]["content"] == "calm sleep 11"
    with pytest.raises(PixelError, match="Shorten the prompt"):
        "".join(conversation.say("calm sleep " * 200))


def test_what_is_piped_in_is_answered_once(folder: Path, speaker: Speaker) -> None:
    options = ["chat", str(folder), "--temperature", "0", "--max-new-tokens", "8"]
    result = CliRunner().invoke(app, options, input="calm sleep\ntired\n")
    assert result.exit_code == 0
    assert result.stdout.rstrip("\n") == "".join(
        Conversation(speaker, GREEDY).say("calm sleep\ntired")
    ).rstrip("\n")
    assert CliRunner().invoke(app, options, input="").stdout == ""


def test_a_checkpoint_of_the_lake_speaks_too(
    lake: Lake, manifest_key: str, config: TrainingConfig, tmp_path: Path
) -> None:
    train(config, lake, manifest_key, report=lambda line: None, git_revision="abc123", home=tmp_path)
    result = CliRunner().invoke(app, ["chat", "--max-new-tokens", "4"], input="tired")
    assert result.exit_code == 0
    assert result.stdout.strip()


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(PixelError, match="contains no model"):
        open_speaker(str(tmp_path), no_lake)
