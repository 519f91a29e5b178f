import pytest

from advseg.models.sources import refusal

SERVER = "http://user:pw@mlflow.example:5000"
DATABASE = "sqlite:////home/me/mlflow.db"


@pytest.mark.parametrize(
    ("source", "tracking_uri"),
    [
        ("mlflow-artifacts:/1/abc/artifacts/model", SERVER),
        ("mlflow-artifacts://mlflow.example:5000/1/abc/artifacts/model", SERVER),
        ("s3://bucket/1/abc/artifacts/model", SERVER),
        ("s3://bucket/1/abc/artifacts/model", DATABASE),
        ("/home/me/mlruns/1/abc/artifacts/model", DATABASE),
        ("file:///home/me/mlruns/1/abc/artifacts/model", DATABASE),
    ],
)
def test_where_our_own_tracking_keeps_models_they_are_taken_from(source: str, tracking_uri: str) -> None:
    assert refusal(source, tracking_uri) is None


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("file:///home/me/.ssh", "it is a file of this machine"),
        ("FILE:///home/me/.ssh", "it is a file of this machine"),
        ("/home/me/.ssh", "it is a file of this machine"),
        ("", "it is a file of this machine"),
        ("mlflow-artifacts://evil.example/1/model", "it lies on another server than mlflow.example:5000"),
        ("mlflow-artifacts:/1/../../../x", "climbs out of its folder"),
        ("mlflow-artifacts:/1/%2e%2e/x", "climbs out of its folder"),
        ("http://mlflow.example:5000/model", "models come from mlflow-artifacts: or s3:, not from http:"),
        ("https://evil.example/model", "not from https:"),
        ("runs:/abc/model", "not from runs:"),
        ("mlflow-artifacts://[bad/1", "that is no address"),
        ("mlflow-artifacts:/1/\ud800", "that is no address"),
        ("models:/shapes/1", "not from models:"),
        ("dbfs:/model", "not from dbfs:"),
        ("ftp://evil.example/model", "not from ftp:"),
        ("gs://bucket/model", "not from gs:"),
    ],
)
def test_what_a_server_could_have_been_made_to_name_is_refused(source: str, reason: str) -> None:
    refused = refusal(source, SERVER)
    assert refused
    assert reason in refused
    assert "pw" not in refused
