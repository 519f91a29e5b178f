"""The table of methods."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated

from ...models.discriminator import Discriminator, DiscriminatorSettings, build_discriminator
from ...models.segmenter import Segmenter
from ...models.settings import ChosenBy
from ..distributed import World
from ..settings import TrainerSettings
from . import adversarial, consistency
from .adversarial import AdversarialSettings
from .adversarial_step import Adversarial
from .consistency import ConsistencySettings
from .consistency_step import Consistency
from .method import Method
from .supervised import Supervised, SupervisedSettings

MethodSettings = Annotated[AdversarialSettings | ConsistencySettings | SupervisedSettings, ChosenBy("name")]


def variants(settings: MethodSettings) -> Mapping[str, MethodSettings]:
    """What a method is compared with on the same labels and steps, by name: none, its ablations, itself, and others."""
    known: dict[str, MethodSettings] = {"supervised": SupervisedSettings()}
    match settings:
        case AdversarialSettings():
            own = {name: replace(settings, **fields) for name, fields in adversarial.ABLATIONS.items()}
        case ConsistencySettings():
            own = {"semi": settings}
        case SupervisedSettings():
            return known
    shared = settings.lambda_adv, settings.discriminator, settings.discriminator_optimizer
    return {**known, **own, **consistency.variants(*shared)}


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
    like = next(segmenter.parameters())

    def critic(shape: DiscriminatorSettings) -> Discriminator:
        return build_discriminator(shape, classes).to(like.device, like.dtype)

    match settings:
        case ConsistencySettings() if settings.lambda_semi > 0:
            discriminator = critic(settings.discriminator) if settings.lambda_adv > 0 else None
            return Consistency(settings, trainer, segmenter, discriminator, ignore_index=ignore_index, world=world)
        case ConsistencySettings() if settings.lambda_adv > 0:
            labelled = AdversarialSettings(
                lambda_adv=settings.lambda_adv,
                lambda_semi_adv=0.0,
                lambda_semi=0.0,
                discriminator=settings.discriminator,
                discriminator_optimizer=settings.discriminator_optimizer,
            )
            return build_method(labelled, trainer, segmenter, classes=classes, ignore_index=ignore_index, world=world)
        case AdversarialSettings() if settings.uses_discriminator:
            discriminator = critic(settings.discriminator)
            return Adversarial(settings, trainer, segmenter, discriminator, ignore_index=ignore_index, world=world)
        case AdversarialSettings() | ConsistencySettings() | SupervisedSettings():
            return Supervised(trainer, segmenter, ignore_index=ignore_index, world=world)
