"""The S3 control plane, for what obstore lacks: versioning, multipart uploads, error codes."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pixel_pipeline.errors import PixelError
from pixel_pipeline.lake.s3.errors import LakeUnreachableError
from pixel_pipeline.lake.s3.target import Target

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

CONNECT_SECONDS = 5
READ_SECONDS = 10


class ControlError(PixelError):
    """The server refused a request of the control plane.

    Attributes:
        code: S3's error code, or the HTTP status where there is none.
        answer: boto3's response, e.g. with the region that the server expected.
    """

    def __init__(self, message: str, *, code: str, answer: dict[str, Any]) -> None:
        super().__init__(message)
        self.code = code
        self.answer = answer


def control_client(target: Target) -> "S3Client":
    """Create a boto3 client of the lake that gives up after seconds."""
    import boto3
    from botocore.config import Config

    return boto3.client(
        "s3",
        endpoint_url=target.endpoint,
        aws_access_key_id=target.access_key,
        aws_secret_access_key=target.secret_key.get_secret_value(),
        aws_session_token=target.session_token.get_secret_value() if target.session_token else None,
        region_name=target.region,
        verify=None if target.ca_bundle is None else str(target.ca_bundle),
        config=Config(
            connect_timeout=CONNECT_SECONDS,
            read_timeout=READ_SECONDS,
            retries={"mode": "standard", "max_attempts": 2},
            # Some S3-compatible servers refuse the checksum headers that botocore sends by default.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            s3={"addressing_style": "path"},
        ),
    )


@contextmanager
def controlled(operation: str, *, target: Target) -> Iterator[None]:
    """Raise errors of boto3 as PixelErrors; its own messages repeat key ids.

    Raises:
        ControlError: the server answered with an error.
        LakeUnreachableError: there was no usable answer.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    where = target.where
    try:
        yield
    except ClientError as error:
        answer: dict[str, Any] = {**error.response}
        code = str(answer.get("Error", {}).get("Code", "")) or "no error code"
        raise ControlError(f"{where} refused to {operation}: {code}.", code=code, answer=answer) from None
    except BotoCoreError as error:
        raise LakeUnreachableError(
            f"{where} gave no usable answer ({operation}): {type(error).__name__}.",
            hint="Check PIXEL_S3_ENDPOINT and the network.",
        ) from None
