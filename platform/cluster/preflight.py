"""Before anything trains, every node that may is asked for what it lacks: one message names all nodes and lacks.

Where the driver's node is the only one, the driver itself finds out all that.
"""

import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from statistics import mode
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ...trainers.errors import BrokenEnvironmentError, UserError, brief, listed
from ..base.events import Stage, emit
from ..spec.paths import missing_files
from ..spec.resources import Resources
from .driver import Job
from .looking import Copy, Sight, look, programs, read_copy
from .nodes import Node, live_nodes
from .placement import room_on

_ANSWER_S = 120.0
_INSTALL_S = 600.0
"""How long Ray may take to install what the spec's `runtime_env` names."""
_WATCH_S = 5.0
_LONGEST = 300
"""Characters of a reason in Ray's words."""


@dataclass(frozen=True, kw_only=True)
class Usual:
    """The dataset as most nodes have it."""

    digest: str
    node: str
    """One of them."""


def lacks_of(sight: Sight, copy: Copy, driver: Sight, usual: Usual | None) -> list[str]:
    """What a node lacks of what it was asked for, of what the driver has, and of what most nodes have."""
    lacks = list(sight.lacks)
    for package, wanted in driver.packages.items():
        found = sight.packages[package]
        if wanted is not None and found != wanted:
            lacks.append(f"{package} is {found or 'not installed'}, but {wanted} where the driver runs")
    if sight.code != driver.code:
        lacks.append("it imports other code of advseg than the driver: uninstall advseg from its image")
    if copy.lack:
        lacks.append(copy.lack)
    elif usual and copy.digest != usual.digest:
        digests = f"{str(copy.digest)[:12]}, but {usual.digest[:12]} on {usual.node}"
        lacks.append(f"its copy of the dataset has digest {digests}: copy it anew")
    return lacks


def usual_of(copies: Mapping[str, Copy]) -> Usual | None:
    """What most nodes have, of which each is named with its copy; None if none can read its own."""
    digests = {node: copy.digest for node, copy in copies.items() if copy.digest}
    commonest = mode(digests.values()) if digests else None
    return next((Usual(digest=each, node=node) for node, each in digests.items() if each == commonest), None)


def told(lacks: Mapping[str, Sequence[str]], asked: int) -> str:
    """What several nodes lack, a line a node."""
    lines = (f"  {node}: {'; '.join(each)}" for node, each in lacks.items())
    return "\n".join([f"{len(lacks)} of {asked} nodes cannot train this job:", *lines])


class Preflight:
    """Asks the nodes on which workers of a job may come, of which each takes what the resources say."""

    def __init__(self, job: Job, resources: Resources, nodes: Sequence[Node], limit_s: float) -> None:
        """Nobody waits longer than `limit_s` seconds until a node has read its dataset."""
        self._job = job
        self._resources = resources
        self._limit_s = limit_s
        self._known: set[str] = set()
        self._nodes = self._new(nodes)
        self._here = ray.get_runtime_context().get_node_id()
        self._usual: Usual | None = None

    def check(self) -> str | None:
        """The digest of the dataset as the nodes have it; None if the driver's node alone trains, and nobody was asked.

        Raises BrokenEnvironmentError that says of every node what it lacks, and UserError for files that the only one
        lacks.
        """
        if [node.id for node in self._nodes] == [self._here]:
            if missing := [str(problem) for problem in missing_files(self._job.document)]:
                raise UserError(listed(missing, str(self._job.path)))
            return None
        emit(Stage(text="asking every node that may train what it lacks"))
        if lacks := self._ask(self._nodes):
            raise BrokenEnvironmentError(told(lacks, len(self._nodes)))
        return self._usual and self._usual.digest

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Meanwhile ask nodes that join, and tell who follows of those that lack something."""
        ended = threading.Event()

        def watch() -> None:
            while not ended.wait(_WATCH_S):
                # What goes wrong as Ray or the storage goes away, at the end of a job or before, others tell.
                with suppress(RayError, OSError, BrokenEnvironmentError):
                    self._greet(self._new(live_nodes()))

        threading.Thread(target=watch, name="nodes", daemon=True).start()
        try:
            yield
        finally:
            ended.set()

    def _greet(self, joined: list[Node]) -> None:
        if joined and self._usual is None:
            # The driver's own node has not been asked, by which the others are measured.
            joined = [*self._nodes, *joined]
        for node, lacks in self._ask(joined).items():
            emit(Stage(text=f"node {node} has joined, but what comes onto it will fail: {'; '.join(lacks)}"))

    def _new(self, nodes: Sequence[Node]) -> list[Node]:
        """Those that have not been seen, and may train."""
        new = [node for node in nodes if node.id not in self._known]
        self._known |= {node.id for node in new}
        return [node for node in new if room_on(node, self._resources)]

    def _ask(self, nodes: Sequence[Node]) -> dict[str, list[str]]:
        """What some nodes lack, by their names and addresses; nothing of those that lack nothing, or are gone since."""
        if not nodes:
            return {}
        store, nonce = self._job.store, f".preflight/{uuid.uuid4().hex}"
        store.write(nonce, b"")
        try:
            sights = _on_nodes(nodes, look, store.address, nonce, self._tracking_uri(), limit_s=self._answer_s)
        finally:
            store.remove(nonce)
        able = [node for node in nodes if isinstance(sights[node.id], Sight)]
        answers = _on_nodes(able, read_copy, self._job.document, limit_s=self._limit_s)
        copies = {id: Copy(lack=each) if isinstance(each, str) else each for id, each in answers.items()}
        self._usual = self._usual or usual_of({_told(node): copies[node.id] for node in able})
        driver = programs()
        alive = {node.id for node in live_nodes()}
        lacks: dict[str, list[str]] = {}
        for node in nodes:
            if node.id not in alive:
                continue  # What it had does not matter any more.
            sight = sights[node.id]
            each = [sight] if isinstance(sight, str) else lacks_of(sight, copies[node.id], driver, self._usual)
            if each:
                lacks[_told(node)] = each
        return lacks

    @property
    def _answer_s(self) -> float:
        return _ANSWER_S + (_INSTALL_S if self._job.document.get("runtime_env") else 0)

    def _tracking_uri(self) -> str | None:
        """MLflow's address, if it answers the driver: one that is away is waited for, and no node's fault."""
        from mlflow.exceptions import MlflowException

        try:
            self._job.client.search_experiments(max_results=1)
        except MlflowException:
            return None
        return self._job.tracking_uri


def _told(node: Node) -> str:
    return f"{node.name} ({node.address})"


def _on_nodes(nodes: Sequence[Node], work: Callable[..., Any], *arguments: object, limit_s: float) -> dict[str, Any]:
    """What a function gives on each of some nodes, by their ids; a text of what hindered it where it gives nothing."""
    asked = {
        ray.remote(num_cpus=0, max_retries=0)(work)
        .options(scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False))
        .remote(*arguments): node.id
        for node in nodes
    }
    answers: dict[str, Any] = {}
    done, late = ray.wait(list(asked), num_returns=len(asked), timeout=limit_s) if asked else ([], [])
    for each in done:
        try:
            answers[asked[each]] = ray.get(each)
        except RayError as error:
            answers[asked[each]] = f"it cannot be asked: {brief(' '.join(str(error).split()), _LONGEST)}"
    for each in late:
        ray.cancel(each, force=True)
        answers[asked[each]] = f"it has not answered in {limit_s:g} s"
    return answers
