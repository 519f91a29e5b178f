"""Ports for the servers of tests."""

from advseg.platform.services.ports import choose_port


def choose_ports(count: int) -> list[int]:
    """So many different ports of the loopback interface that are free."""
    found: list[int] = []
    for _ in range(count):
        found.append(choose_port(option="a port", asked=None, avoid=found))
    return found
