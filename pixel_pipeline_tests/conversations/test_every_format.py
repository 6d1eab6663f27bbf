"""Every format in every container that can hold it gives the same conversation."""

import bz2
from collections.abc import Callable
import csv
import gzip
import io
import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from pixel_pipeline_tests.conversations.containers.packed.test_archives import tarred, zipped, zstd
from pixel_pipeline_tests.conversations.containers.packed.test_office import excel, paragraph, word
from pixel_pipeline_tests.conversations.converted import Converted, convert

ASKED, ANSWERED, MORE, END = (
    "How do I sleep better?",
    "What keeps you awake?",
    "Worries. 我很担心。",
    "Let us look at them.",
)
TALK = [("user", ASKED), ("assistant", ANSWERED), ("user", MORE), ("assistant", END)]
PAIR = TALK[:2]
SYSTEM = ("system", "Be kind.")


def turns(role: str, content: str, user: str, assistant: str, **more: Any) -> list[dict[str, Any]]:
    return [
        {role: {"user": user, "assistant": assistant}[side], content: text, **more} for side, text in TALK
    ]


TURN_LISTS = {
    **{f"messages with {role} {content}": {"messages": turns(role, content, "user", "assistant")}
       for role in ("role", "speaker", "sender", "author", "from") for content in ("content", "text", "value", "utterance", "message")
       if role != "from" or content in ("content", "text", "value")},
    **{f"a list called {key}": {key: turns("role", "content", "user", "assistant")}
       for key in ("messages", "conversation", "conversations", "dialog", "dialogue", "turns", "utterances", "chat", "history", "Messages")},
    **{f"roles {user} and {assistant}": {"conversations": turns("from", "value", user, assistant)}
       for user, assistant in [
           ("human", "gpt"), ("user", "chatgpt"), ("Human", "Assistant"), ("prompter", "assistant"), ("seeker", "supporter"),
           ("client", "therapist"), ("patient", "doctor"), ("usr", "bot"), ("help-seeker", "listener"), ("Client", "Counsellor"),
           ("来访者", "心理咨询师"), ("求助者", "支持者"), ("用户", "助手"), ("患者", "医生"), ("내담자", "상담사"), ("相談者", "カウンセラー"), ("A", "B"), (0, 1),
       ]},
    "annotations": {"dialog": turns("speaker", "content", "seeker", "supporter", annotation={"strategy": "Question"}), "emotion_type": "anxiety"},
    "exchanges": {"conversation": [{"input": ASKED, "output": ANSWERED}, {"input": MORE, "output": END}]},
    "texts in turn": {"dialogue": [text for _, text in TALK]},
    "tagged texts": {"dialogue": [f"{'Client' if role == 'user' else 'Therapist'}: {text}" for role, text in TALK]},
    "groups": {"messages": [[{"sender": role, "text": text}] for role, text in TALK]},
    "alpaca with history": {"instruction": MORE, "input": "", "output": END, "history": [[ASKED, ANSWERED]]},
    "a query with history": {"query": MORE, "response": END, "history": [[ASKED, ANSWERED]]},
}  # fmt: skip
FIELDS = {
    f"{asked}, {answered}": {asked: ASKED, answered: ANSWERED}
    for asked, answered in [
        ("instruction", "output"), ("instruction", "response"), ("prompt", "response"), ("prompt", "completion"), ("prompt", "answer"),
        ("question", "answer"), ("Question", "Response"), ("Context", "Response"), ("query", "response"), ("input", "output"), ("Q", "A"),
        ("user", "assistant"), ("human", "assistant"), ("client", "therapist"), ("patient", "doctor"), ("questionText", "answerText"),
        ("问题", "回答"), ("问题", "答案"),
    ]
}  # fmt: skip
THOUGHTS = {
    "Complex_CoT": {"Question": ASKED, "Complex_CoT": "hm", "Response": ANSWERED},
    "reasoning": {"question": ASKED, "reasoning": "hm", "answer": ANSWERED},
    "cot": {"instruction": ASKED, "cot": "hm", "output": ANSWERED},
    "reasoning_content": {"prompt": ASKED, "reasoning_content": "hm", "response": ANSWERED},
    "think": {"prompt": ASKED, "response": f"<think>hm</think>\n\n{ANSWERED}"},
}
INLINE = {
    "Human": f"\n\nHuman: {ASKED}\n\nAssistant: {ANSWERED}\n\nHuman: {MORE}\n\nAssistant: {END}",
    "### Human": f"### Human: {ASKED}\n### Assistant: {ANSWERED}\n### Human: {MORE}\n### Assistant: {END}",
    "Chinese": f"用户：{ASKED}\n助手：{ANSWERED}\n用户：{MORE}\n助手：{END}",
    "counsellor": f"来访者：{ASKED}\n咨询师：{ANSWERED}\n来访者：{MORE}\n咨询师：{END}",
    "问 答": f"问：{ASKED}\n答：{ANSWERED}\n问：{MORE}\n答：{END}",
    "ChatML": "".join(f"<|im_start|>{role}\n{text}<|im_end|>\n" for role, text in TALK),
    "Llama": f"<s>[INST] {ASKED} [/INST] {ANSWERED} </s><s>[INST] {MORE} [/INST] {END} </s>",
    "USER": f"USER: {ASKED} ASSISTANT: {ANSWERED}</s>USER: {MORE} ASSISTANT: {END}</s>",
}  # fmt: skip
DOCUMENTS = {
    "session.txt": f"Session 3\n\nClient: {ASKED}\nTherapist: {ANSWERED}\nClient: {MORE}\nTherapist: {END}\n",
    "times.txt": f"[00:00:01] Client: {ASKED}\n[00:00:09] Therapist: {ANSWERED}\n[00:01:00] Client: {MORE}\n[00:01:09] Therapist: {END}\n",
    "session.md": f"# Session\n\n**Client:** {ASKED}\n\n**Therapist:** {ANSWERED}\n\n**Client:** {MORE}\n\n**Therapist:** {END}\n",
    "headings.md": f"## User\n{ASKED}\n\n## Assistant\n{ANSWERED}\n\n## User\n{MORE}\n\n## Assistant\n{END}\n",
    "session.vtt": "WEBVTT\n\n" + "\n\n".join(f"00:0{n}.000 --> 00:0{n}.900\n<v {('Client', 'Therapist')[n % 2]}>{text}</v>" for n, (_, text) in enumerate(TALK)),
    "session.srt": "\n\n".join(f"{n + 1}\n00:00:0{n},000 --> 00:00:0{n},900\n{('Client', 'Therapist')[n % 2]}: {text}" for n, (_, text) in enumerate(TALK)),
}  # fmt: skip


