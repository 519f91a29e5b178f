"""Why S3-compatible storage could not be used, in words."""


def s3_reason(error: Exception) -> str | None:
    """One line for an error of boto3, with the remedy where there is one; None for an error of something else."""
    from boto3.exceptions import Boto3Error
    from botocore import exceptions

    line = " ".join(str(error).split())
    match error:
        case exceptions.NoCredentialsError() | exceptions.PartialCredentialsError():
            return "there are no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        case exceptions.ConnectionError() | exceptions.HTTPClientError():
            return f"the storage does not answer, check AWS_ENDPOINT_URL ({line})"
        case exceptions.ClientError() if error.response["Error"]["Code"] == "NoSuchBucket":
            return "there is no such bucket: make it, or name another"
        case exceptions.ClientError() if error.response["Error"]["Code"] == "NoSuchKey":
            return "there is no such key"
        case exceptions.ClientError() if error.response["ResponseMetadata"]["HTTPStatusCode"] == 403:
            return "the credentials do not allow it: ask for the right, or set others"
        case exceptions.ClientError() | exceptions.BotoCoreError() | Boto3Error():
            return line
    return None
