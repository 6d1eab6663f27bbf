"""Encode conversations with the tokenizer and chat template of a base model in the lake."""

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
"""All files that the tokens depend on."""


@dataclass(frozen=True)
class BaseTokenizer:
    """Encodes conversations for a base model.

    Attributes:
        data: Its `tokenizer.json`.
        end_id: Token that ends an answer.
        pad_id: Padding token; `end_id` if the tokenizer has none.
        own_template: Whether it has a chat template; otherwise ChatML is used.
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
            BaseModelCorruptError: a file differs from the manifest.
            BaseModelError: it has neither a chat template nor the tokens of ChatML.
            ChatTemplateError: its template cannot be trained on.
        """
        files = {name: _read(lake, manifest, name) for name in FILES if name in manifest.files}
        return cls.of(manifest.name, files)

    @classmethod
    def of(cls, name: str, files: Mapping[str, bytes]) -> "BaseTokenizer":
        """Build it from the contents of the existing `FILES`. Raises like `open`."""
        try:
            content = orjson.loads(files[TOKENIZER])
            # No truncation, no padding. The template places all special tokens, and a post-processor would also trim white
            # space from the offsets that determine the loss mask.
            content |= {"truncation": None, "padding": None, "post_processor": None}
            tokenizer = Tokenizer.from_str(orjson.dumps(content).decode())
            text_only = Tokenizer.from_str(orjson.dumps(content).decode())
            text_only.encode_special_tokens = True
            settings = {**_json(files, SPECIAL_TOKENS_MAP), **_json(files, CONFIG)}
        except Exception:  # noqa: BLE001  the library raises bare exceptions that quote the file
            raise BaseModelCorruptError(
                f"The tokenizer of the base model {name} is unreadable.",
                hint="Add the base model again under another name, with the tokenizer files of its source.",
            ) from None
        special_ids = {
            number: token.content
            for number, token in tokenizer.get_added_tokens_decoder().items()
            if token.special
        }
        named = {
            key: text for key in settings if key.endswith("_token") and (text := _spelling(settings[key]))
        }
        # Some tokenizers do not flag their end of text as special.
        special = {*special_ids.values(), *filter(None, [named.get("eos_token")])}
        source = _template(files, settings)
        if source is None and not {START, END} <= special:
            raise BaseModelError(
                f"The base model {name} has no chat template, and its vocabulary lacks {START} and {END} of ChatML.",
                hint="Use the instruction-tuned model, or put a chat_template.jinja into its folder and add it under another name.",
            )
        template = ChatTemplate(
            JINJA if source is None else source,
            variables=named,
            special=special,
            name=f"the base model {name}",
        )
        end_id = tokenizer.token_to_id(template.end_token)
        if end_id is None:
            raise BaseModelError(
                f"The chat template of the base model {name} ends turns with {template.end_token}, which is not in its vocabulary.",
                hint="Add the base model again under another name, with the tokenizer files of its source.",
            )
        pad_id = tokenizer.token_to_id(named["pad_token"]) if "pad_token" in named else None
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
        """Encode conversations with the base model's template.

        Loss falls on the assistant's answers, including their end-of-turn tokens. A special token's spelling inside a message
        is encoded as text, never as the special token.

        Raises:
            ChatTemplateError: the template cannot render a conversation.
        """
        rendered = [self.template.render(turns) for turns in conversations]
        encodings = self.tokenizer.encode_batch([item.text for item in rendered], add_special_tokens=False)
        return [
            self._encode(item, ids=np.array(encoding.ids, np.int32), offsets=encoding.offsets)
            for item, encoding in zip(rendered, encodings, strict=True)
        ]

    def _encode(
        self, rendered: Rendered, *, ids: np.ndarray[Any, np.dtype[np.int32]], offsets: list[tuple[int, int]]
    ) -> EncodedConversation:
        starts, ends = np.array(offsets, np.int64).reshape(-1, 2).T
        # Cumulative counts over the text: learned characters, and characters of contents.
        learned, content = np.zeros((2, len(rendered.text) + 1), np.int64)
        for span in rendered.spans:
            learned[span.start + 1 : span.learned_end + 1] = 1
            content[span.start + 1 : span.end + 1] = 1
        learned, content = learned.cumsum(), content.cumsum()
        mask = (learned[ends] > learned[starts]).astype(np.uint8)
        in_content = np.isin(ids, [*self._special]) & (content[ends] > content[starts])
        pieces, masks, done = [], [], 0
        for index in map(int, np.flatnonzero(in_content)):
            start, end = int(starts[index]), int(ends[index])
            # A special token of the template may have absorbed adjacent white space of a content.
            spelling = self._special[int(ids[index])]
            at = rendered.text.find(spelling, start, end)
            if at >= 0 and content[at + len(spelling)] == content[at]:
                mask[index] = learned[at + len(spelling)] > learned[at]
                continue
            text_ids = self._text_only.encode(rendered.text[start:end], add_special_tokens=False).ids
            pieces += [ids[done:index], np.array(text_ids, np.int32)]
            masks += [mask[done:index], np.full(len(text_ids), mask[index], np.uint8)]
            done = index + 1
        return EncodedConversation(
            tokens=np.concatenate([*pieces, ids[done:]]), loss_mask=np.concatenate([*masks, mask[done:]])
        )


def base_identity(manifest: BaseManifest) -> list[str]:
    """Return the digests of the base model and of all files that its tokens depend on."""
    files = [manifest.files[name].sha256 for name in FILES if name in manifest.files]
    return [manifest.digest, *files]


def _read(lake: Lake, manifest: BaseManifest, name: str) -> bytes:
    key = f"{prefix_of(manifest.name)}/{name}"
    data = lake.data.get(key)
    if hashlib.sha256(data).hexdigest() != manifest.files[name].sha256:
        raise BaseModelCorruptError(
            f"{lake.data.uri(key)} differs from its manifest.",
            hint="Delete the base model's manifest, and add it again with `pixel base add`.",
        )
    return data


def _json(files: Mapping[str, bytes], name: str) -> dict[str, Any]:
    return dict(orjson.loads(files[name])) if name in files else {}


def _spelling(token: Any) -> str | None:
    """Return a special token of tokenizer_config.json, which is a string or an object with `content`."""
    text = token.get("content") if isinstance(token, dict) else token
    return text if isinstance(text, str) else None


def _template(files: Mapping[str, bytes], settings: dict[str, Any]) -> str | None:
    if TEMPLATE in files:
        return files[TEMPLATE].decode()
    template = settings.get("chat_template")
    if isinstance(template, list):
        # Several templates by name, e.g. for tools or retrieval.
        template = {item.get("name"): item.get("template") for item in template}.get("default")
    return template if isinstance(template, str) else None
