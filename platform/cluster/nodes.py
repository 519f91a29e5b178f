"""The machines of a cluster, as Ray knows them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any

import ray
from ray.util.state import list_nodes

_ID = "ray.io/node-id"
"""Label that every node has."""
_MOST = 10_000


@dataclass(frozen=True, kw_only=True)
class Node:
    """A machine of the cluster, as Ray knows it."""

    id: str
    name: str
    address: str = "127.0.0.1"
    has: Mapping[str, float]
    """What it has of each of Ray's resources, be it taken or not."""
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_hidden(self) -> bool:
        """Whether no other machine can reach it."""
        return ip_address(self.address).is_loopback


def live_nodes() -> list[Node]:
    """Those of the cluster that this process is connected to."""
    return nodes_of(ray.nodes())


def nodes_of(rows: Iterable[Mapping[str, Any]]) -> list[Node]:
    """The nodes that live, of those that `ray.nodes()` lists."""
    return [
        Node(
            id=row["NodeID"],
            name=row["NodeManagerHostname"],
            address=row["NodeManagerAddress"],
            has=row["Resources"],
            labels=row["Labels"],
        )
        for row in rows
        if row["Alive"]
    ]


def driver_selector(dashboard_url: str) -> dict[str, str]:
    """The label selector of a job's driver on the cluster of a dashboard."""
    # Their class is built when it is first imported, and says nothing of its fields before.
    nodes: list[Any] = list_nodes(dashboard_url, [("state", "=", "ALIVE")], limit=_MOST, raise_on_missing_output=False)
    return off_the_head({node.node_id: node.is_head_node for node in nodes})


def off_the_head(nodes: Mapping[str, bool]) -> dict[str, str]:
    """A label selector for any node but the head, by ids and which of them is that.

    None where the head is alone: Ray puts drivers there by itself.
    """
    heads = [id for id, is_head in nodes.items() if is_head]
    return {_ID: f"!{heads[0]}"} if heads and len(nodes) > 1 else {}
