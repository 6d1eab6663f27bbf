"""Writes small token shards with the functions of the token stage."""

from dataclasses import asdict
import random

from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.tokens.chat_template import PAD_ID
from pixel_pipeline.tokens.encoder import own_encoder
from pixel_pipeline.tokens.packing import pack
from pixel_pipeline.tokens.shards import (
    FORMAT,
    FamilyTokens,
    ShardManifest,
    ShardRef,
    SplitManifest,
    write_shard,
)

FAMILIES = ("calm", "sleep", "work")
CATEGORIES = {"calm": "rest", "sleep": "rest", "work": "work"}
FEELINGS = (
    "tense",
    "tired",
    "uneasy",
    "hopeful",
    "restless",
    "steady",
    "low",
    "worn out",
    "lighter",
    "stuck",
)
TIMES = ("at night", "every morning", "since spring", "on Sundays", "these days", "after dinner", "for weeks")
PLACES = (
    "at home",
    "at work",
    "on the bus",
    "with my sister",
    "in meetings",
    "near the river",
    "in the kitchen",
)
STEPS = (
    "breathe slowly",
    "write it down",
    "go for a walk",
    "call a friend",
    "rest a little",
    "name the feeling",
)


def conversation(generator: random.Random, *, family: str, turns: int) -> list[tuple[str, str]]:
    """A templated dialogue of user and assistant turns."""
    messages = []
    for _ in range(turns):
        feeling, time, place = (generator.choice(words) for words in (FEELINGS, TIMES, PLACES))
        messages += [
            ("user", f"About {family}: I feel {feeling} {time}, mostly {place}. What could I do?"),
            (
                "assistant",
                f"It sounds hard to feel {feeling} {time}. When it comes up {place}, you might "
                f"{generator.choice(STEPS)}, and then {generator.choice(STEPS)}. How would that be for you?",
            ),
        ]
    return messages


def write_shards(
    lake: Lake,
    *,
    conversations: int = 240,
    held_out: int = 12,
    sequence_length: int = 64,
    vocab_size: int = 400,
    turns: int = 1,
    seed: int = 7,
) -> str:
    """Write tokenizer, shards and manifest; returns the manifest's key.

    Args:
        conversations: Of the training split, in all.
        held_out: Of each held-out split and family.
    """
    generator = random.Random(seed)

    def some(family: str, count: int) -> list[list[tuple[str, str]]]:
        return [conversation(generator, family=family, turns=turns) for _ in range(count)]

    train = {family: some(family, conversations // len(FAMILIES)) for family in FAMILIES}
    texts = [content for dialogues in train.values() for dialogue in dialogues for _, content in dialogue]
    encoder = own_encoder(lake.data, iter([texts]), vocab_size=vocab_size)
    version = f"test-{seed}-{sequence_length}-{conversations}"
    prefix = f"tokens/{encoder.reference.digest}/{version}"

    def shard(name: str, dialogues: list[list[tuple[str, str]]], family: str) -> ShardRef:
        rows = pack(encoder.encode(dialogues), length=sequence_length, pad_id=PAD_ID, seed=seed)
        return write_shard(lake.data, f"{prefix}/{name}.safetensors", rows, family=family)

    splits = {
        "train": [shard(f"train-{family}-00000", train[family], family) for family in FAMILIES],
        **{
            split: [shard(f"{split}-{family}-00000", some(family, held_out), family) for family in FAMILIES]
            for split in ("validation", "test")
        },
    }
    manifest = ShardManifest(
        dataset_version=version,
        sequence_length=sequence_length,
        tokenizer=encoder.reference,
        splits={name: SplitManifest.of(shards) for name, shards in splits.items()},
        families={
            family: FamilyTokens(category=CATEGORIES[family], conversations=len(train[family]), tokens=0)
            for family in FAMILIES
        },
    )
    content = asdict(manifest)
    assert content["format"] == FORMAT
    lake.data.put_json(f"{prefix}/manifest.json", content)
    lake.data.put_json("tokens/current.json", {"manifest": f"{prefix}/manifest.json"})
    return f"{prefix}/manifest.json"
