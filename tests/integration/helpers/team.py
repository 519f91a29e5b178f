"""A team's cluster in small: Ray nodes that share no disk, PostgreSQL, S3 and MLflow, each asking for its secrets."""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from machines import Machine
from ray_nodes import RayNodes
from team_services import NODES, TeamServices

ORDERS = "orders"
"""Where trainings look for orders, in the shared folder if there is one, else on the disk of each machine."""


@dataclass(frozen=True, kw_only=True)
class Team:
    """What its members work with."""

    home: Path
    """Where every machine has its own disk."""
    shared: Path | None
    """A folder that all of them have, as an NFS claim would be."""
    services: TeamServices
    nodes: RayNodes

    def environment(self, user: str) -> dict[str, str]:
        """What one of its members exports."""
        return {**self.services.environment(user), **self.nodes.client_environment}


@contextmanager
def team(*, shared: bool = False) -> Iterator[Team]:
    """A cluster of a head without CPUs, for nodes to join, where trainings obey orders."""
    # The paths of sockets must be shorter than pytest's folders are, and PostgreSQL's user has to pass.
    home = Path(tempfile.mkdtemp(prefix="team"))
    home.chmod(0o711)
    with ExitStack() as undone:
        undone.callback(shutil.rmtree, home)
        folder = home / "shared" if shared else None
        if folder:
            folder.mkdir()
        # "python" is this one there, as in an image.
        common = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": str(home)}
        machine = Machine("services", home)
        undone.callback(machine.cut)
        services = TeamServices(machine, common)
        obedient = {
            "PYTHONPATH": str(Path(__file__).parents[1] / "orders"),
            "ADVSEG_TEST_ORDERS": str((folder or home) / ORDERS),
        }
        given = {**common, **services.environment(NODES), **obedient}
        nodes = RayNodes(home, environment=given, shared=folder)
        undone.callback(nodes.cut_all)
        nodes.start_head()
        services.wait()
        yield Team(home=home, shared=folder, services=services, nodes=nodes)
