"""What a sample Drive holds: the counts that a pipeline has to arrive at."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
import json


@dataclass(frozen=True)
class Counts:
    """Records, and what was planted among them.

    A copy counts where the copy lies. It always comes after its original in the order of paths, so a pipeline that keeps the first
    of equals by (path, position) drops exactly the copies.

    Attributes:
        conversations_written: All records, with what is broken or a copy.
        bad_lines: Lines of a JSON lines file that are no JSON or no UTF-8.
        empty_turns: Conversations with one blank turn, to be quarantined.
        exact_duplicates: Copies with the same roles and contents after Unicode NFC and collapsed whitespace.
        near_duplicates: Copies whose sets of five-word shingles have a Jaccard similarity of 0.85 to 0.99 with the original.
        phone_conversations: Readable conversations with a telephone number, copies included.
        email_conversations: The same for an e-mail address.
        curated_phone_conversations: The same without copies.
        curated_email_conversations: The same without copies.
    """

    conversations_written: int = 0
    bad_lines: int = 0
    empty_turns: int = 0
    exact_duplicates: int = 0
    near_duplicates: int = 0
    phone_conversations: int = 0
    email_conversations: int = 0
    curated_phone_conversations: int = 0
    curated_email_conversations: int = 0

    @property
    def expected_converted(self) -> int:
        """What conversion lets through."""
        return self.conversations_written - self.bad_lines - self.empty_turns

    @property
    def expected_curated(self) -> int:
        """What is left after exact and near duplicates are dropped."""
        return self.expected_converted - self.exact_duplicates - self.near_duplicates

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            **{item.name: getattr(self, item.name) + getattr(other, item.name) for item in fields(self)}
        )

    def to_dict(self) -> dict[str, int]:
        """Returns the counts with what follows from them."""
        return {
            **asdict(self),
            "expected_converted": self.expected_converted,
            "expected_curated": self.expected_curated,
        }


@dataclass(frozen=True)
class SampleFile:
    """One dataset file: where it is, how it is written, to which family its path belongs, and what is in it."""

    path: str
    format: str
    family: str
    encoding: str
    size_bytes: int
    counts: Counts


@dataclass(frozen=True)
class SampleManifest:
    """A sample Drive.

    Attributes:
        seed: What it was drawn with.
        files: Dataset files, in the order of their paths.
        not_datasets: Paths of files that hold no conversations (a readme, a licence, a picture).
    """

    seed: int
    files: tuple[SampleFile, ...]
    not_datasets: tuple[str, ...]

    @property
    def totals(self) -> Counts:
        return _sum(file.counts for file in self.files)

    @property
    def latin1_files(self) -> int:
        """Files that are not UTF-8 as a whole."""
        return sum(file.encoding == "latin-1" for file in self.files)

    @property
    def by_family(self) -> dict[str, Counts]:
        """Counts by family, families in alphabetical order."""
        families = sorted({file.family for file in self.files})
        return {name: _sum(file.counts for file in self.files if file.family == name) for name in families}

    def to_json(self) -> str:
        """Returns the manifest as a JSON document, keys in a fixed order."""
        document = {
            "seed": self.seed,
            "totals": {**self.totals.to_dict(), "latin1_files": self.latin1_files},
            "by_family": {name: counts.to_dict() for name, counts in self.by_family.items()},
            "not_datasets": list(self.not_datasets),
            "files": [
                {
                    "path": file.path,
                    "format": file.format,
                    "family": file.family,
                    "encoding": file.encoding,
                    "size_bytes": file.size_bytes,
                    **file.counts.to_dict(),
                }
                for file in self.files
            ],
        }
        return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _sum(counts: Iterable[Counts]) -> Counts:
    total = Counts()
    for item in counts:
        total += item
    return total
