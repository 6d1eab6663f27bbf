"""Recognition of objects that are not datasets, or whose kind is not supported, by content and name."""

import re

from pixel_pipeline.conversations.model.records import ObjectError

_NOT_A_DATASET = (
    b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"RIFF", b"OggS", b"ID3", b"fLaC", b"%PDF", b"\x7fELF", b"MZ",
    b"wOF", b"\x00\x00\x01\x00", b"\x1aE\xdf\xa3", b"\xca\xfe\xba\xbe", b"II*\x00", b"MM\x00*", b"\xff\xfb",
    b"\x00\x01\x00\x00\x00",
)  # fmt: skip
_UNSUPPORTED = {
    b"\x1f\x8b\x08": "a gzip object within others",
    b"BZh": "a bzip2 archive within others",
    b"\xfd7zXZ\x00": "an xz archive",
    b"\x28\xb5\x2f\xfd": "a zstd object within others",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"Rar!\x1a\x07": "a rar archive",
    b"SQLite format 3\x00": "an SQLite database",
    b"\xd0\xcf\x11\xe0": "an old Office document",
    b"PAR1": "a Parquet file without its end",
    b"\x89HDF": "an HDF5 file",
}
_NAMES = re.compile(
    r"""(readme|licen[cs]e|copying)([-_.][a-z0-9_-]+)?(\.(md|txt|rst|html?|pdf))?
    |   (notice|changelog|contributing|authors|citation|code_of_conduct)(\.(md|txt|rst|cff|html?|pdf))?
    |   \.(ds_store|gitignore|gitattributes|gitkeep|gitmodules|editorconfig|env) | \._.*
    |   thumbs\.db | desktop\.ini
    |   (dataset_infos?|config|tokenizer|tokenizer_config|special_tokens_map|generation_config|package|
         package-lock|adapter_config|training_args|croissant|datapackage|kaggle|manifest)\.json
    |   (.*[-_.])?(config|configs|settings|dataset_info|metadata|environment|docker-compose|mkdocs|workflow|ci)\.ya?ml
    |   requirements[a-z0-9_-]*\.txt | constraints\.txt | makefile | dockerfile
    |   .*\.(py|pyc|sh|bat|ps1|js|ts|css|html?|ipynb|toml|cfg|ini|lock|r|rmd|java|c|cpp|h|rs|go|tex|
         bib|svg|crc|md5|sha1|sha256)
    """,
    re.VERBOSE,
)
_TEXT_CONTROLS = b"\t\n\r\x0c\x1b"
_CONTROLS = bytes(b for b in range(32) if b not in _TEXT_CONTROLS) + b"\x7f"


def not_a_dataset(name: str, head: bytes, *, wide: bool) -> str | None:
    """Return why an object is not a dataset; None if it may be one.

    Args:
        name: File name, lower case; "" to ignore it.
        head: First bytes of the content.
        wide: Whether its text would be in UTF-16 or UTF-32.
    """
    if len(head) <= 4 if wide else not head.strip(b" \t\r\n\x00\xef\xbb\xbf"):
        return "it is blank"
    if head.startswith(_NOT_A_DATASET) and not _is_text(head):
        return "it begins like a picture, a sound, a PDF or a program"
    if _has_other_name(name, head):
        return "its name is that of a read-me, a licence, a configuration or a program"
    if wide or head.startswith(tuple(_UNSUPPORTED)) or _is_text(head):
        return None
    return "it is neither text nor of a binary kind that holds conversations"


def _has_other_name(name: str, head: bytes) -> bool:
    # A configuration is an object; an array under such a name is data.
    return _NAMES.fullmatch(name) is not None and not (name.endswith(".json") and head.lstrip()[:1] == b"[")


def refuse_unsupported(head: bytes) -> None:
    """Refuse kinds of objects that may hold data but are not supported.

    Raises:
        ObjectError: `unsupported_container`.
    """
    kind = next((kind for magic, kind in _UNSUPPORTED.items() if head.startswith(magic)), None)
    if kind is not None and not (head.startswith((b"BZh", b"PAR1")) and _is_text(head)):
        raise ObjectError("unsupported_container", f"{kind}: unpack it or convert it to JSON lines")


def _is_text(head: bytes) -> bool:
    """Whether bytes are text, with at most a few stray control characters; other data has many."""
    controls = len(head) - len(head.translate(None, _CONTROLS))
    if controls <= 0.02 * len(head):
        return True
    try:
        head[: len(head) - 3].decode()
    except UnicodeDecodeError:
        return False
    return controls <= 0.2 * len(head)