def lines_of(record: Any) -> bytes:
    return b"\n".join([json.dumps(record, ensure_ascii=False).encode()] * 2) + b"\n"


def arrow(record: dict[str, Any]) -> bytes:
    table, sink = pa.Table.from_pylist([record, record]), io.BytesIO()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def parquet(record: dict[str, Any]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([record, record]), sink)
    return sink.getvalue()


def delimited(delimiter: str) -> Callable[[dict[str, Any]], bytes]:
    def write(record: dict[str, Any]) -> bytes:
        sink = io.StringIO()
        writer = csv.writer(sink, delimiter=delimiter)
        writer.writerows([record, record.values(), record.values()])
        return sink.getvalue().encode()

    return write


NESTED = {
    "x.jsonl": lines_of,
    "x.json": lambda record: json.dumps([record, record], indent=1).encode(),
    "keyed.json": lambda record: json.dumps({"a": record, "b": record}).encode(),
    "listed.json": lambda record: json.dumps({"name": "x", "data": [record, record]}).encode(),
    "x.yml": lambda record: yaml.safe_dump(json.loads(json.dumps({"conversations": [record, record]})), allow_unicode=True).encode(),
    "x.parquet": parquet,
    "x.arrow": arrow,
    "x.jsonl.gz": lambda record: gzip.compress(lines_of(record)),
    "x.jsonl.zst": lambda record: zstd(lines_of(record)),
    "x.jsonl.bz2": lambda record: bz2.compress(lines_of(record)),
    "x.zip": lambda record: zipped({"in/x.jsonl": lines_of(record), "README.md": b"# x", "in/a.png": b"\x89PNG\r\n\x1a\n\x00\x01\x02\x03"}),
    "x.tar.gz": lambda record: gzip.compress(tarred({"in/x.jsonl": lines_of(record), "LICENSE": b"MIT"})),
}  # fmt: skip
FLAT = {
    **NESTED,
    "x.csv": delimited(","),
    "semicolons.csv": delimited(";"),
    "x.tsv": delimited("\t"),
    "x.xlsx": lambda record: excel([[*record], [*record.values()], [*record.values()]]),
    "x.csv.gz": lambda record: gzip.compress(delimited(",")(record)),
}


