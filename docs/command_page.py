"""The page of commands, from the command line's own help."""

import inspect
from collections.abc import Iterator
from enum import Enum
from typing import Any

import typer.main
from markup import escaped

from advseg.jobs.cli.main import app
from advseg.platform.base.exits import exit_status

HEAD = """\
# Commands

`advseg` lies in `.venv/bin`. This page says what `--help` says of each verb; `python docs/generate.py` writes it.
A spec and its keys are described in [spec.md](spec.md), the keys that `--json` prints in [json.md](json.md).
"""


def command_page() -> str:
    """Every verb with its usage, arguments, options and example, and how commands end."""
    root: Any = typer.main.get_command(app)
    verbs = "\n".join(verb for name, command in root.commands.items() for verb in _described(name, command))
    _, _, statuses = (inspect.getdoc(exit_status) or "").partition("\n\n")
    return f"{HEAD}\n{verbs}\n## Exit statuses\n\nScripts can rely on them:\n\n{statuses}\n"


def _described(path: str, command: Any) -> Iterator[str]:
    """A verb; or a group, and then its verbs."""
    level = "#" * (path.count(" ") + 2)
    if hasattr(command, "commands"):
        yield f"{level} advseg {path}\n\n{command.help}\n"
        for name, child in command.commands.items():
            yield from _described(f"{path} {name}", child)
        return
    text, _, example = command.help.partition("Example: ")
    parts = [f"{level} advseg {path}", escaped(text.strip()), f"```\n{_usage(path, command)}\n```"]
    if command.params:
        parts.append("\n".join(_parameter(parameter) for parameter in command.params))
    if example:
        parts.append(f"Example: {example.strip()}")
    yield "\n\n".join(parts) + "\n"


def _usage(path: str, command: Any) -> str:
    arguments = [_name(each) if each.required else f"[{_name(each)}]" for each in command.params if _is_argument(each)]
    options = [_name(each) for each in command.params if not _is_argument(each) and each.required]
    optional = any(not _is_argument(each) and not each.required for each in command.params)
    return " ".join(["advseg", path, *arguments, *options, *(["[OPTIONS]"] if optional else [])])


def _parameter(parameter: Any) -> str:
    default = parameter.default
    told = "" if default in (None, False) or parameter.required else f" Default: `{default}`."
    return f"- `{_name(parameter)}`: {escaped(parameter.help)}{told}"


def _name(parameter: Any) -> str:
    """An argument as the usage names it, an option with what it takes."""
    if _is_argument(parameter):
        return parameter.metavar or parameter.name.upper()
    if parameter.is_flag:
        return parameter.opts[0]
    taken = "|".join(type(parameter.default)) if isinstance(parameter.default, Enum) else parameter.metavar
    return f"{parameter.opts[0]} {taken}"


def _is_argument(parameter: Any) -> bool:
    return parameter.param_type_name == "argument"
