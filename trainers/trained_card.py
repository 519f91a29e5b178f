"""What the model of a training says of itself."""

from dataclasses import replace
from typing import Any

from ..models.architectures import config_of, normalisation_of
from ..models.card import Card
from .data.dataset import Dataset
from .evaluate import judged_by
from .recipe import Recipe
from .standing import Standing


def trained_card(recipe: Recipe, dataset: Dataset, standing: Standing, lineage: dict[str, Any]) -> Card:
    """The card of a training's segmenter as it stands, with its own lineage beside what is given of it."""
    images = {part: len(samples) for part, samples in dataset.parts.items()}
    begun: dict[str, Any] = {"start_weights": standing.start_weights} if standing.start_weights else {}
    begun |= {"judged_by": judged} if (judged := judged_by(recipe.trainer.evaluation, dataset)) else {}
    begun |= {"grown": standing.grown} if standing.grown else {}
    return Card(
        segmenter=replace(recipe.segmenter, weights=None),
        discriminator=None,
        config=config_of(recipe.segmenter),
        classes=dataset.classes,
        palette=dataset.palette,
        ignore_index=dataset.ignore_index,
        normalisation=normalisation_of(recipe.segmenter),
        decoding=dataset.decoding,
        resize=recipe.trainer.resize,
        metrics=standing.metrics,
        lineage={**lineage, **begun, "step": standing.step, "dataset_digest": dataset.digest, "images": images},
    )