def _check(got: Converted, talk: list[tuple[str, str]]) -> None:
    assert got.error_classes == []
    assert got.messages == [talk, talk]


@pytest.mark.parametrize("file", NESTED)
@pytest.mark.parametrize("name", TURN_LISTS)
def test_turn_lists(name: str, file: str) -> None:
    record = TURN_LISTS[name]
    if file == "x.yml" and "0 and 1" in name:
        return  # every scalar of YAML is text
    if (
        file in ("x.parquet", "x.arrow")
        and "history" in record
        and not isinstance(record["history"][0], dict)
    ):
        record = {**record, "history": [list(map(str, pair)) for pair in record["history"]]}
    _check(convert(NESTED[file](record), f"gdrive/raw/F/{file}"), TALK)


@pytest.mark.parametrize("file", FLAT)
@pytest.mark.parametrize("name", FIELDS)
def test_fields(name: str, file: str) -> None:
    if (name, file) == ("input, output", "x.yml"):
        return  # a list of exchanges called conversations is one conversation
    _check(convert(FLAT[file](FIELDS[name]), f"gdrive/raw/F/{file}"), PAIR)


@pytest.mark.parametrize("file", FLAT)
@pytest.mark.parametrize("name", THOUGHTS)
def test_thoughts(name: str, file: str) -> None:
    got = convert(FLAT[file](THOUGHTS[name]), f"gdrive/raw/F/{file}")
    _check(got, PAIR)
    assert [row["reasoning"] for row in got.rows] == ["hm", "hm"]


@pytest.mark.parametrize("file", FLAT)
@pytest.mark.parametrize("key", ["text", "conversation", "dialogue"])
@pytest.mark.parametrize("name", INLINE)
def test_inline_tags(name: str, key: str, file: str) -> None:
    _check(convert(FLAT[file]({"id": "7", key: INLINE[name]}), f"gdrive/raw/F/{file}"), TALK)


@pytest.mark.parametrize("name", INLINE)
def test_an_array_of_records_with_only_a_text(name: str) -> None:
    _check(convert(json.dumps([{"text": INLINE[name]}] * 2).encode(), "gdrive/raw/F/x.json"), TALK)


@pytest.mark.parametrize("file", DOCUMENTS)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_documents(file: str, encoding: str, end: str) -> None:
    data = DOCUMENTS[file].replace("\n", end).encode(encoding)
    assert convert(data, f"gdrive/raw/F/{file}").messages == [TALK]
    assert convert(gzip.compress(data), f"gdrive/raw/F/{file}.gz").messages == [TALK]
    assert convert(zipped({file: data, "b.txt": data}), "gdrive/raw/F/x.zip").messages == [TALK, TALK]


