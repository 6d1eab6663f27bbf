"""The tokenizer and chat template of a base model in the lake, and conversations encoded by them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
import hashlib
from typing import Any

import numpy as np
import orjson
from tokenizers import Tokenizer

from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.registry.base_models import (
    BaseManifest,
    BaseModelCorruptError,
    BaseModelError,
    prefix_of,
)
from pixel_pipeline.tokens.base_template import ChatTemplate, Rendered, Turns
from pixel_pipeline.tokens.chat_template import END, JINJA, START, EncodedConversation

TOKENIZER = "tokenizer.json"
CONFIG = "tokenizer_config.json"
SPECIAL_TOKENS_MAP = "special_tokens_map.json"
TEMPLATE = "chat_template.jinja"
FILES = (TOKENIZER, CONFIG, SPECIAL_TOKENS_MAP, TEMPLATE)
"""All that the tokens depend on."""


@dataclass(frozen=True)
class BaseTokenizer:
    """What encodes conversations for a base model.

    Attributes:
        data: Its `tokenizer.json`.
        end_id: Token that ends an answer.
        pad_id: Its padding, else `end_id`.
        own_template: False where it has none, and ChatML is used.
    """

    name: str
    data: bytes
    vocab_size: int
    end_id: int
    pad_id: int
    own_template: bool
    template: ChatTemplate
    tokenizer: Tokenizer = field(repr=False)
    _text_only: Tokenizer = field(repr=False)
    _special: Mapping[int, str] = field(repr=False)

    @classmethod
    def open(cls, lake: Lake, manifest: BaseManifest) -> "BaseTokenizer":
        """Read tokenizer and template of a base model.

        Raises:
            BaseModelCorruptError: a file is not what the manifest promises.
            BaseModelError: it has neither a chat template nor the tokens of ChatML.
            ChatTemplateError: its template cannot be trained on.
        """
        return cls.of(
            manifest.name, {name: _read(lake, manifest, name) for name in FILES if name in manifest.files}
        )

    @classmethod
    def of(cls, name: str, files: Mapping[str, bytes]) -> "BaseTokenizer":
        """From the content of those of `FILES` that there are. Raises as `open`."""
        try:
            content = orjson.loads(files[TOKENIZER])
            # Nothing is cut or padded here. The template places every special token, and what a post-processor does besides
            # is to trim white space off offsets, which tell what is learned.
            content |= {"truncation": None, "padding": None, "post_processor": None}
            tokenizer = Tokenizer.from_str(orjson.dumps(content).decode())
            text_only = Tokenizer.from_str(orjson.dumps(content).decode())
            text_only.encode_special_tokens = True
            settings = {**_json(files, SPECIAL_TOKENS_MAP), **_json(files, CONFIG)}
        except Exception:  # noqa: BLE001  the library raises bare exceptions that quote the file
            raise BaseModelCorruptError(
                f"The tokenizer of the base model {name} cannot be read.",
                hint="Add the base model again under another name, with the tokenizer files of its source.",
            ) from None
        special_ids = {
            number: token.content
            for number, token in tokenizer.get_added_tokens_decoder().items()
            if token.special
        }
        special = [*special_ids.values()]
        spelt = {
            key: text for key in settings if key.endswith("_token") and (text := _spelling(settings[key]))
        }
        # Some tokenizers do not flag their end of text as special.
        special += [token for token in (spelt.get("eos_token"),) if token and token not in special]
        source = _template(files, settings)
        if source is None and not {START, END} <= {*special}:
            raise BaseModelError(
                f"The base model {name} has no chat template, and its vocabulary lacks {START} and {END} of ChatML.",
                hint="Take the instruction-tuned model, or put a chat_template.jinja into its folder and add it under another name.",
            )
        template = ChatTemplate(
            source=JINJA if source is None else source,
            variables=spelt,
            special=special,
            name=f"the base model {name}",
        )
        end_id = tokenizer.token_to_id(template.end_token)
        if end_id is None:
            raise BaseModelError(
                f"The chat template of the base model {name} ends turns by {template.end_token}, which is not in its vocabulary.",
                hint="Add the base model again under another name, with the tokenizer files of its source.",
            )
        pad_id = tokenizer.token_to_id(spelt["pad_token"]) if "pad_token" in spelt else None
        return cls(
            name=name,
            data=files[TOKENIZER],
            vocab_size=max(tokenizer.get_vocab().values()) + 1,
            end_id=end_id,
            pad_id=end_id if pad_id is None else pad_id,
            own_template=source is not None,
            template=template,
            tokenizer=tokenizer,
            _text_only=text_only,
            _special=special_ids,
        )

    def encode(self, conversations: Sequence[Turns]) -> list[EncodedConversation]:
        """Encode conversations as the base model's own template writes them.

        Loss falls on what the assistant says, up to and including its end-of-turn token. A special token's spelling
        inside a message is encoded as text, and never becomes the special token.

        Raises:
            ChatTemplateError: the template cannot tell one of them.
        """
        rendered = [self.template.render(turns) for turns in conversations]
        encodings = self.tokenizer.encode_batch([one.text for one in rendered], add_special_tokens=False)
        return [
            self._encoded(one, ids=np.array(encoding.ids, np.int32), offsets=encoding.offsets)
            for one, encoding in zip(rendered, encodings, strict=True)
        ]

    def _encoded(
        self, rendered: Rendered, *, ids: np.ndarray[Any, np.dtype[np.int32]], offsets: list[tuple[int, int]]
    ) -> EncodedConversation:
        starts, ends = np.array(offsets, np.int64).reshape(-1, 2).T
        # Characters up to each place that are learned, and that are somebody's words.
        learned, said = np.zeros((2, len(rendered.text) + 1), np.int64)
        for span in rendered.spans:
            learned[span.start + 1 : span.learned_end + 1] = 1
            said[span.start + 1 : span.end + 1] = 1
        learned, said = learned.cumsum(), said.cumsum()
        mask = (learned[ends] > learned[starts]).astype(np.uint8)
        pieces, masks, done = [], [], 0
        for place in map(int, np.flatnonzero(np.isin(ids, [*self._special]) & (said[ends] > said[starts]))):
            start, end = int(starts[place]), int(ends[place])
            # One that the template wrote may have swallowed white space of the turn beside it.
            at = rendered.text.find(spelling := self._special[int(ids[place])], start, end)
            if at >= 0 and said[at + len(spelling)] == said[at]:
                mask[place] = learned[at + len(spelling)] > learned[at]
                continue
            words = self._text_only.encode(rendered.text[start:end], add_special_tokens=False).ids
            pieces += [ids[done:place], np.array(words, np.int32)]
            masks += [mask[done:place], np.full(len(words), mask[place], np.uint8)]
            done = place + 1
        return EncodedConversation(
            tokens=np.concatenate([*pieces, ids[done:]]), loss_mask=np.concatenate([*masks, mask[done:]])
        )


def base_identity(manifest: BaseManifest) -> list[str]:
    """Digests of the base model and of all files that its tokens depend on."""
    files = [manifest.files[name].sha256 for name in FILES if name in manifest.files]
    return [manifest.digest, *files]


def _read(lake: Lake, manifest: BaseManifest, name: str) -> bytes:
    key = f"{prefix_of(manifest.name)}/{name}"
    data = lake.data.get(key)
    if hashlib.sha256(data).hexdigest() != manifest.files[name].sha256:
        raise BaseModelCorruptError(
            f"{lake.data.uri(key)} is not what its manifest says.",
            hint="Delete the base model's manifest, and add it again with `pixel base add`.",
        )
    return data


def _json(files: Mapping[str, bytes], name: str) -> dict[str, Any]:
    return dict(orjson.loads(files[name])) if name in files else {}


def _spelling(token: Any) -> str | None:
    """A special token in tokenizer_config.json: its text, or an object with it."""
    text = token.get("content") if isinstance(token, dict) else token
    return text if isinstance(text, str) else None


def _template(files: Mapping[str, bytes], settings: dict[str, Any]) -> str | None:
    if TEMPLATE in files:
        return files[TEMPLATE].decode()
    found = settings.get("chat_template")
    if isinstance(found, list):
        # Several by name, as tools or retrieval want them.
        found = {item.get("name"): item.get("template") for item in found}.get("default")
    return found if isinstance(found, str) else None
