"""Models: what is registered or on the Hub, and other forms of one."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ...models.reference import reference_of
from ...platform.base.keys import HUB
from ...trainers.errors import UserError
from .connections import is_registered, mlflow, model_folder
from .options import AsJson, AsJsonLines, ModelOrReference, Reference, check_path

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

    from ...platform.gate.verdict import Gate

PANEL = "Models"
ModelName = Annotated[str, typer.Argument(metavar="NAME", help="Of the registered model, as in shapes.")]
models = typer.Typer(help="List, show, promote, download, publish and convert models.")


@models.command("list")
def list_(as_json: AsJsonLines = False) -> None:
    """List the registered models: versions, aliases, mIoU, and the trial that each comes from.

    Example: `advseg models list`
    """
    from ...platform.pages.json_line import json_line
    from ...platform.pages.models_page import print_versions, version_json

    with mlflow() as client:
        from ...platform.registry.versions import list_versions

        versions = list_versions(client)
    if as_json:
        for version in versions:
            typer.echo(json_line(version_json(version)))
    else:
        print_versions(versions)


@models.command()
def show(reference: Reference, as_json: AsJson = False) -> None:
    """Show the card of a model: figures, on fresh seeds as well, where it comes from, architecture and classes.

    Example: `advseg models show shapes@champion`
    """
    from ...platform.pages.models_page import card_json, print_card

    with mlflow() as client:
        from ...platform.registry.registry import pull_card
        from ...platform.registry.versions import moves_of

        description, card = pull_card(client, reference)
        gate, moves = _verdict_on(client, reference), moves_of(client, reference)
    if as_json:
        from ...platform.pages.json_line import json_line

        typer.echo(json_line(card_json(description, card, gate, moves)))
    else:
        print_card(description, card, gate, moves)


@models.command()
def promote(
    reference: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", callback=reference_of, help="NAME@VERSION or NAME@ALIAS, as in shapes@candidate."
        ),
    ],
    why: Annotated[str, typer.Option(metavar="TEXT", help="Why, for the history.")] = "by hand",
) -> None:
    """Make a version of a model its champion, by hand.

    Example: `advseg models promote shapes@candidate --why "better on the new cameras"`
    """
    from ...platform.pages.gate_line import gate_line

    with mlflow() as client:
        from ...platform.registry.by_hand import promote as promote_model

        typer.echo(promote_model(client, reference, why))
        try:
            gate = _verdict_on(client, reference)
        except UserError as error:
            # The move is made, and was somebody's to decide.
            typer.echo(f"warning: {error}", err=True)
            return
    typer.echo(f"on fresh seeds: {gate_line(gate)}" if gate else "it was not confirmed on fresh seeds")


@models.command()
def rollback(name: ModelName) -> None:
    """Bring back the champion before the last move; another time, the one before that.

    Example: `advseg models rollback shapes`
    """
    with mlflow() as client:
        from ...platform.registry.by_hand import rollback as roll_back

        typer.echo(roll_back(client, name))


@models.command()
def history(name: ModelName, as_json: AsJsonLines = False) -> None:
    """List who moved the aliases champion and candidate of a model, when and why, the newest move first.

    Example: `advseg models history shapes`
    """
    from ...platform.pages.json_line import json_line
    from ...platform.pages.moves_page import print_history

    with mlflow() as client:
        from ...platform.registry.history import find_history, read_past
        from ...platform.registry.moves import entries
        from ...platform.registry.registry import find_model

        find_history(client, find_model(client, name))
        moves = entries(read_past(client, name))
    if as_json:
        for move in reversed(moves):
            typer.echo(json_line(asdict(move)))
    else:
        print_history(moves)


@models.command()
def pull(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            callback=reference_of,
            help="NAME@ALIAS, NAME@VERSION, SWEEP/TRIAL, or hf://OWNER/NAME, also with @REVISION.",
        ),
    ],
    to: Annotated[
        Path | None,
        typer.Option(
            callback=check_path,
            metavar="DIR",
            help="Folder to write; by default of the model's name and version here, as shapes-3, or of its trial.",
        ),
    ] = None,
) -> None:
    """Download a model: safetensors and JSON, checked against its manifest.

    Example: `advseg models pull shapes@champion --to champion`
    """
    if model.startswith(HUB):
        from ...platform.registry.hub import hub_address, pull_from_hub

        address = hub_address(model)
        to = to or Path(address.repository.rpartition("/")[2])
        typer.echo(f"{pull_from_hub(address, to)} pulled to {to}")
        return
    with mlflow() as client:
        from ...platform.registry.registry import pull as pull_model

        description, folder = pull_model(client, model, to)
        typer.echo(f"{description} pulled to {folder}")


@models.command()
def push(
    model: ModelOrReference,
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="hf://OWNER/NAME on the Hugging Face Hub.")],
    license_: Annotated[
        str, typer.Option("--license", metavar="ID", help="Its licence, as the Hub abbreviates it; unknown by default.")
    ] = "unknown",
) -> None:
    """Publish a model with a README.md on the Hugging Face Hub, as the account of HF_TOKEN.

    A new repository is private. The card, model.json, holds the whole spec, its paths included.

    Example: `advseg models push shapes@champion hf://me/shapes --license apache-2.0`
    """
    from ...platform.registry.hub import hub_address
    from ...platform.registry.hub import push as push_model

    to = hub_address(address)
    gate, reference = None, None
    if is_registered(model):
        with mlflow() as client:
            model = reference = _version_of(client, model)
            gate = _verdict_on(client, model)
    with model_folder(model) as path:
        typer.echo(f"{model} pushed to {push_model(path, to, license_, gate, reference)}")


@models.command()
def export(
    model: ModelOrReference,
    to: Annotated[Path, typer.Option(callback=check_path, metavar="FILE", help="The ONNX file to write.")],
) -> None:
    """Write a model as an ONNX file, from uint8 pixels [N, H, W, 3] to class ids, checked by onnxruntime.

    Example: `advseg models export shapes@champion --to shapes.onnx`
    """
    from ..export_onnx import export_onnx

    if is_registered(model):
        with mlflow() as client:
            model = _version_of(client, model)
    with model_folder(model) as path:
        note = export_onnx(path, Path(model).name, to)
    typer.echo(f"{model} written to {to}{note}")


def _version_of(client: "MlflowClient", model: str) -> str:
    """A registered model by its version, as shapes@3, for an alias may be another's soon."""
    from ...platform.registry.registry import find_version

    name, _, wanted = model.partition("@")
    return f"{name}@{find_version(client, name, wanted).version}"


def _verdict_on(client: "MlflowClient", reference: str) -> "Gate | None":
    """The newest verdict on a registered model. Where its history speaks against that, it is told."""
    from ...platform.registry.verdicts import doubt, read_verdict

    if told := doubt(client, reference):
        typer.echo(f"warning: {told}", err=True)
    return read_verdict(client, reference)
