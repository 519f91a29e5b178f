"""The trainings of a book from first to last: run, told of, and their MLflow runs settled as they end."""

from contextlib import closing

from mlflow.tracking import MlflowClient

from ..base.events import TrialUpdate, emit
from ..spec.spec import Spec
from ..storage.store import Store
from .attempts import Attempts
from .book import Book
from .settler import Settler
from .tasks import SweepTasks
from .trials import run_trials


def run_book(client: MlflowClient, book: Book, spec: Spec, store: Store, concurrency: int, tasks: SweepTasks) -> None:
    """Run what is unfinished in a book and what it proposes, so many at a time. Raises what `run_trials` raises."""
    with closing(Settler(client, book, tasks)) as settler:

        def tell(update: TrialUpdate) -> None:
            emit(update)
            settler.hear(update)

        run_trials(spec, book, Attempts(book, spec, store, concurrency, tell), store, concurrency, tasks)
