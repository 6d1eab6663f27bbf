"""Small tokenizers and chat templates in the formats of published base models."""

from hashlib import sha256
import json

from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.registry.base_models import BaseManifest, FileDigest, base_digest, manifest_key, prefix_of
from pixel_pipeline.tokens.chat_template import JINJA

CORPUS = [
    "I cannot sleep, and the nights are long.\nThat sounds hard. What goes through your mind at night?",
    "Das ist schwer. 夜は長いですね。 \U0001f642 user assistant system [INST] [/INST] <<SYS>>",
]
SMOLLM2 = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are a "
    "helpful AI assistant<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + "
    "'<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA2 = (
    "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system_message = messages[0]['content'] "
    "%}{% else %}{% set loop_messages = messages %}{% set system_message = false %}{% endif %}{% for message in loop_messages %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Conversation roles must alternate "
    "user/assistant/user/assistant/...') }}{% endif %}{% if loop.index0 == 0 and system_message != false %}{% set content = "
    "'<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}{% else %}{% set content = message['content'] %}"
    "{% endif %}{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}{% elif "
    "message['role'] == 'assistant' %}{{ ' '  + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)
MISTRAL = (
    "{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}{% if "
    "message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}{% elif message['role'] == 'assistant' %}"
    "{{ message['content'] + eos_token}}{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}"
    "{% endif %}{% endfor %}"
)
# Newer Mistrals put the system message before the last question, so earlier turns change with later ones.
MISTRAL_LAST = (
    "{%- if messages[0]['role'] == 'system' %}{%- set system_message = messages[0]['content'] %}{%- set loop_messages = "
    "messages[1:] %}{%- else %}{%- set loop_messages = messages %}{%- endif %}{{- bos_token }}{%- for message in loop_messages %}"
    "{%- if message['role'] == 'user' %}{%- if loop.last and system_message is defined %}{{- '[INST] ' + system_message + "
    "'\n\n' + message['content'] + '[/INST]' }}{%- else %}{{- '[INST] ' + message['content'] + '[/INST]' }}{%- endif %}"
    "{%- elif message['role'] == 'assistant' %}{{- ' ' + message['content'] + eos_token}}{%- endif %}{%- endfor %}"
)
LLAMA3 = (
    "{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = '<|start_header_id|>' + "
    "message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}"
    "{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
# Template, special tokens (the first begins a text), end of turn, and whether the tokenizer imitates SentencePiece.
FAMILIES = {
    "chatml": (JINJA, ("<|endoftext|>", "<|im_start|>", "<|im_end|>"), "<|im_end|>", False),
    "smollm2": (SMOLLM2, ("<|im_start|>", "<|im_end|>"), "<|im_end|>", False),
    "llama2": (LLAMA2, ("<s>", "</s>"), "</s>", True),
    "mistral": (MISTRAL, ("<s>", "</s>"), "</s>", True),
    "mistral-last": (MISTRAL_LAST, ("<s>", "</s>", "[INST]", "[/INST]"), "</s>", False),
    "llama3": (
        LLAMA3,
        ("<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"),
        "<|eot_id|>",
        False,
    ),
}


def base_files(kind: str) -> dict[str, bytes]:
    """tokenizer.json, tokenizer_config.json and chat_template.jinja of one of `FAMILIES`."""
    template, special, end, sentencepiece = FAMILIES[kind]
    return {
        "tokenizer.json": tokenizer_json(special, sentencepiece=sentencepiece),
        "tokenizer_config.json": json.dumps(
            {"bos_token": {"content": special[0], "lstrip": False}, "eos_token": end, "model_max_length": 8}
        ).encode(),
        "chat_template.jinja": template.encode(),
    }


def put_base(lake: Lake, *, name: str, kind: str, config: bytes = b"{}") -> BaseManifest:
    """Store a base model without weights in the lake."""
    files = {**base_files(kind), "config.json": config}
    digests = {
        file: FileDigest(sha256=sha256(data).hexdigest(), bytes=len(data)) for file, data in files.items()
    }
    manifest = BaseManifest(
        name=name,
        digest=base_digest(digests),
        licence="unknown",
        source="a test",
        architecture="MistralForCausalLM",
        parameters=0,
        dtype="F32",
        files=digests,
    )
    for file, data in files.items():
        lake.data.put(f"{prefix_of(name)}/{file}", data)
    lake.data.put_json(manifest_key(name), manifest.to_json())
    return manifest


def tokenizer_json(special: tuple[str, ...], *, sentencepiece: bool) -> bytes:
    """A tokenizer that starts each text with the first special token, truncates after 8 tokens and trims its offsets."""
    if sentencepiece:
        tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        tokenizer.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
        )
        alphabet = [f"<0x{number:02X}>" for number in range(256)]
        trainer = trainers.BpeTrainer(
            vocab_size=700, special_tokens=["<unk>", *alphabet], show_progress=False
        )
    else:
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    if sentencepiece:
        # The trainer flags the byte tokens as special; in a real vocabulary they are not.
        content = json.loads(tokenizer.to_str())
        content["added_tokens"] = content["added_tokens"][:1]
        tokenizer = Tokenizer.from_str(json.dumps(content))
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    begin = (special[0], tokenizer.token_to_id(special[0]))
    tokenizer.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=True),
            processors.TemplateProcessing(single=f"{special[0]} $A", special_tokens=[begin]),
        ]
    )
    tokenizer.enable_truncation(8)
    return tokenizer.to_str().encode()
