"""The dataset of a job, as its trainings will open it."""

from ...trainers.errors import UserError
from ..spec.packed import unfit_sizes
from ..spec.spec import Spec
from ..storage.packs import open_dataset


def digest_of(spec: Spec) -> str:
    """Its digest. Raises what opening it raises, and UserError if images in a pack are not of the trainings' sizes."""
    dataset = open_dataset(spec.dataset)
    if unfit := [str(problem) for problem in unfit_sizes(spec, dataset.resized)]:
        raise UserError("; ".join(unfit))
    return dataset.digest
