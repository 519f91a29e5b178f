"""Models on the Hugging Face Hub: pushed in one commit, pulled as data of one revision."""

import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ...models.bundle import model_files, read_card
from ...models.files import one_line
from ...models.manifest import MANIFEST
from ...trainers.errors import UserError
from ..base.keys import HUB
from ..gate.verdict import Gate
from .model_card import MODEL_CARD, model_card
from .pulling import place_model

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_ADDRESS = re.compile(r"hf://(?P<repository>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?", re.ASCII)
_REFUSED, _NOT_FOUND = (401, 403), 404


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


def push(model: Path, address: HubAddress, licence: str, gate: Gate | None, reference: str | None = None) -> HubAddress:
    """Put the model in a directory, with a README.md, into a repository, in one commit, whose address is returned.

    `reference` is `<name>@<version>` of a registered one. A repository that there is not is made, for its owner's eyes
    alone; what else is in it stays. Who we are tells HF_TOKEN, and HF_ENDPOINT where the Hub is. Raises UserError.
    """
    if address.revision is not None:
        raise UserError(f"{address} names a revision, but what is pushed becomes the newest: leave it out")
    api = _client()
    from huggingface_hub import CommitOperationAdd

    with _telling(f"the model cannot be pushed to {address}"):
        readme = model_card(read_card(model), gate, licence, reference).encode()
        files = {name: str(model / name) for name in (MANIFEST, *model_files(model))}
        operations = [CommitOperationAdd(name, file) for name, file in {**files, MODEL_CARD: readme}.items()]
        api.create_repo(address.repository, private=True, exist_ok=True)
        commit = api.create_commit(address.repository, operations, commit_message="A model of advseg")
    return HubAddress(repository=address.repository, revision=commit.oid)


def pull_from_hub(address: HubAddress, destination: Path) -> HubAddress:
    """Download the model in a repository, all of it of one commit, whose address is returned.

    It is what the manifest lists, checked by it, and nothing beside. Raises UserError as `registry.pull` does.
    """
    api = _client()

    def fetch(names: Iterable[str], folder: Path) -> None:
        for name in names:
            api.hf_hub_download(address.repository, name, revision=commit, local_dir=folder)
        shutil.rmtree(folder / ".cache")

    with _telling(f"{address} cannot be pulled"):
        commit = api.model_info(address.repository, revision=address.revision).sha
        if commit is None:
            raise UserError(f"{address} cannot be pulled: it has no commit yet")
        place_model(destination, fetch)
    return HubAddress(repository=address.repository, revision=commit)


def _client() -> "HfApi":
    """A client that prints nothing of its own, of the Hub and the account that the environment names."""
    from huggingface_hub import HfApi
    from huggingface_hub.utils import disable_progress_bars, logging

    disable_progress_bars()
    logging.set_verbosity_error()
    return HfApi()


@contextmanager
def _telling(what: str) -> Iterator[None]:
    """Raises UserError for what goes wrong with the Hub or a model."""
    from httpx2 import HTTPError
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        yield
    except UserError:
        raise
    except (RuntimeError, LocalEntryNotFoundError) as error:
        # Of an upload or a download that failed it is the cause that says something.
        raise UserError(f"{what}: {_reason(error.__cause__ or error)}") from None
    except (HTTPError, ValueError, OSError) as error:
        raise UserError(f"{what}: {_reason(error)}") from None


def _reason(error: BaseException) -> str:
    from httpx2 import HTTPError
    from huggingface_hub.errors import HfHubHTTPError

    match error:
        # Words of its own hold addresses, which may hold passwords.
        case HfHubHTTPError(response=response) if response.status_code in _REFUSED:
            return f"the Hub refuses ({response.status_code}): set HF_TOKEN to a token of an account that may do so"
        case HfHubHTTPError(response=response) if response.status_code == _NOT_FOUND:
            return "there is no such repository, revision or file, or HF_TOKEN is of an account that may not see it"
        case HfHubHTTPError(response=response):
            return f"the Hub answers {response.status_code}: try again later"
        case HTTPError():
            return f"the Hub does not answer ({one_line(error)}): try again later, and look at HF_ENDPOINT if it is set"
        case _:
            return one_line(error)
