"""How a model reads images where it is used: as it did when it was judged, which the spec on its card says."""

from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from ...models.card import Card
from ...models.files import one_line
from ...trainers.errors import UserError
from ...trainers.inference import EvaluationSettings
from ...trainers.speed import SpeedSettings

_SPEED = ("autocast", "channels_last")
"""What of `trainer.speed` an evaluation depends on."""


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How images are read; by default whole."""

    evaluation: EvaluationSettings = EvaluationSettings()
    speed: SpeedSettings = SpeedSettings()


def protocol_on(card: Card) -> Protocol:
    """That of the spec on a card; the default where it has none. Raises UserError for one that is none."""
    spec = card.lineage.get("spec")
    trainer = spec.get("trainer") if isinstance(spec, dict) else None
    if not isinstance(trainer, dict):
        return Protocol()
    given: dict[str, Any] = {"evaluation": trainer.get("evaluation", {})}
    speed = trainer.get("speed", {})
    given["speed"] = {key: speed[key] for key in _SPEED if key in speed} if isinstance(speed, dict) else speed
    try:
        return TypeAdapter(Protocol).validate_python(given)
    except ValidationError as error:
        reason = one_line(ValueError(error.errors()[0]["msg"]))
        raise UserError(
            f"the model's card does not say how it reads images, to this version of advseg ({reason}): install that "
            f"which trained it"
        ) from None
