"""The manifest of a sample Drive, with the counts that a pipeline must reproduce."""

from collections import defaultdict
from dataclasses import asdict, dataclass, fields
import json


@dataclass(frozen=True)
class Counts:
    """Numbers of records and of planted defects.

    A copy counts in the copy's file. Its original always precedes it in the order of paths, so a pipeline that keeps the first of
    equals by (path, position) drops exactly the copies.

    Attributes:
        conversations_written: All records, broken ones and copies included.
        bad_lines: Lines of a JSON lines file that are not JSON or not UTF-8.
        empty_turns: Conversations with one blank turn, which belong in quarantine.
        exact_duplicates: Copies with the same roles and contents after Unicode NFC and collapsed whitespace.
        near_duplicates: Copies whose sets of five-word shingles have a Jaccard similarity of 0.85 to 0.99 with the original.
        phone_conversations: Readable conversations with a telephone number, copies included.
        email_conversations: Readable conversations with an e-mail address, copies included.
        curated_phone_conversations, curated_email_conversations: The same without copies.
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
        """Records that conversion accepts."""
        return self.conversations_written - self.bad_lines - self.empty_turns

    @property
    def expected_curated(self) -> int:
        """Conversations left after deduplication."""
        return self.expected_converted - self.exact_duplicates - self.near_duplicates

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            **{item.name: getattr(self, item.name) + getattr(other, item.name) for item in fields(self)}
        )

    def to_dict(self) -> dict[str, int]:
        """Return the counts and the expected results."""
        return {
            **asdict(self),
            "expected_converted": self.expected_converted,
            "expected_curated": self.expected_curated,
        }


@dataclass(frozen=True)
class SampleFile:
    """A dataset file; `family` is its path's default family."""

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
        seed: The seed of all choices.
        files: Dataset files, sorted by path.
        not_datasets: Paths of files without conversations (a readme, a licence, a picture).
    """

    seed: int
    files: tuple[SampleFile, ...]
    not_datasets: tuple[str, ...]

    @property
    def totals(self) -> Counts:
        return sum((file.counts for file in self.files), start=Counts())

    @property
    def latin1_files(self) -> int:
        """Number of files in Latin-1."""
        return sum(file.encoding == "latin-1" for file in self.files)

    @property
    def by_family(self) -> dict[str, Counts]:
        """Counts by family, families in alphabetical order."""
        counts: defaultdict[str, Counts] = defaultdict(Counts)
        for file in self.files:
            counts[file.family] += file.counts
        return dict(sorted(counts.items()))

    def to_json(self) -> str:
        """Return the manifest as a JSON document with keys in a fixed order."""
        document = {
            "seed": self.seed,
            "totals": {**self.totals.to_dict(), "latin1_files": self.latin1_files},
            "by_family": {name: counts.to_dict() for name, counts in self.by_family.items()},
            "not_datasets": list(self.not_datasets),
            "files": [
                {key: value for key, value in asdict(file).items() if key != "counts"} | file.counts.to_dict()
                for file in self.files
            ],
        }
        return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
