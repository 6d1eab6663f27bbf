"""The raw object a conversion reads."""

from dataclasses import dataclass

from pixel_pipeline.conversations.model.options import DEFAULT_OPTIONS, ConversionOptions


@dataclass(frozen=True, slots=True)
class SourceObject:
    """One raw object of the lake and the family it belongs to.

    Attributes:
        bucket: Bucket that holds the object.
        key: Key of the object, in the raw tiers (`gdrive/raw/…` or `acquired/…`).
        etag: Entity tag of the version that is converted.
        size: Size as stored, in bytes.
        family: Slug of the dataset family (`families.config.FamilyConfig`).
        category: Slug of the category.
        dataset: Slug of the dataset; the canonical table is `gdrive/processed/<category>/<dataset>`.
        options: How its rule in families.yaml wants it converted.
    """

    bucket: str
    key: str
    etag: str
    size: int
    family: str
    category: str
    dataset: str
    options: ConversionOptions = DEFAULT_OPTIONS
