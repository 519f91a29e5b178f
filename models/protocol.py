"""How a model reads images where it is used: as it did when it was judged, which the spec on its card says."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields
from itertools import repeat
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import torch

from .card import Card
from .files import one_line, shown
from .inference import EvaluationSettings


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How images are read, and what a network computes with; by default whole."""

    evaluation: EvaluationSettings = EvaluationSettings()
    autocast: Literal["bfloat16"] | None = None
    channels_last: bool = True

    @property
    def memory_format(self) -> torch.memory_format:
        """In which order images and weights lie in memory."""
        return torch.channels_last if self.channels_last else torch.contiguous_format

    def precision(self, device: torch.device) -> AbstractContextManager[object]:
        """The context in which networks compute on a device."""
        return nullcontext() if self.autocast is None else torch.autocast(device.type, torch.bfloat16)


def protocol_on(card: Card) -> Protocol:
    """That of the spec on a card; the default where it has none. Raises ValueError for one that is none."""
    spec = card.lineage.get("spec")
    trainer = spec.get("trainer") if isinstance(spec, dict) else None
    if not isinstance(trainer, dict):
        return Protocol()
    try:
        evaluation = EvaluationSettings(**_read(EvaluationSettings, trainer.get("evaluation", {})))
        speed = trainer.get("speed", {})
        # Of the other switches of its section only training depends.
        known = {field.name: speed[field.name] for field in fields(Protocol) if field.name in speed}
        return Protocol(evaluation=evaluation, **_read(Protocol, known))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"the model's card does not say how it reads images, to this version of advseg ({one_line(error)}): "
            f"install that which trained it"
        ) from None


def _read(kind: type, given: Any) -> dict[str, Any]:
    """Values of settings, of JSON. Raises ValueError for what is of another type; ranges the settings check."""
    if not isinstance(given, dict):
        raise ValueError(f"{shown(given)} is no object")
    hints = get_type_hints(kind, include_extras=True)
    if unknown := given.keys() - hints.keys():
        raise ValueError(f"unknown setting {shown(min(unknown))}")
    return {name: _value(hints[name], value, name) for name, value in given.items()}


def _value(hint: Any, value: Any, name: str) -> Any:
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _value(parts[0], value, name)
    if origin is tuple:
        elements = repeat(parts[0]) if parts[-1] is Ellipsis else parts
        if not isinstance(value, Sequence) or (parts[-1] is not Ellipsis and len(value) != len(parts)):
            raise ValueError(f"{name} is {shown(value)}")
        return tuple(_value(element, inner, name) for element, inner in zip(elements, value, strict=False))
    if hint in (bool, int, float):
        if type(value) is not hint and not (hint is float and type(value) is int):
            raise ValueError(f"{name} is {shown(value)}")
    elif value not in _choices(hint):
        raise ValueError(f"{name} is {shown(value)}")
    return value


def _choices(hint: Any) -> list[Any]:
    """What a `Literal` lists, None included where it may be that."""
    if get_origin(hint) is Literal:
        return [*get_args(hint)]
    return [choice for part in get_args(hint) for choice in ([None] if part is type(None) else _choices(part))]
