"""Near duplicates by MinHash and banding, verified by exact Jaccard similarity.

Signatures after Broder (1997), "On the resemblance and containment of documents"; banding after Leskovec, Rajaraman and Ullman,
"Mining of Massive Datasets", chapter 3. Only a kept conversation can displace another (stars, not connected components), so a
chain of similar texts never collapses into one.
"""

from collections import defaultdict
from dataclasses import dataclass
import re
import unicodedata

import numpy as np
from numpy.typing import NDArray
import xxhash

SHINGLE_WORDS = 5
THRESHOLD = 0.8
BANDS = 16
ROWS_PER_BAND = 4

# Scripts compared character by character: Thai, Lao, Myanmar, Khmer, kana, Han, Hangul.
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff"
    "\U00020000-\U0003ffff"
)
# Vowel signs and accents belong to their word, although `\w` excludes them. The ranges above include those of their scripts.
_MARKS = "".join(
    re.escape(mark)
    for mark in map(chr, range(0x300, 0x10000))
    if unicodedata.category(mark)[0] == "M" and not re.match(f"[{_UNSPACED}]", mark)
)
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+(?:[{_MARKS}]+[^\W{_UNSPACED}]*)*")
_POSITION_FACTORS = np.array(
    [pow(0x9E3779B97F4A7C15, k + 1, 2**64) | 1 for k in range(SHINGLE_WORDS)], dtype=np.uint64
)
_GENERATOR = np.random.default_rng(1997)
_MULTIPLIERS = _GENERATOR.integers(1, 2**63, size=BANDS * ROWS_PER_BAND, dtype=np.uint64) * np.uint64(
    2
) + np.uint64(1)
_OFFSETS = _GENERATOR.integers(0, 2**63, size=BANDS * ROWS_PER_BAND, dtype=np.uint64)


@dataclass(frozen=True)
class NearDuplicate:
    """The position of the kept conversation, and the similarity to it, 0 to 1."""

    kept: int
    similarity: float


class NearDuplicateIndex:
    """Index of kept conversations; finds the near duplicate of each new one.

    Memory: the shingles of every kept conversation, 8 bytes per word.
    """

    def __init__(self) -> None:
        self._word_hashes = _WordHashes()
        self._buckets: list[defaultdict[int, list[int]]] = [defaultdict(list) for _ in range(BANDS)]
        self._shingles: dict[int, NDArray[np.uint64]] = {}

    def add(self, position: int, text: str) -> NearDuplicate | None:
        """Return the most similar kept conversation, or keep this one and return None; `position` is any unique number."""
        shingles = self._shingles_of(text)
        bands = _band_keys(shingles)
        candidates = {
            other for bucket, key in zip(self._buckets, bands, strict=True) for other in bucket.get(key, ())
        }
        best: NearDuplicate | None = None
        for other in sorted(candidates):
            similarity = _jaccard(shingles, self._shingles[other])
            if similarity >= THRESHOLD and (best is None or similarity > best.similarity):
                best = NearDuplicate(kept=other, similarity=similarity)
        if best is None:
            self._shingles[position] = shingles
            for bucket, key in zip(self._buckets, bands, strict=True):
                bucket[key].append(position)
        return best

    def _shingles_of(self, text: str) -> NDArray[np.uint64]:
        text = (text if text.isascii() else unicodedata.normalize("NFC", text)).lower()
        hashes = np.array([self._word_hashes[word] for word in _WORD.findall(text)], dtype=np.uint64)
        if len(hashes) < SHINGLE_WORDS:
            # A short text is compared as a whole, ignoring case and whitespace. Its characters count, because emoji
            # are not words.
            return np.array([_hash(" ".join(text.split()))], dtype=np.uint64)
        windows = np.lib.stride_tricks.sliding_window_view(hashes, SHINGLE_WORDS)
        return np.unique(_mix((windows * _POSITION_FACTORS).sum(axis=1, dtype=np.uint64)))


class _WordHashes(dict[str, int]):
    def __missing__(self, word: str) -> int:
        value = self[word] = _hash(word)
        return value


def _hash(text: str) -> int:
    return xxhash.xxh3_64_intdigest(text.encode(errors="surrogatepass"))


def _jaccard(left: NDArray[np.uint64], right: NDArray[np.uint64]) -> float:
    """Jaccard similarity of two sorted arrays of unique values."""
    shared = len(np.intersect1d(left, right, assume_unique=True))
    return shared / (len(left) + len(right) - shared)


def _band_keys(shingles: NDArray[np.uint64]) -> list[int]:
    signature = (shingles[:, None] * _MULTIPLIERS + _OFFSETS).min(axis=0)
    return [xxhash.xxh3_64_intdigest(band.tobytes()) for band in signature.reshape(BANDS, ROWS_PER_BAND)]


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    # splitmix64's finaliser makes sums of word hashes uniform.
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
