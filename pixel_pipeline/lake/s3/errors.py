"""What S3 can answer, in our own words."""

from pixel_pipeline.errors import PixelError


class ObjectNotFoundError(PixelError):
    """No object lies at the key."""


class ObjectChangedError(PixelError):
    """The object at a key is not the version that was asked for."""


class ObjectExistsError(PixelError):
    """A create-only put found an object at its key."""


class KeyNameError(PixelError, ValueError):
    """A text that cannot be an object's key, or would be the key of another object."""


class LakeUnreachableError(PixelError):
    """The endpoint does not answer."""

    transient = True


class LakeInterruptedError(LakeUnreachableError):
    """The connection broke in the middle of a request; whether it was carried out is not known."""


class LakeBusyError(LakeUnreachableError):
    """The endpoint asks to be left alone for a while, and went on doing so."""


class LakeAccessError(PixelError):
    """The endpoint answers, and refuses: wrong key, missing bucket, missing right."""


class LakeWriteError(PixelError):
    """The endpoint could not store the object, e.g. because its disk is full."""


class LakeConflictError(LakeWriteError):
    """Another write of the same object is under way."""


class LakeUnsupportedError(LakeWriteError):
    """The endpoint does not know what was asked of it, e.g. conditional writes."""


class ConditionalWritesError(LakeUnsupportedError):
    """A write that needs conditional writes, on a store without them."""


class ObjectCorruptError(PixelError):
    """An object's bytes are not those that were stored."""
