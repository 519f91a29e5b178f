"""What fits on a cluster, counted node by node."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from advseg.platform.cluster.nodes import Node, nodes_of, off_the_head
from advseg.platform.cluster.placement import check_ledger, concurrency_of, idle_gpus, lack_of, room_on
from advseg.platform.spec.spec import Resources
from advseg.trainers.errors import UserError


def node(name: str, cpus: float = 1, gpus: float = 0, kind: str = "", **labels: str) -> Node:
    gpu = {"GPU": gpus, f"accelerator_type:{kind}": 1.0} if gpus else {}
    return Node(id=name * 8, name=name, has={"CPU": cpus, "memory": 1e9, **gpu}, labels=labels)


def asked(**values: object) -> Resources:
    return Resources.model_validate(values)


class TestNodes:
    def test_are_those_that_live(self) -> None:
        row = {
            "NodeID": "ab",
            "NodeManagerHostname": "w1",
            "NodeManagerAddress": "10.0.0.5",
            "Resources": {"CPU": 2.0},
            "Labels": {"zone": "a"},
            "Alive": True,
        }
        dead = {**row, "NodeID": "cd", "Alive": False, "Resources": {}, "Labels": {}}
        there = nodes_of([row, dead])
        assert there == [Node(id="ab", name="w1", address="10.0.0.5", has={"CPU": 2.0}, labels={"zone": "a"})]

    @pytest.mark.parametrize(
        ("heads", "selector"),
        [
            ({"ab": True}, {}),
            ({"ab": True, "cd": False}, {"ray.io/node-id": "!ab"}),
            ({"cd": False, "ab": True, "ef": False}, {"ray.io/node-id": "!ab"}),
            ({}, {}),
        ],
    )
    def test_other_than_the_head_have_the_driver(self, heads: dict[str, bool], selector: dict[str, str]) -> None:
        nodes = [Node(id=id, name=id, has={}, is_head=is_head) for id, is_head in heads.items()]
        assert off_the_head(nodes) == selector


class TestLedger:
    ADDRESS = "postgresql://me@host/database"

    @staticmethod
    def at(*addresses: str) -> list[Node]:
        return [Node(id=each, name=each, address=each, has={}) for each in addresses]

    @pytest.mark.parametrize("addresses", [["127.0.0.1"], ["127.0.0.1", "127.0.0.2"], ["::1"], []])
    @pytest.mark.parametrize("ledger", [None, ADDRESS])
    def test_may_be_a_file_if_all_nodes_are_on_this_machine(self, ledger: str | None, addresses: list[str]) -> None:
        check_ledger(ledger, self.at(*addresses))

    @pytest.mark.parametrize("addresses", [["10.0.0.5"], ["127.0.0.1", "10.0.0.5"], ["10.0.0.5", "10.0.0.6"]])
    def test_must_be_a_server_if_others_can_reach_a_node(self, addresses: list[str]) -> None:
        check_ledger(self.ADDRESS, self.at(*addresses))
        with pytest.raises(UserError) as caught:
            check_ledger(None, self.at(*addresses))
        assert str(caught.value) == (
            "the cluster has nodes that others can reach (10.0.0.5), but the spec names no ledger, and an SQLite file "
            "serves one machine only: add ledger: postgresql://user@host/database"
        )


class TestConcurrency:
    @pytest.mark.parametrize(
        ("limit", "resources", "nodes", "fits"),
        [
            (2, asked(), [node("w1", 8)], 2),
            (9, asked(), [node("w1", 8)], 8),
            (9, asked(workers=3), [node("w1", 8)], 2),
            (9, asked(cpus_per_worker=0.1), [node("w1", 0.3)], 3),
            (9, asked(gpus_per_worker=1), [node("w1", 64, 4)], 4),
            (9, asked(gpus_per_worker=0.5, workers=2), [node("w1", 64, 4)], 4),
            (1, asked(workers=8), [node("w1", 8)], 1),
            # By the cluster's sum it would be 3.
            (9, asked(cpus_per_worker=2), [node("w1", 3), node("w2", 3)], 2),
            (9, asked(cpus_per_worker=2, workers=2), [node("w1", 3), node("w2", 3)], 1),
            (9, asked(gpus_per_worker=1), [node("head", 64), node("w1", 8, 2), node("w2", 1, 4)], 3),
            (9, asked(accelerator="L4", gpus_per_worker=1), [node("w1", 8, 2, "L4"), node("w2", 8, 4, "A100")], 2),
            (9, asked(node_labels={"zone": "a"}), [node("w1", 8, zone="a"), node("w2", 8, zone="b"), node("w3", 8)], 8),
        ],
    )
    def test_is_what_fits_on_the_nodes(self, limit: int, resources: Resources, nodes: list[Node], fits: int) -> None:
        assert concurrency_of(limit, resources, nodes) == fits

    @given(st.lists(st.integers(0, 9), min_size=1), st.integers(1, 4), st.integers(1, 4))
    def test_is_none_exactly_if_something_lacks(self, cpus: list[int], each: int, workers: int) -> None:
        resources, nodes = asked(cpus_per_worker=each, workers=workers), [node(f"w{i}", n) for i, n in enumerate(cpus)]
        fits = sum(room_on(each, resources) for each in nodes) >= workers
        assert (lack_of(resources, nodes) is None) == fits


@pytest.mark.parametrize(
    ("share", "gpus", "told"),
    [
        (0, 2, "resources.gpus_per_worker is 0, so this trains on CPUs, though the cluster has GPUs: 6"),
        (0, 0, None),
        (0.5, 2, None),
    ],
)
def test_gpus_that_nothing_asks_for_are_told(share: float, gpus: int, told: str | None) -> None:
    nodes = [node("head", 8), node("w1", 8, gpus), node("w2", 8, 2 * gpus)]

    assert idle_gpus([asked(), asked(gpus_per_worker=share)], nodes) == told


class TestLack:
    @pytest.mark.parametrize(
        ("resources", "nodes", "lack"),
        [
            (
                asked(cpus_per_worker=2),
                [node("head", 0), node("w1", 1), node("w2", 1)],
                "a worker asks for 2 CPU, but the greatest node, w1, has 1 CPU: lower resources.cpus_per_worker, or "
                "add a greater node",
            ),
            (
                asked(gpus_per_worker=1),
                [node("w1", 2)],
                "a worker asks for 1 CPU and 1 GPU, but the greatest node, w1, has 2 CPU and 0 GPU: lower "
                "resources.gpus_per_worker, or add a greater node",
            ),
            (
                asked(cpus_per_worker=2, gpus_per_worker=1),
                [node("w1", 64), node("w2", 1, 4)],
                "a worker asks for 2 CPU and 1 GPU, but the greatest node, w2, has 1 CPU and 4 GPU: lower "
                "resources.cpus_per_worker, or add a greater node",
            ),
            (
                asked(workers=3),
                [node("head", 0), node("w1", 1), node("w2", 1)],
                "a training asks for 3 workers of 1 CPU, but 2 fit (1 on w1, 1 on w2): lower the number of workers or "
                "what each asks for, or add nodes",
            ),
            (
                asked(accelerator="H100", gpus_per_worker=1),
                [node("head", 8), node("w1", 8, 1, "L4"), node("w2", 8, 1, "A100")],
                "no node has the accelerator H100 (those there: A100, L4): change resources.accelerator, or add such a "
                "node",
            ),
            (
                asked(node_labels={"zone": "a", "pool": "x"}),
                [node("w1", 8, zone="b"), node("w2", 8, zone="b", pool="x")],
                "no node has the labels zone=a, pool=x (those there: pool=x, zone=b): change resources.node_labels, or "
                "add such a node",
            ),
        ],
    )
    def test_names_what_is_asked_and_what_there_is(self, resources: Resources, nodes: list[Node], lack: str) -> None:
        assert lack_of(resources, nodes) == lack
        with pytest.raises(UserError) as caught:
            concurrency_of(2, resources, nodes)
        assert str(caught.value) == lack

    def test_lists_only_some_of_very_many(self) -> None:
        lack = lack_of(asked(node_labels={"host": "x"}), [node(f"w{i}", host=f"h{i:02}") for i in range(30)])
        assert lack and "host=h00, host=h01" in lack and "host=h07 and 22 more)" in lack
