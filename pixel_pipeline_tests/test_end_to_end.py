"""From a sample Drive to a trained checkpoint by the commands that the README shows, each in a shell of its own."""

from collections import Counter
from collections.abc import Iterator
import json
from pathlib import Path
import re
from typing import Any

from PIL import Image
import pytest

from pixel_pipeline.conversations.families.config import FamilyConfig
from pixel_pipeline.curation.accounts import FamilyAccount, read_accounts
from pixel_pipeline.lake import embedded, keys
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.lake.tables.table import Table
from pixel_pipeline.settings import Settings
from pixel_pipeline.training.checkpoints.store import CheckpointRef
from pixel_pipeline_tests.activated import Finished, shell

CONVERSATIONS = 400
STEPS = "20"
SENTINELS = ("zyxomma-in-bad-json", "zyxomma-in-ragged-csv", "zyxomma-in-parquet", "zyxomma-in-empty-turn")
JOBS = ("sync_raw", "prepare_data", "train_moe")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("end-to-end")
    yield folder
    embedded.stop(folder)


@pytest.fixture(scope="module")
def planted(home: Path) -> dict[str, Any]:
    """The sample Drive's own account of what it holds."""
    result = shell(f"pixel sample --conversations {CONVERSATIONS} --json", home=home)
    assert result.code == 0, result.text
    manifest: dict[str, Any] = json.loads(result.stdout)
    return manifest


@pytest.fixture(scope="module")
def first_run(home: Path, planted: dict[str, Any]) -> dict[str, Finished]:
    """All three jobs by their literal commands, on a lake that was empty before."""
    return {
        job: shell(f"dagster job execute -j {job}", home=home, PIXEL_TRAINING_STEPS=STEPS) for job in JOBS
    }


@pytest.fixture(scope="module")
def trained(first_run: dict[str, Finished], home: Path) -> Lake:
    for job, result in first_run.items():
        assert result.code == 0, f"{job}\n{result.text[-3000:]}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(Settings.model_config, "env_file", None)
        return Lake.open(Settings(home=home))


@pytest.fixture(scope="module")
def accounts(trained: Lake) -> dict[str, FamilyAccount]:
    return read_accounts(trained, FamilyConfig())


def test_the_planted_dirt_is_counted_exactly(
    planted: dict[str, Any], accounts: dict[str, FamilyAccount]
) -> None:
    totals = planted["totals"]
    quarantined = sum((account.quarantined for account in accounts.values()), Counter())
    dropped = sum((account.dropped for account in accounts.values()), Counter())
    skipped = sum((account.skipped for account in accounts.values()), Counter())
    assert quarantined["bad_json"] + quarantined["bad_encoding"] == totals["bad_lines"] > 0
    assert quarantined["empty_turn"] == totals["empty_turns"] > 0
    assert quarantined.total() == totals["bad_lines"] + totals["empty_turns"]
    assert dropped["exact_duplicate"] == totals["exact_duplicates"] > 0
    assert dropped["near_duplicate"] == totals["near_duplicates"] > 0
    assert skipped["not_a_dataset"] == len(planted["not_datasets"]) > 0
    assert sum(account.curated.total() for account in accounts.values()) == totals["expected_curated"]


def test_every_family_converts_what_it_should(
    planted: dict[str, Any], accounts: dict[str, FamilyAccount]
) -> None:
    assert {family: account.converted for family, account in accounts.items()} == {
        family: counts["expected_converted"] for family, counts in planted["by_family"].items()
    }


def test_the_conservation_check_passed(first_run: dict[str, Finished]) -> None:
    assert "check conservation passed" in first_run["prepare_data"].stderr


def test_the_registry_lists_every_dataset(trained: Lake, accounts: dict[str, FamilyAccount]) -> None:
    registry = trained.data.get_json(keys.REGISTRY)
    counted = {entry["family"]: sum(entry["conversations"].values()) for entry in registry["datasets"]}
    assert counted == {family: account.curated.total() for family, account in accounts.items()}
    for entry in registry["datasets"]:
        prefix = entry["path"].removeprefix(f"s3://{trained.data.name}/")
        assert Table(trained, prefix).exists()


def test_training_reports_progress_live_and_lowers_the_loss(first_run: dict[str, Finished]) -> None:
    text = first_run["train_moe"].stderr
    assert re.search(r"step \d+/20 .*loss \d+\.\d+ .*tokens/s", text)
    losses = [float(value) for value in re.findall(r"step \d+/20  validation loss (\d+\.\d+)", text)]
    assert losses[-1] < losses[0]


def test_the_checkpoint_is_whole_and_holds_no_pickle(trained: Lake) -> None:
    checkpoint = CheckpointRef.resolve(trained, "latest")
    names = {info.key.rsplit("/", 1)[1] for info in trained.checkpoints.list(checkpoint.prefix)}
    assert {"model.safetensors", "config.json", "tokenizer.json", "manifest.json"} <= names
    assert all(name.endswith((".safetensors", ".json", ".jinja")) for name in names), names


