"""Why S3-compatible storage could not be used, in words."""

import re

_USER = re.compile(r"//[^/\s]*@")
"""Of an address, before which there may be a password."""
_REASONS = {
    "NoSuchBucket": "there is no such bucket: make it, or name another",
    "NoSuchKey": "there is no such key",
    "RequestTimeTooSkewed": "this machine's clock differs from the storage's: set it",
    "ExpiredToken": "the credentials have expired: set others",
}
"""By the codes of its answers."""


def s3_reason(error: Exception) -> str | None:
    """One line for an error of boto3, with the remedy where there is one; None for an error of something else."""
    from boto3.exceptions import Boto3Error
    from botocore import exceptions

    line = _USER.sub("//...@", " ".join(str(error).split()))
    match error:
        case exceptions.NoCredentialsError() | exceptions.PartialCredentialsError():
            return "there are no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        case exceptions.ConnectionError() | exceptions.HTTPClientError():
            return f"the storage does not answer, check AWS_ENDPOINT_URL ({line})"
        case exceptions.ClientError() if reason := _REASONS.get(error.response["Error"]["Code"]):
            return reason
        case exceptions.ClientError() if error.response["ResponseMetadata"]["HTTPStatusCode"] == 403:
            return f"the credentials do not allow {error.operation_name}: ask for the right, or set others"
        case exceptions.ClientError() | exceptions.BotoCoreError() | Boto3Error():
            return line
    return None
