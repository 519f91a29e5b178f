"""The table of methods."""

from typing import Annotated, Any

from ...models.architectures import Segmenter
from ...models.discriminator import build_discriminator
from ...models.settings import ChosenBy
from ..distributed import World
from ..settings import TrainerSettings
from . import adversarial
from .adversarial import AdversarialSettings
from .adversarial_step import Adversarial
from .method import Method
from .supervised import Supervised, SupervisedSettings

MethodSettings = Annotated[AdversarialSettings | SupervisedSettings, ChosenBy("name")]

ABLATIONS: dict[str, dict[str, dict[str, Any]]] = {"adversarial": adversarial.ABLATIONS, "supervised": {}}
"""The fields of a method's settings that each of its ablations sets, by the method's name and the ablation's."""


def build_method(
    settings: MethodSettings,
    trainer: TrainerSettings,
    segmenter: Segmenter,
    *,
    classes: int,
    ignore_index: int,
    world: World,
) -> Method:
    """A method that trains a segmenter; what it has beside that is fresh from torch's global generator."""
    match settings:
        case AdversarialSettings() if settings.uses_discriminator:
            like = next(segmenter.parameters())
            discriminator = build_discriminator(settings.discriminator, classes).to(like.device, like.dtype)
            return Adversarial(settings, trainer, segmenter, discriminator, ignore_index=ignore_index, world=world)
        case AdversarialSettings() | SupervisedSettings():
            return Supervised(trainer, segmenter, ignore_index=ignore_index, world=world)
