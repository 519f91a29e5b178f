"""What the model registry holds."""

from dataclasses import dataclass

from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from ..base.keys import METRIC
from ..tracking.runs import KEY_TAG


@dataclass(frozen=True, kw_only=True)
class RegisteredVersion:
    """A version of a registered model."""

    name: str
    version: int
    aliases: tuple[str, ...]
    key: str | None
    """Of the trial that it was trained by; None of one that another program registered."""
    miou: float | None
    """Newest mean IoU in percent of its run, None if that is not known."""


def list_versions(client: MlflowClient) -> list[RegisteredVersion]:
    """All versions, by the names of their models, the newest of each first."""
    return [
        RegisteredVersion(
            name=name,
            version=int(found.version),
            aliases=tuple(sorted(alias for alias, version in aliases.items() if str(version) == str(found.version))),
            key=found.tags.get(KEY_TAG),
            miou=_miou(client, found.run_id),
        )
        for name, aliases in sorted(_models(client).items())
        for found in sorted(client.search_model_versions(f"name = '{name}'"), key=lambda v: -int(v.version))
    ]


def _models(client: MlflowClient) -> dict[str, dict[str, str]]:
    """The aliases of each registered model."""
    found: dict[str, dict[str, str]] = {}
    token = None
    while True:
        page = client.search_registered_models(page_token=token)
        found |= {model.name: dict(model.aliases) for model in page}
        if not (token := page.token):
            return found


def _miou(client: MlflowClient, run_id: str | None) -> float | None:
    if not run_id:
        return None
    try:
        return client.get_run(run_id).data.metrics.get(METRIC)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None
