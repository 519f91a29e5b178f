"""Which locations of artifacts are a server's own; test_mlflow_server.py holds a server."""

import pytest

from advseg.platform.services.mlflow_place import is_own


@pytest.fixture
def own(tmp_path):
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "out").symlink_to(tmp_path)
    return tmp_path / "own"


@pytest.mark.parametrize("below", ["", "/", "/1/run/artifacts", "/1/../2"])
def test_a_server_with_a_folder_serves_it_and_what_is_below(own, below):
    assert is_own(f"{own}{below}", str(own))
    assert is_own(f"file://{own}{below}", str(own))


@pytest.mark.parametrize("other", ["/..", "/../own2", "/%2e%2e/secret", "2", "/out/secret"])
def test_it_serves_no_other_folder(own, other):
    assert not is_own(f"{own}{other}", str(own))
    assert not is_own(f"file://{own}{other}", str(own))


@pytest.mark.parametrize("other", ["s3://bucket", "http://host/x", "file:///etc", "/etc", "s3:/x"])
def test_it_serves_no_address(own, other, monkeypatch):
    monkeypatch.chdir(own)
    assert not is_own(other, str(own))


@pytest.mark.parametrize("below", ["", "/", "/1/run/artifacts"])
@pytest.mark.parametrize("place", ["s3://mlflow", "s3://mlflow/", "s3://mlflow/prefix"])
def test_a_server_with_a_bucket_serves_it_and_what_is_below(place, below):
    assert is_own(place.rstrip("/") + below, place)


@pytest.mark.parametrize(
    "other", ["s3://advseg", "s3://mlflow2", "s3://mlflow-prefix/x", "/etc", "file:///run/secrets", ""]
)
def test_it_serves_no_other_bucket_and_no_folder(other):
    assert not is_own(other, "s3://mlflow")
