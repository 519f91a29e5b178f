import pytest
from botocore.exceptions import ClientError, ConnectTimeoutError, ProxyConnectionError

from advseg.platform.base.s3_reason import s3_reason


@pytest.mark.parametrize(
    ("code", "status", "reason"),
    [
        ("RequestTimeTooSkewed", 403, "this machine's clock differs from the storage's: set it"),
        ("ExpiredToken", 400, "the credentials have expired: set others"),
        ("AccessDenied", 403, "the credentials do not allow DeleteObject: ask for the right, or set others"),
        ("NoSuchBucket", 404, "there is no such bucket: make it, or name another"),
    ],
)
def test_what_the_storage_refuses_is_told_with_its_remedy(code: str, status: int, reason: str) -> None:
    answer = {"Error": {"Code": code, "Message": ""}, "ResponseMetadata": {"HTTPStatusCode": status}}
    assert s3_reason(ClientError(answer, "DeleteObject")) == reason  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    "error",
    [
        ConnectTimeoutError(endpoint_url="https://me:hunter2@storage:9000/bucket/a@b"),
        ProxyConnectionError(proxy_url="http://hunter2@proxy:3128"),
    ],
)
def test_an_address_is_told_without_its_password(error: Exception) -> None:
    reason = s3_reason(error)
    assert reason and "does not answer, check AWS_ENDPOINT_URL" in reason and "//...@" in reason
    assert "hunter2" not in reason
