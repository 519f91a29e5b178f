"""The verbs with their arguments and options: what scripts are written against. A change of it is a change here."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import typer.main

from advseg.jobs.cli.main import app
from advseg.jobs.cli.options import check_path, check_places, store_at
from advseg.platform.storage.s3_client import AT_ONCE
from advseg.platform.storage.s3_store import S3Store
from advseg.trainers.errors import UserError

SURFACE: dict[str, Any] = {
    "up": "--mlflow-port --dashboard-port --cpus --open-mlflow",
    "down": "",
    "status": "--json",
    "sync": "[SWEEP...] --storage --ledger",
    "data": {
        "init": "FOLDER --seed --scale --orientation",
        "check": "SPEC --set --picture --json",
        "pack": "SPEC PLACE --resized --set",
        "shapes": "FOLDER --labelled --unlabelled --val --test --size --seed",
    },
    "train": "SPEC --set --to --device --profile",
    "submit": "SPEC --set --follow --fork --profile",
    "reproduce": "WHAT [ROW...] --on --seeds --processes --to --any-code --set --json",
    "job": {
        "list": "--json",
        "logs": "NAME --follow",
        "follow": "NAME",
        "stop": "NAME",
        "wait": "NAME",
    },
    "sweep": {
        "list": "--storage --ledger --json",
        "show": "NAME --storage --ledger --all --json",
        "report": "NAME --to --storage --ledger",
        "resume": "NAME --follow --storage --ledger",
        "retry": "NAME [TRIAL...] --follow --storage --ledger",
        "stop": "NAME",
    },
    "confirm": "NAME --candidates --seeds --follow --storage --ledger",
    "clean": "[SWEEP...] --dry-run --older-than --storage --ledger --json",
    "compare": "RUN... --metric --html --json",
    "models": {
        "list": "--json",
        "show": "MODEL --json",
        "promote": "MODEL --why",
        "rollback": "NAME",
        "history": "NAME --json",
        "pull": "MODEL --to",
        "push": "MODEL ADDRESS --license",
        "export": "MODEL --to",
    },
    "evaluate": "MODEL SPEC --set --to --json",
    "predict": "MODEL IMAGE... --to --averaged --overlay --probabilities --confidence --overwrite --device --batch",
    "picture": "OUT --images --truth --model",
}
"""What is in brackets may be left out."""


def surface(command: Any) -> Any:
    if hasattr(command, "commands"):
        return {name: surface(child) for name, child in command.commands.items()}
    return " ".join(
        option.opts[0] if option.param_type_name == "option" else argument(option) for option in command.params
    )


def argument(declared: Any) -> str:
    name = declared.metavar or declared.name.upper()
    return name if declared.required else f"[{name}]"


def test_verbs_arguments_and_options_are_these_in_this_order() -> None:
    found = surface(typer.main.get_command(app))
    assert found == SURFACE
    assert list(found) == list(SURFACE)


def test_the_program_itself_has_these_options() -> None:
    options = [option.opts[0] for option in typer.main.get_command(app).params]
    assert options == ["--version", "--install-completion", "--show-completion"]


def paths_of(group: typer.Typer) -> Iterator[tuple[str, Any]]:
    """The arguments and options that are paths, of all verbs."""
    for inner in group.registered_groups:
        assert inner.typer_instance
        yield from paths_of(inner.typer_instance)
    for verb in group.registered_commands:
        for name, hint in get_type_hints(verb.callback, include_extras=True).items():
            kind, *info = get_args(hint) or (hint,)
            if Path in (kind, *get_args(kind)):
                yield f"{getattr(verb.callback, '__name__', '')} {name}", info[0]


def test_every_path_on_the_command_line_is_refused_where_it_is_an_address() -> None:
    paths = dict(paths_of(app))
    assert {"init folder", "report to", "pull to", "picture images"} <= paths.keys()
    assert [name for name, info in paths.items() if info.callback is not check_path] == []


@pytest.mark.parametrize("address", ["s3://bucket/x", "gs://b", "http://host/x", "file:///x", "s3:/bucket/x"])
def test_an_address_is_no_path(address: str) -> None:
    for value in (Path(address), [Path("here"), Path(address)]):
        with pytest.raises(UserError, match=r"://.* is an address: name a path here, where it is mounted or copied"):
            check_path(value)


@pytest.mark.parametrize("secret", ["hdfs://me:hunter2@host/x", "s3://bucket/x?AWSAccessKeyId=hunter2"])
def test_an_address_is_refused_without_its_secrets(secret: str) -> None:
    for check in (lambda: check_path(Path(secret)), lambda: check_places(["here", secret])):
        with pytest.raises(UserError) as caught:
            check()
        assert "hunter2" not in str(caught.value)


def test_images_may_be_patterns_and_lie_in_s3() -> None:
    places = ["photos/**/*.jpg", "s3://bucket/photos/*/[ab].png", "s3://bucket"]
    assert check_places(places) == places
    with pytest.raises(UserError, match="gs://bucket is an address: name a path here"):
        check_places(["gs://bucket"])


@pytest.mark.parametrize("path", [Path("here"), Path("/a/b:c/d"), Path("C:/x"), None, [Path("~/x")]])
def test_a_path_stays_as_it_is(path: Any) -> None:
    assert check_path(path) == path


def test_no_verb_waits_for_storage_that_is_away() -> None:
    store = store_at("s3://bucket/runs")
    assert isinstance(store, S3Store)
    assert store.patience is AT_ONCE