def test_the_evaluation_has_its_pictures(trained: Lake, tmp_path: Path) -> None:
    run = CheckpointRef.resolve(trained, "latest").run
    pictures = [
        info.key for info in trained.checkpoints.list(f"{run}/evaluation") if info.key.endswith(".png")
    ]
    assert len(pictures) >= 2
    for number, key in enumerate(pictures):
        path = tmp_path / f"{number}.png"
        trained.checkpoints.download(key, path)
        with Image.open(path) as picture:
            picture.load()
            assert picture.width > 400
            assert len(picture.convert("RGB").getcolors(maxcolors=1 << 24) or []) > 10


def test_a_second_run_recomputes_nothing_and_says_so(trained: Lake, home: Path) -> None:
    # A sync notes that it found everything unchanged.
    told = (keys.MEMO, keys.LAST_SYNC, keys.SYNC_REPORT)
    before = {info.key: info.etag for info in trained.data.list("") if not info.key.startswith(told)}
    checkpoints = {info.key: info.etag for info in trained.checkpoints.list("")}
    for job in JOBS[:2]:
        result = shell(f"dagster job execute -j {job}", home=home)
        assert result.code == 0, result.text[-3000:]
        if job == "prepare_data":
            for asset in ("raw_inventory", "conversations", "curated", "dataset_registry", "token_shards"):
                line = next(
                    line
                    for line in result.stderr.splitlines()
                    if f"  {asset} " in line and "WARNING" not in line
                )
                assert "unchanged" in line, line
    result = shell("dagster job execute -j train_moe", home=home, PIXEL_TRAINING_STEPS=STEPS)
    assert result.code == 0, result.text[-3000:]
    assert "nothing to train" in result.stderr
    assert "is evaluated already" in result.stderr
    assert {info.key: info.etag for info in trained.data.list("") if not info.key.startswith(told)} == before
    weights = {key: etag for key, etag in checkpoints.items() if key.endswith(".safetensors")}
    assert weights.items() <= {info.key: info.etag for info in trained.checkpoints.list("")}.items()


def test_status_shows_every_family(trained: Lake, home: Path, accounts: dict[str, FamilyAccount]) -> None:
    result = shell("pixel status --json", home=home)
    assert result.code == 0, result.text
    families = {item["family"]: item for item in json.loads(result.stdout)["families"]}
    assert families.keys() == accounts.keys()
    assert all(item["tokens"] > 0 for item in families.values() if item["curated"])
    table = shell("pixel status", home=home).stdout
    assert all(family[:10] in table for family in families)


def test_the_checkpoint_answers(trained: Lake, home: Path) -> None:
    command = "pixel generate latest --prompt 'I cannot sleep.' --max-new-tokens 8 --seed 1"
    first, second = shell(command, home=home), shell(command, home=home)
    assert first.code == 0, first.text
    assert first.stdout == second.stdout


def test_no_secret_and_no_conversation_reaches_the_event_log(trained: Lake, home: Path) -> None:
    """Dirt with planted words goes through the whole pipeline; then every byte that Dagster kept is searched."""
    bad = {
        "Leaky/broken.jsonl": b'{"messages": [{"role": "user", "content": "zyxomma-in-bad-json"\n' * 3,
        "Leaky/ragged.csv": b'Context,Response\nfine,fine\n"zyxomma-in-ragged-csv",too,many,cells\n',
        "Leaky/damaged.parquet": b"PAR1 zyxomma-in-parquet PAR1",
        "Leaky/empty.jsonl": b'{"messages":[{"role":"user","content":"zyxomma-in-empty-turn"},{"role":"assistant","content":" "}]}\n',
    }
    for name, content in bad.items():
        trained.data.put(f"{keys.ACQUIRED}/{name}", content)
    result = shell("dagster job execute -j prepare_data", home=home)
    assert result.code == 0, result.text[-3000:]
    secret = json.loads((home / "s3" / "credentials.json").read_text())["secret_key"]
    curated = Table(trained, keys.CURATED).dataset().to_table(columns=["messages"])["messages"].to_pylist()
    # Long enough to be nobody else's words, short enough not to be cut by the database's pages every time.
    spoken = {
        turn["content"][:48].encode() for turns in curated for turn in turns if len(turn["content"]) >= 48
    }
    assert len(spoken) > 1000
    words = [secret.encode(), *(sentinel.encode() for sentinel in SENTINELS)]
    kept = [path for path in (home / "dagster").rglob("*") if path.is_file()]
    assert any(path.suffix == ".db" for path in kept)
    for path in kept:
        content = path.read_bytes()
        assert not [word for word in words if word in content], path
        assert not [text for text in spoken if text in content], path
    assert not [word for word in words if word in result.text.encode()]
    log = (home / "s3" / "weed.log").read_bytes()
    assert not [word for word in words if word in log]
