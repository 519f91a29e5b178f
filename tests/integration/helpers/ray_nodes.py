"""A Ray cluster of nodes that share nothing but the network, and what may befall one."""

import json
import secrets
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from machines import Machine
from ports import choose_ports
from waiting import wait_for

HEAD = "head"
_RAY = (sys.executable, "-m", "ray.scripts.scripts")
_RAYLET = "raylet/raylet"
_START = "ray.scripts.scripts start"
_TOKEN = f"token-{secrets.token_hex(16)}"
_ANY_PORTS = ("--dashboard-agent-listen-port=0", "--min-worker-port=0", "--max-worker-port=0")


class RayNodes:
    """A head and nodes, which are started one after another, each on a machine of its own."""

    def __init__(self, home: Path, *, environment: Mapping[str, str], shared: Path | None = None) -> None:
        """`environment` is what an administrator gives every node; `shared` a folder in `home` that all have."""
        self.machines: dict[str, Machine] = {}
        self._off: list[Machine] = []
        self._addresses: dict[str, str] = {}
        self._home = home
        self._temp = home / "ray"
        self._shared = shared
        # 127.0.0.1 would be replaced by an outer address of this machine.
        self._head = "127.0.0.2"
        gcs, self._dashboard, self._client_server, *metrics = choose_ports(5)
        self._gcs_address = f"{self._head}:{gcs}"
        self._environment = {
            **environment,
            **dict(zip(("AUTOSCALER_METRIC_PORT", "DASHBOARD_METRIC_PORT"), map(str, metrics), strict=True)),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": _TOKEN,
            "RAY_USAGE_STATS_ENABLED": "0",
            "OMP_NUM_THREADS": "1",
            # As in infra/settings.yaml.
            "RAY_health_check_period_ms": "2000",
            "RAY_health_check_timeout_ms": "3000",
        }

    @property
    def client_environment(self) -> dict[str, str]:
        """What a user of the cluster exports."""
        return {
            "RAY_ADDRESS": f"http://{self._head}:{self._dashboard}",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": _TOKEN,
        }

    def start_head(self, *, cpus: int = 0) -> None:
        """Start the head of a cluster that is yet to have nodes."""
        gcs = self._gcs_address.rpartition(":")[2]
        self._start(
            HEAD,
            *("--head", f"--port={gcs}", f"--ray-client-server-port={self._client_server}", f"--num-cpus={cpus}"),
            *(f"--dashboard-host={self._head}", f"--dashboard-port={self._dashboard}", f"--temp-dir={self._temp}"),
        )

    def join(self, name: str, *, cpus: int, resources: Mapping[str, float] | None = None) -> None:
        """Have a node join: a new one, or one that was there before, with what its disk held."""
        holds = (f"--num-cpus={cpus}", f"--resources={json.dumps(resources or {})}")
        self._start(name, f"--address={self._gcs_address}", *holds)

    def _start(self, name: str, *options: str) -> None:
        machine = self.machines.get(name)
        if machine is None:
            machine = self.machines[name] = Machine(name, self._home, shared=self._shared)
        # Ray would take what it notes there of a cluster that is gone for the one to join.
        (machine.disk / self._temp.name / "ray_current_cluster").unlink(missing_ok=True)
        address = self._addresses.setdefault(name, f"127.0.0.{2 + len(self._addresses)}")
        log = machine.disk / "ray.log"
        line = (*_RAY, "start", "--block", f"--node-ip-address={address}", *_ANY_PORTS, *options)
        begun = machine.start(*line, environment=self._environment, log=log)
        wait_for(lambda: "Ray runtime started" in log.read_text() or begun.poll() is not None)
        assert begun.poll() is None, log.read_text()

    def id_of(self, name: str) -> str:
        """Ray's id of a node that runs."""
        (raylet,) = self.machines[name].processes(_RAYLET)
        return next(part.partition("=")[2] for part in raylet.cmdline() if part.startswith("--node_id="))

    def name_of(self, id: str) -> str:
        """The name of the node that has an id of Ray's."""
        return next(name for name in self.machines if self.has_raylet(name) and self.id_of(name) == id)

    def has_raylet(self, name: str) -> bool:
        """Whether a node is part of the cluster."""
        return name in self.machines and bool(self.machines[name].processes(_RAYLET))

    def drain(self, name: str, *, seconds: int) -> None:
        """Have Ray say that a node is taken away in so many seconds. Whoever says so has to do it, too."""
        reason = ("--reason=DRAIN_NODE_REASON_PREEMPTION", "--reason-message=spot")
        to = (f"--address={self._gcs_address}", f"--node-id={self.id_of(name)}")
        line = (*_RAY, "drain-node", *to, *reason, f"--deadline-remaining-seconds={seconds}")
        self.machines[HEAD].run(*line, environment=self._environment)

    def terminate(self, name: str) -> None:
        """Ask a node to end, as whoever takes a pod or a spot machine does first."""
        self.machines[name].kill(_START, signal.SIGTERM)

    def kill_raylet(self, name: str) -> None:
        """SIGKILL to a node's raylet alone."""
        self.machines[name].kill(_RAYLET)

    def cut(self, name: str) -> None:
        """Cut the power of a node, of which nobody is told: who is connected to it has to find out."""
        machine = self.machines.pop(name)
        machine.freeze()
        self._off.append(machine)

    def cut_all(self) -> None:
        """End all that runs on any."""
        for machine in (*self.machines.values(), *self._off):
            machine.cut()

    def kill_all(self) -> None:
        """SIGKILL to every process of the cluster; the machines stay on, for another cluster."""
        for machine in self.machines.values():
            machine.kill()
            wait_for(lambda machine=machine: not machine.processes())