def test_a_word_document() -> None:
    body = "".join(paragraph(f"{('Client', 'Therapist')[n % 2]}: {text}") for n, (_, text) in enumerate(TALK))
    assert convert(word(body), "gdrive/raw/F/x.docx").messages == [TALK]


@pytest.mark.parametrize("file", NESTED)
def test_a_system_text(file: str) -> None:
    for record in (
        {"system": SYSTEM[1], "conversations": turns("from", "value", "human", "gpt")},
        {"conversations": [{"from": "system", "value": SYSTEM[1]}, *turns("from", "value", "human", "gpt")]},
    ):
        _check(convert(NESTED[file](record), f"gdrive/raw/F/{file}"), [SYSTEM, *TALK])


@pytest.mark.parametrize("file", FLAT)
@pytest.mark.parametrize("record", [
    {"prompt": ASKED, "chosen": ANSWERED, "rejected": "No."},
    {"question": ASKED, "response_0": "No.", "response_1": ANSWERED, "better_response_id": "1"},
    {"chosen": f"Human: {ASKED}\n\nAssistant: {ANSWERED}", "rejected": f"Human: {ASKED}\n\nAssistant: No."},
    {"chosen": f"\n\nHuman: {ASKED}\n\nAssistant: {ANSWERED}", "rejected": f"\n\nHuman: {ASKED}\n\nAssistant: No."},
])  # fmt: skip
def test_preferences(record: dict[str, Any], file: str) -> None:
    got = convert(FLAT[file](record), f"gdrive/raw/F/{file}")
    _check(got, PAIR)
    assert {tuple(row["tags"]) for row in got.rows} == {("preference",)}


TREE = {
    "message_id": "a", "role": "prompter", "text": ASKED,
    "replies": [
        {"message_id": "b", "role": "assistant", "text": "No.", "rank": 1, "replies": []},
        {"message_id": "c", "role": "assistant", "text": ANSWERED, "rank": 0, "replies": [
            {"message_id": "d", "role": "prompter", "text": MORE, "replies": [
                {"message_id": "e", "role": "assistant", "text": END, "rank": 0, "replies": []}]}]},
    ],
}  # fmt: skip
FLAT_TREE = [
    {"message_id": name, "parent_id": parent, "role": role, "text": text, "rank": rank}
    for name, parent, role, text, rank in [
        ("a", None, "prompter", ASKED, None), ("b", "a", "assistant", "No.", 1), ("c", "a", "assistant", ANSWERED, 0),
        ("d", "c", "prompter", MORE, None), ("e", "d", "assistant", END, 0),
    ]
]  # fmt: skip


@pytest.mark.parametrize("file", ["x.jsonl", "x.json", "x.zip", "x.tar.gz"])
def test_trees_by_their_best_answers(file: str) -> None:
    for record in (TREE, {"message_tree_id": "a", "prompt": TREE}):
        _check(convert(NESTED[file](record), f"gdrive/raw/F/{file}"), TALK)
    rows = b"\n".join(json.dumps(row).encode() for row in FLAT_TREE)
    assert convert(rows, "gdrive/raw/F/flat.jsonl").messages == [TALK]
    table = pa.Table.from_pylist(FLAT_TREE)
    sink = io.BytesIO()
    pq.write_table(table, sink)
    assert convert(sink.getvalue(), "gdrive/raw/F/flat.parquet").messages == [TALK]


@pytest.mark.parametrize("file", ["x.jsonl", "x.json", "x.zip"])
def test_posts(file: str) -> None:
    post = {"title": ASKED, "selftext": "", "author": "me", "comments": [
        {"author": "you", "body": "No.", "score": 1},
        {"author": "you", "body": ANSWERED, "score": 9, "replies": [{"author": "me", "body": MORE, "replies": [{"author": "you", "body": END}]}]},
    ]}  # fmt: skip
    _check(convert(NESTED[file](post), f"gdrive/raw/F/{file}"), TALK)
