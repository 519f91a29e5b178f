"""The MLflow servers on which runs were made, which need not be the one that a user or a job talks to now."""

from collections.abc import Iterator
from contextlib import contextmanager

from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from ...trainers.errors import FencedError, UserError
from ..base.mlflow_account import has_account
from .noted import Noted
from .patience import is_away, reason_of


class Clients:
    """Clients of servers, by what is noted beside the files of trainings and sweeps."""

    def __init__(self, current: MlflowClient | None) -> None:
        """`current` is of the server of now, on which are the runs of which nothing is noted; None if there is none."""
        self._current = current
        self._known: dict[str, MlflowClient | None] = {}
        """By address; None for a server that does not answer."""

    def of(self, noted: Noted | None) -> MlflowClient:
        """A client of the server that has a run, or is to have it. Raises UserError if that does not answer."""
        there = self._answering(noted.tracking_uri) if noted and self._may_ask(noted.tracking_uri) else None
        if noted and there and (noted.run_id is None or _has(there, noted.run_id)):
            return there
        here = self._current and self._answering(self._current.tracking_uri)
        # The same server may have another address now, as on another port of this machine.
        if here and (noted is None or (noted.run_id and _has(here, noted.run_id))):
            return here
        if there:
            return there
        if noted and not self._may_ask(noted.tracking_uri):
            raise UserError(
                f"its runs are on the MLflow server at {noted.tracking_uri}, which is not shown the account of "
                "another: set MLFLOW_TRACKING_URI to that address"
            )
        place = f"at {noted.tracking_uri}" if noted else "of now"
        raise UserError(
            f"the MLflow server {place} does not answer: start it, or set MLFLOW_TRACKING_URI to its address"
        )

    def _may_ask(self, tracking_uri: str) -> bool:
        """Whether a server may see how this process logs in."""
        return not has_account() or (self._current is not None and self._current.tracking_uri == tracking_uri)

    def _answering(self, tracking_uri: str) -> MlflowClient | None:
        if tracking_uri not in self._known:
            ours = self._current is not None and self._current.tracking_uri == tracking_uri
            client = self._current if ours else MlflowClient(tracking_uri)
            self._known[tracking_uri] = client if client and answers(client) else None
        return self._known[tracking_uri]


def answers(client: MlflowClient) -> bool:
    """Whether a server answers, be it with a refusal."""
    try:
        client.search_experiments(max_results=1)
    except MlflowException as error:
        return not is_away(error)
    return True


def _has(client: MlflowClient, run_id: str) -> bool:
    try:
        client.get_run(run_id)
    except MlflowException:
        return False
    return True


@contextmanager
def by_itself(what: str, client: MlflowClient, problems: list[str]) -> Iterator[None]:
    """Add a line to `problems` for what goes wrong with one of several, so that the others have their turn.

    Raises what is wrong with all of them: that MLflow does not answer at all, or another process owns their sweep.
    """
    try:
        yield
    except FencedError:
        raise
    except Exception as error:
        if isinstance(error, MlflowException) and is_away(error) and not answers(client):
            raise
        problems.append(f"{what}: {reason_of(error)}")
