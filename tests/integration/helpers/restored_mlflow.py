"""What MLflow holds without a server, made once and brought back for each test.

It stays where it is: MLflow's client remembers where the artifacts of a run lie.
"""

import shutil
import sqlite3
from contextlib import chdir, closing
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlflow.tracking import MlflowClient


class RestoredMlflow:
    """A database and artifacts in a folder."""

    def __init__(self, folder: Path, migrated: Path, fill: "Callable[[MlflowClient], object]") -> None:
        """They are as `fill` leaves them, in a database that was `migrated`."""
        from mlflow.tracking import MlflowClient

        self._database, self._artifacts, self._kept = folder / "mlflow.db", folder / "mlruns", folder / "kept"
        shutil.copy(migrated, self._database)
        # Without a server, new experiments put their artifacts in the working folder.
        with chdir(folder):
            self.client = MlflowClient(f"sqlite:///{self._database}")
            fill(self.client)
        shutil.copytree(self._artifacts, self._kept / "mlruns")
        self._copy(self._database, self._kept / "mlflow.db")

    def restore(self) -> "MlflowClient":
        """A client of it as it was at first."""
        shutil.rmtree(self._artifacts)
        shutil.copytree(self._kept / "mlruns", self._artifacts)
        self._copy(self._kept / "mlflow.db", self._database)
        return self.client

    @staticmethod
    def _copy(database: Path, to: Path) -> None:
        """Also where it is open."""
        with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(to)) as own:
            source.backup(own)
