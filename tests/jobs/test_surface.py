"""The verbs with their arguments and options: what scripts are written against. A change of it is a change here."""

from typing import Any

import typer.main

from advseg.jobs.cli.main import app

SURFACE: dict[str, Any] = {
    "up": "--mlflow-port --dashboard-port --cpus --open-mlflow",
    "down": "",
    "status": "--json",
    "sync": "[SWEEP...] --storage --ledger",
    "data": {
        "init": "FOLDER --seed",
        "check": "SPEC --set --picture --json",
        "pack": "SPEC FOLDER --set",
        "shapes": "FOLDER --labelled --unlabelled --val --test --size --seed",
    },
    "train": "SPEC --set --to --profile",
    "submit": "SPEC --set --follow --fork --profile",
    "reproduce": "TABLE [ROW...] --on --seeds --processes --set --json",
    "job": {
        "list": "--json",
        "logs": "NAME",
        "follow": "NAME",
        "stop": "NAME",
        "wait": "NAME",
    },
    "sweep": {
        "list": "--storage --ledger --json",
        "show": "NAME --storage --ledger --all --json",
        "report": "NAME --to --storage --ledger",
        "resume": "NAME --follow --storage --ledger",
        "stop": "NAME",
    },
    "compare": "RUN... --metric --html --json",
    "models": {
        "list": "--json",
        "show": "MODEL --json",
        "pull": "MODEL --to",
    },
    "evaluate": "MODEL SPEC --set --to --json",
    "predict": "MODEL IMAGE... --to",
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
