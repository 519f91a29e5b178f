"""The processes that torchrun has started for one training."""

import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import distributed as dist
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from ..platform.base.orphaned import stop_with_parent
from ..trainers.distributed import World, is_cut_off
from ..trainers.errors import BrokenEnvironmentError
from .own_device import own_device
from .train_together import joined


@contextmanager
def gathered(device: str | None) -> Iterator[tuple[World, torch.device]]:
    """This process's place among those that torchrun has started, and its device of a kind; it may be alone.

    Where one fails the others do, too: the first raises why, the others SystemExit. Where torchrun itself is killed
    each gets a SIGTERM. Raises BrokenEnvironmentError in the place of what is raised where another was killed, and what
    `own_device` raises.
    """
    if not dist.is_torchelastic_launched():
        yield World(), own_device(device, torch.cuda.device_count())
        return
    store, rank, size = next(rendezvous("env://"))
    stop_with_parent()
    # With --max-restarts those that were started before left their addresses there.
    store = PrefixStore(os.environ["TORCHELASTIC_RESTART_COUNT"], store)
    here = int(os.environ["LOCAL_WORLD_SIZE"])
    with ExitStack() as stack:
        try:
            own = own_device(device, torch.cuda.device_count(), int(os.environ["LOCAL_RANK"]), here)
            if size > 1:
                stack.enter_context(joined(World(rank=rank, size=size), own, store, on_one_machine=here == size))
            if rank:
                # The leading one says the same.
                logging.disable()
            yield World(rank=rank, size=size), own
        except BaseException as error:
            # Before it leaves the others, of which that is to be the consequence.
            if not _is_first(store, or_leads_here=os.environ["LOCAL_RANK"] == "0"):
                raise SystemExit(1) from None
            if is_cut_off(error):
                raise BrokenEnvironmentError(
                    "another process of this training was killed, perhaps for want of memory: make room, and the same "
                    "command goes on"
                ) from None
            raise


def _is_first(store: Store, *, or_leads_here: bool) -> bool:
    """Whether none has failed before; where the store went with torchrun or its machine, one speaks on each machine."""
    try:
        return store.add("failed", 1) == 1
    except dist.DistError:
        return or_leads_here
