"""A client of the Jobs API, over a network that fails."""

from collections.abc import Iterator
from typing import Any

import pytest
import requests
from ray.job_submission import JobSubmissionClient

from advseg.platform.cluster import client as clients
from advseg.platform.cluster.client import connect_jobs
from advseg.platform.services.connection import Services
from advseg.trainers.errors import UserError

SERVICES = Services(tracking_uri="", dashboard_url="http://ray.example:8265", ray_token_path=None)
VERSION = {"ray_version": "2.60.0"}


class Network:
    """Answers requests in turn, with a status, what is in it, or an error. Without more of them it repeats the last."""

    def __init__(self) -> None:
        self.answers: list[Any] = [VERSION]
        self.asked: list[tuple[str, str]] = []
        self.timeouts: set[Any] = set()

    def request(self, method: str, url: str, *, timeout: Any = None, **_: Any) -> requests.Response:
        self.asked.append((method, url.removeprefix("http://ray.example:8265")))
        self.timeouts.add(timeout)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        response = requests.Response()
        response.status_code = answer if isinstance(answer, int) else 200
        response._content = b"[]" if isinstance(answer, int) else str(answer).replace("'", '"').encode()
        return response


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Iterator[Network]:
    network = Network()
    monkeypatch.setattr("requests.request", network.request)
    monkeypatch.setattr(clients, "_RETRY_S", 0)
    return network


def connected(network: Network) -> JobSubmissionClient:
    client = connect_jobs(SERVICES)
    network.asked.clear()
    return client


AWAY = [requests.ConnectionError("refused"), requests.Timeout("slow"), 502, 503]


@pytest.mark.parametrize("away", AWAY, ids=repr)
def test_what_only_reads_is_asked_again(network: Network, away: Any) -> None:
    client = connected(network)
    network.answers = [away, away, 200]
    assert client.list_jobs() == []
    assert network.asked == [("GET", "/api/jobs/")] * 3


@pytest.mark.parametrize("away", AWAY, ids=repr)
def test_what_only_reads_is_not_asked_for_ever(network: Network, away: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    client = connected(network)
    monkeypatch.setattr(clients, "_PATIENCE_S", 0)
    network.answers = [away]
    with pytest.raises((requests.RequestException, RuntimeError), match=r"refused|slow|status code 50"):
        client.list_jobs()


def test_what_changes_something_is_asked_once(network: Network) -> None:
    client = connected(network)
    network.answers = [requests.ConnectionError("refused"), 200]
    with pytest.raises(requests.ConnectionError):
        client.stop_job("a-1")
    assert network.asked == [("POST", "/api/jobs/a-1/stop")]


def test_no_answer_is_waited_for_without_end(network: Network) -> None:
    client = connected(network)
    network.answers = [200]
    client.list_jobs()
    assert network.timeouts == {(10.0, 120.0)}


@pytest.mark.parametrize(
    ("status", "environment", "message"),
    [
        (401, {}, "asks for its token: set RAY_AUTH_TOKEN_PATH to the file that holds it"),
        (403, {"RAY_AUTH_TOKEN": "x", "RAY_AUTH_MODE": "token"}, "does not take the token of RAY_AUTH_TOKEN: ask"),
        (403, {"RAY_AUTH_TOKEN_PATH": __file__, "RAY_AUTH_MODE": "token"}, "not take the token of RAY_AUTH_TOKEN_PATH"),
        (401, {"RAY_AUTH_TOKEN": "x", "RAY_AUTH_MODE": "disabled"}, "which RAY_AUTH_MODE=disabled keeps back: unset"),
        (401, {"RAY_AUTH_TOKEN_PATH": "/nowhere", "RAY_AUTH_MODE": "token"}, "RAY_AUTH_TOKEN_PATH is /nowhere, which"),
    ],
)
def test_a_cluster_that_refuses_the_token_is_told_with_the_remedy(
    network: Network, status: int, environment: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE"):
        monkeypatch.delenv(name, raising=False)
    client = connected(network)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    network.answers = [status]
    for ask in (client.list_jobs, lambda: connect_jobs(SERVICES)):
        with pytest.raises(UserError, match=message) as told:
            ask()
        assert "\n" not in str(told.value)
        assert not told.value.__cause__


@pytest.mark.parametrize("answer", [requests.ConnectionError("refused"), requests.Timeout("slow"), 503, 404], ids=repr)
def test_a_cluster_that_cannot_be_reached_is_told_at_once_in_a_line(network: Network, answer: Any) -> None:
    network.answers = [answer]
    with pytest.raises(UserError, match=r"^the Ray cluster at http://ray\.example:8265 ") as told:
        connect_jobs(SERVICES)
    assert "\n" not in str(told.value)
    assert len(network.asked) == 1
