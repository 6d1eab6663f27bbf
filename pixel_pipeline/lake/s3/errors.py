"""Errors of S3 requests."""

from pixel_pipeline.errors import PixelError


class ObjectNotFoundError(PixelError):
    """There is no object at the key."""


class ObjectChangedError(PixelError):
    """The object at a key is not the version that was asked for."""


class ObjectExistsError(PixelError):
    """A create-only put found an existing object."""


class KeyNameError(PixelError, ValueError):
    """A text that cannot be an object's key, or that a store would read as another key."""


class LakeUnreachableError(PixelError):
    """The endpoint does not answer."""

    transient = True


class LakeInterruptedError(LakeUnreachableError):
    """The connection broke during a request, which may have been carried out."""


class LakeBusyError(LakeUnreachableError):
    """The endpoint stayed overloaded."""


class LakeAccessError(PixelError):
    """The endpoint refuses: wrong key pair, missing bucket, missing permission."""


class LakeWriteError(PixelError):
    """The endpoint could not store the object, e.g. because its disk is full."""


class LakeConflictError(LakeWriteError):
    """Another write of the same object is under way."""


class LakeUnsupportedError(LakeWriteError):
    """The endpoint does not implement the request."""


class ConditionalWritesError(LakeUnsupportedError):
    """A write that needs conditional writes, on a store without them."""


class ObjectCorruptError(PixelError):
    """An object's bytes differ from those that were stored."""
