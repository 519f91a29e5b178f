"""Models on the Hugging Face Hub: pushed in one commit, pulled as data of one revision."""

import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ...models.bundle import read_card
from ...models.files import one_line
from ...models.manifest import MANIFEST
from ...trainers.errors import UserError
from ..base.keys import HUB
from .model_card import MODEL_CARD, model_card
from .pulling import model_files, place_model

_ADDRESS = re.compile(r"hf://(?P<repository>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?", re.ASCII)
_REFUSED = (401, 403)


@dataclass(frozen=True, kw_only=True)
class HubAddress:
    """A repository of the Hub."""

    repository: str
    """`owner/name`."""
    revision: str | None = None
    """A commit, branch or tag; None is the newest commit."""

    def __str__(self) -> str:
        return f"{HUB}{self.repository}" + (f"@{self.revision}" if self.revision else "")


def hub_address(text: str) -> HubAddress:
    """The repository that an address names. Raises UserError for what is no address of one."""
    if (parts := _ADDRESS.fullmatch(text)) is None:
        raise UserError(f"{text!r} must be hf://OWNER/NAME or hf://OWNER/NAME@REVISION, as in hf://me/shapes")
    return HubAddress(repository=parts["repository"], revision=parts["revision"])


def push(model: Path, address: HubAddress, licence: str) -> HubAddress:
    """Put the model in a directory, with a README.md, into a repository, in one commit, whose address is returned.

    A repository that there is not is made, for its owner's eyes alone; what else is in it stays. Who we are tells
    HF_TOKEN, and HF_ENDPOINT where the Hub is. Raises UserError.
    """
    if address.revision is not None:
        raise UserError(f"{address} names a revision, but what is pushed becomes the newest: leave it out")
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()
    with _telling(f"the model cannot be pushed to {address}"):
        readme = model_card(read_card(model), licence).encode()
        files = {name: str(model / name) for name in (MANIFEST, *model_files(model))}
        operations = [CommitOperationAdd(name, file) for name, file in {**files, MODEL_CARD: readme}.items()]
        api = HfApi()
        api.create_repo(address.repository, private=True, exist_ok=True)
        commit = api.create_commit(address.repository, operations, commit_message="A model of advseg")
    return HubAddress(repository=address.repository, revision=commit.oid)


def pull_from_hub(address: HubAddress, destination: Path) -> HubAddress:
    """Download the model in a repository, all of it of one commit, whose address is returned.

    It is what the manifest lists, checked by it, and nothing beside. Raises UserError as `registry.pull` does.
    """
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()

    def fetch(names: Iterable[str], folder: Path) -> None:
        for name in names:
            hf_hub_download(address.repository, name, revision=commit, local_dir=folder)
        shutil.rmtree(folder / ".cache")

    with _telling(f"{address} cannot be pulled"):
        commit = HfApi().model_info(address.repository, revision=address.revision).sha
        if commit is None:
            raise UserError(f"{address} cannot be pulled: it has no commit yet")
        place_model(destination, fetch)
    return HubAddress(repository=address.repository, revision=commit)


@contextmanager
def _telling(what: str) -> Iterator[None]:
    """Raises UserError for what goes wrong with the Hub or a model."""
    from httpx2 import HTTPError
    from huggingface_hub.errors import HfHubHTTPError

    try:
        yield
    except UserError:
        raise
    except HfHubHTTPError as error:
        # Its own words hold addresses, which may hold passwords.
        raise UserError(f"{what}: {_reason(error.response.status_code)}") from None
    except HTTPError as error:
        hub = "HF_ENDPOINT" if "HF_ENDPOINT" in os.environ else "the Hub"
        raise UserError(f"{what}: {hub} does not answer ({one_line(error)})") from None
    except (ValueError, OSError) as error:
        raise UserError(f"{what}: {one_line(error)}") from None


def _reason(status: int) -> str:
    if status in _REFUSED:
        return f"the Hub refuses ({status}): set HF_TOKEN to a token of an account that may do so"
    if status == 404:
        return "there is no such repository, revision or file, or HF_TOKEN is of an account that may not see it"
    return f"the Hub answers {status}"
