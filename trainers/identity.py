"""What a checkpoint must share with the run that resumes from it."""

import json
from dataclasses import asdict
from typing import Any

from ..models.settings import Settings
from .data.dataset import Dataset
from .data.streams import DRAWS


def identity_of(recipe: Settings, dataset: Dataset) -> dict[str, Any]:
    """All that determines the weights at the end, as JSON."""
    data = {"classes": len(dataset.classes), "digest": dataset.digest, "draws": DRAWS}
    identity = json.loads(json.dumps({"dataset": data, **asdict(recipe)}))
    # A run that it stopped is one that may go on with more of it.
    del identity["trainer"]["collapse_patience"]
    del identity["trainer"]["speed"]["prefetch"]
    return identity
