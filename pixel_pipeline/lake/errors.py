"""What S3 can answer, in our own words."""

from pixel_pipeline.errors import PixelError


class ObjectNotFoundError(PixelError):
    """No object lies at the key."""


class ObjectChangedError(PixelError):
    """The object at a key is not the version that was asked for."""


class ObjectExistsError(PixelError):
    """A create-only put found an object at its key."""


class LakeUnreachableError(PixelError):
    """The endpoint does not answer."""


class LakeAccessError(PixelError):
    """The endpoint answers, and refuses: wrong key, missing bucket, missing right."""


class LakeWriteError(PixelError):
    """The endpoint could not store the object, e.g. because its disk is full."""
