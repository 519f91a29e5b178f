"""What a sweep needs of a cluster, and how many of its trials fit on it at the same time."""

from collections.abc import Mapping, Sequence
from ipaddress import ip_address

from ...trainers.errors import UserError
from ..spec.resources import Resources


def check_ledger(ledger: str | None, addresses: Sequence[str]) -> None:
    """Raise UserError if a cluster with nodes at these addresses needs a ledger that the spec does not name."""
    remote = [address for address in addresses if not ip_address(address).is_loopback]
    if remote and ledger is None:
        raise UserError(
            f"the cluster has nodes that others can reach ({remote[0]}), but the spec names no ledger, and an SQLite "
            f"file serves one machine only: add ledger: postgresql://user@host/database"
        )


def concurrency_of(asked: int, resources: Resources, cluster: Mapping[str, float]) -> int:
    """Trials that can run at once, at most `asked`, on a cluster that has `CPU` and `GPU` in all.

    More would wait for each other's workers. Raises UserError if not even one fits.
    """
    fits = asked
    for name, per_worker in (("CPU", resources.cpus_per_worker), ("GPU", resources.gpus_per_worker)):
        if per_worker:
            needed, here = resources.workers * per_worker, cluster.get(name, 0)
            if here < needed:
                raise UserError(
                    f"a training needs {needed:g} {name} ({resources.workers} x {per_worker:g}), but the cluster has "
                    f"{here:g}: lower resources.{name.lower()}s_per_worker or the number of workers, or add nodes"
                )
            fits = min(fits, int(here / needed + 1e-9))
    return fits
