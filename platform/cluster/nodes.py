"""The machines of a cluster, as Ray knows them."""

from collections.abc import Iterable, Mapping, Sequence
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
    is_head: bool = field(default=False, compare=False)
    """False if it is not known, as to a driver."""

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


def nodes_at(dashboard_url: str) -> list[Node]:
    """Those of the cluster of a dashboard."""
    # Their class is built when it is first imported, and says nothing of its fields before.
    rows: list[Any] = list_nodes(dashboard_url, [("state", "=", "ALIVE")], limit=_MOST, raise_on_missing_output=False)
    return [
        Node(
            id=row.node_id,
            name=row.node_name,
            address=row.node_ip,
            has=row.resources_total,
            labels=row.labels or {},
            is_head=row.is_head_node,
        )
        for row in rows
    ]


def off_the_head(nodes: Sequence[Node]) -> dict[str, str]:
    """A label selector for any node but the head.

    None where the head is alone: Ray puts drivers there by itself.
    """
    heads = [node.id for node in nodes if node.is_head]
    return {_ID: f"!{heads[0]}"} if heads and len(nodes) > 1 else {}
