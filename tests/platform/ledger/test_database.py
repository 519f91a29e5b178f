import gc
import json
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.samplers import TPESampler
from optuna.storages import RDBStorage
from optuna.trial import TrialState
from sqlalchemy import Column, Integer, MetaData, Table, create_engine, inspect, select, text
from sqlalchemy.exc import OperationalError

from advseg.platform.ledger import database, schema
from advseg.platform.ledger.database import open_database
from advseg.platform.ledger.ledger import Ledger
from advseg.platform.ledger.reading import abandoned_sweeps, read_spec, read_sweep
from advseg.platform.ledger.samplers import seed_of
from advseg.platform.ledger.schema import ACCOUNTS, BASELINES, MIGRATIONS, OWNERS, SCHEMA, migrate, schema_version
from advseg.platform.ledger.sweep_id import SWEEP_ID
from advseg.platform.spec.ledger_address import database_url
from advseg.platform.spec.spec import Spec
from advseg.platform.workers.account import Account
from advseg.trainers.errors import UserError

from ..conftest import GONE, writing

MakeSpec = Callable[..., Spec]
Opened = Callable[..., Ledger]

on_both = pytest.mark.parametrize("ledger_address", ["sqlite", "new postgresql"], indirect=True)
OPTIONS = (
    "sweep.trials=8",
    "sweep.sampler={name: tpe, startup_trials: 3}",
    "sweep.first=[{method.lambda_adv: 0.5, method.threshold: 0.25}]",
)


class Version0:
    """What advseg did before it had a schema of its own: Optuna's tables, and of the spec its digest alone."""

    def __init__(self, storage: Path, spec: Spec) -> None:
        storage.mkdir(exist_ok=True)
        self.study = optuna.create_study(
            study_name=spec.name, storage=database_url(storage, None), direction="maximize"
        )
        self._spec = spec
        assert spec.sweep
        for point in spec.sweep.first:
            self.study.enqueue_trial(dict(point), skip_if_exists=True)
        self.study.set_user_attr("advseg.spec_digest", spec.digest())

    def propose(self) -> dict[str, float]:
        assert self._spec.sweep
        number = sum(trial.state is not TrialState.WAITING for trial in self.study.trials)
        self.study.sampler = TPESampler(seed=seed_of(self._spec.trainer.seed, number), n_startup_trials=3)
        space = {key: FloatDistribution(r.low, r.high, log=r.log) for key, r in sorted(self._spec.sweep.space.items())}
        return self.study.ask(space).params

    def complete(self, number: int, value: float) -> None:
        trial = self.study.trials[number]
        self.study._storage.set_trial_intermediate_value(trial._trial_id, 8, value)
        self.study.tell(number, value)

    def fail(self, number: int, reason: str) -> None:
        trial = self.study.trials[number]
        self.study._storage.set_trial_user_attr(trial._trial_id, "advseg.reason", reason)
        self.study.tell(number, state=TrialState.FAIL)


def as_version_2_had_it(database: RDBStorage) -> None:
    """Put our tables back to what they were before sweeps had ids."""
    with database.engine.begin() as connection:
        ids = {study.user_attrs[SWEEP_ID]: study._study_id for study in database.get_all_studies()}
        for table in (OWNERS, ACCOUNTS, BASELINES):
            rows = connection.execute(table.select()).mappings().all()
            table.drop(connection)
            later = ("sweep_id", "checksum", "images_per_second")
            columns = [column for column in table.columns if column.name not in later]
            old = Table(
                table.name,
                MetaData(),
                Column("study_id", Integer, primary_key=True),
                *(Column(c.name, c.type, primary_key=c.primary_key, nullable=c.nullable) for c in columns),
            )
            old.create(connection)
            for row in rows:
                held = {column.name: row[column.name] for column in columns}
                connection.execute(old.insert().values(study_id=ids[row["sweep_id"]], **held))
        connection.execute(text("DELETE FROM study_user_attributes WHERE key = :key"), {"key": SWEEP_ID})
        connection.execute(SCHEMA.update().values(version=2))


def value_of(number: int) -> float:
    return number * 7 % 5


class TestVersion0:
    @staticmethod
    def interrupted(storage: Path, spec: Spec) -> Version0:
        """Trials 0, 1 and 3 are complete, 2 failed, and 4 was running."""
        old = Version0(storage, spec)
        for number in range(5):
            old.propose()
            if number == 2:
                old.fail(2, "diverged: loss/ce")
            elif number < 4:
                old.complete(number, value_of(number))
        return old

    def test_is_refused_and_left_as_it_is(self, make_spec: MakeSpec, opened: Opened, tmp_path: Path) -> None:
        self.interrupted(tmp_path, make_spec(*OPTIONS))
        before = read_sweep(tmp_path, "probe").rows
        with pytest.raises(UserError, match=r"begun by a version of advseg whose specs .* --set name=probe-2"):
            opened(make_spec(*OPTIONS))
        with pytest.raises(UserError, match="sweep probe was begun by an older version of advseg"):
            read_spec(tmp_path, "probe")
        assert read_sweep(tmp_path, "probe").rows == before

    def test_is_read_as_it_is(self, make_spec: MakeSpec, tmp_path: Path) -> None:
        self.interrupted(tmp_path, make_spec(*OPTIONS))
        assert [row.number for row in read_sweep(tmp_path, "probe").rows] == [0, 1, 2, 3, 4]


class TestSpecOfAnOlderVersion:
    """Whose keys have moved since."""

    @pytest.fixture
    def left(self, make_spec: MakeSpec, opened: Opened, tmp_path: Path) -> Spec:
        spec = make_spec()
        ledger = opened(spec)
        ledger.propose()
        ledger.close()
        with writing(tmp_path, None) as database:
            study = optuna.load_study(study_name="probe", storage=database)
            document = study.user_attrs["advseg.spec"]
            method = document.pop("method")
            document["discriminator"] = method["discriminator"]
            document["trainer"]["threshold"] = method["threshold"]
            study.set_user_attr("advseg.spec", document)
        return spec

    def test_is_told_by_where_its_keys_are_now_and_stays(self, left: Spec, opened: Opened, tmp_path: Path) -> None:
        for use in (lambda: opened(left), lambda: read_spec(tmp_path, "probe")):
            with pytest.raises(UserError) as caught:
                use()
            assert "discriminator is method.discriminator now" in str(caught.value)
            assert "trainer.threshold is method.threshold now" in str(caught.value)
            assert "go on with the version that wrote it" in str(caught.value)
            assert "\n" not in str(caught.value)
        record = read_sweep(tmp_path, "probe")
        assert (len(record.rows), record.spec) == (1, None)


def test_a_new_ledger_is_for_its_owners_eyes_alone(make_spec: MakeSpec, opened: Opened, tmp_path: Path) -> None:
    opened(make_spec())
    assert (tmp_path / "ledger.db").stat().st_mode & 0o777 == 0o600


class TestSchema:
    @on_both
    def test_of_a_new_database_is_the_newest(self, tmp_path: Path, ledger_address: str | None) -> None:
        with writing(tmp_path, ledger_address) as new, new.engine.connect() as connection:
            assert schema_version(connection) == len(MIGRATIONS)

    @on_both
    def test_that_is_newer_still_is_refused_in_words(
        self, make_spec: MakeSpec, opened: Opened, tmp_path: Path, ledger_address: str | None
    ) -> None:
        opened(make_spec())
        with writing(tmp_path, ledger_address) as new, new.engine.begin() as connection:
            connection.execute(SCHEMA.update().values(version=99))
        refusal = (
            f"the ledger has schema version 99, but this advseg knows {len(MIGRATIONS)} at most: "
            f"install the version of advseg that wrote it"
        )
        for use in (lambda: opened(make_spec()), lambda: read_sweep(tmp_path, "probe", ledger_address).rows):
            with pytest.raises(UserError) as caught:
                use()
            assert str(caught.value) == refusal

    def test_is_brought_forwards_step_by_step_and_once(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        steps: list[int] = []
        with writing(tmp_path, None) as new, new.engine.begin() as connection:
            more = (*MIGRATIONS, lambda _: steps.append(1), lambda _: steps.append(2))
            monkeypatch.setattr(schema, "MIGRATIONS", more)
            for _ in range(2):
                migrate(connection)
            assert schema_version(connection) == len(more)
        assert steps == [1, 2]

    @pytest.mark.parametrize("statement", range(4))
    def test_is_completed_after_a_crash_in_the_middle(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, statement: int
    ) -> None:
        """SQLite makes tables one by one, outside of any transaction."""
        engine = create_engine(database_url(tmp_path, None))
        wanted = ["advseg_owners", "advseg_accounts", "advseg_schema"][:statement]
        with engine.begin() as connection:
            for name in wanted:
                SCHEMA.metadata.tables[name].create(connection)
        with writing(tmp_path, None) as new:
            assert {"advseg_owners", "advseg_accounts", "advseg_schema"} <= set(inspect(new.engine).get_table_names())
            with new.engine.connect() as connection:
                assert schema_version(connection) == len(MIGRATIONS)
        engine.dispose()

    # Those who come too late lose connections that Optuna leaves to the garbage collector.
    @pytest.mark.filterwarnings("ignore:Exception ignored in. .*BaseConnection:pytest.PytestUnraisableExceptionWarning")
    @on_both
    def test_is_made_by_several_processes_at_the_same_moment(self, tmp_path: Path, ledger_address: str | None) -> None:
        openers = 4
        ready, failures = threading.Barrier(openers), []

        def open_it() -> None:
            ready.wait()
            try:
                with writing(tmp_path, ledger_address):
                    pass
            except UserError as error:
                failures.append(error)

        threads = [threading.Thread(target=open_it) for _ in range(openers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        gc.collect()
        assert failures == []

    @on_both
    def test_of_version_2_has_its_rows_under_the_ids_of_sweeps(
        self, make_spec: MakeSpec, opened: Opened, tmp_path: Path, ledger_address: str | None
    ) -> None:
        for name in ("deleted", "probe"):
            ledger = opened(make_spec(f"name={name}"))
            ledger.propose()
            ledger.note(0, Account(attempts=2, lost=1, device_seconds=1.5, run_id="run", checkpoint="probe/0"))
            ledger.hold_baseline(replace(ledger.baseline(), state=TrialState.COMPLETE, curve={8: 40.0}))
            ledger.close()
        before = read_sweep(tmp_path, "probe", ledger_address)
        with writing(tmp_path, ledger_address) as left:
            ids = {name: left.get_study_id_from_name(name) for name in ("deleted", "probe")}
            as_version_2_had_it(left)
            left.delete_study(ids["deleted"])
        after = opened(make_spec())
        assert (after.rows(), after.baseline()) == (before.rows, before.baseline)
        assert after.ownership.epoch == 2
        after.note(0, Account(checksum="c"))
        assert after.row(0).account == Account(checksum="c")
        with writing(tmp_path, ledger_address) as new, new.engine.connect() as connection:
            for table in (OWNERS, ACCOUNTS, BASELINES):
                kept = set(connection.execute(select(table.c.sweep_id)).scalars())
                assert kept == {new.get_study_user_attrs(ids["probe"])[SWEEP_ID]}

    @on_both
    def test_of_version_5_knows_how_fast_trainings_go_from_then_on(
        self, make_spec: MakeSpec, opened: Opened, tmp_path: Path, ledger_address: str | None
    ) -> None:
        account = Account(attempts=2, device_seconds=1.5, checksum="c")
        ledger = opened(make_spec())
        ledger.propose()
        ledger.note(0, account)
        ledger.close()
        with writing(tmp_path, ledger_address) as left, left.engine.begin() as connection:
            connection.execute(text("ALTER TABLE advseg_accounts DROP COLUMN images_per_second"))
            connection.execute(SCHEMA.update().values(version=5))
        assert read_sweep(tmp_path, "probe", ledger_address).rows[0].account == account
        after = opened(make_spec())
        assert after.row(0).account == account
        after.note(0, replace(account, images_per_second=31.4))
        assert after.row(0).account.images_per_second == 31.4

    @on_both
    def test_of_version_2_is_read_as_it_is(
        self, make_spec: MakeSpec, opened: Opened, tmp_path: Path, ledger_address: str | None
    ) -> None:
        ledger = opened(make_spec())
        ledger.propose()
        ledger.note(0, Account(attempts=2, lost=1, device_seconds=1.5))
        ledger.hold_baseline(replace(ledger.baseline(), state=TrialState.COMPLETE, curve={8: 40.0}))
        before = read_sweep(tmp_path, "probe", ledger_address)
        ledger.close()
        killed = {"job": "", "host": GONE.host, "pid": GONE.pid, "created": GONE.created}
        with writing(tmp_path, ledger_address) as left:
            as_version_2_had_it(left)
            with left.engine.begin() as connection:
                connection.execute(text("UPDATE advseg_owners SET owner = :owner"), {"owner": json.dumps(killed)})
        assert read_sweep(tmp_path, "probe", ledger_address) == before
        assert abandoned_sweeps(tmp_path, ledger_address) == ["probe"]
        engine = create_engine(database_url(tmp_path, ledger_address))
        with engine.connect() as connection:
            assert schema_version(connection) == 2
        with engine.begin() as connection:
            connection.execute(text("DELETE FROM advseg_owners"))  # Nobody waits for a sign of life of nobody.
        engine.dispose()
        assert opened(make_spec()).baseline() == before.baseline

    @on_both
    def test_is_as_it_was_after_a_crash_while_it_was_changed(
        self,
        make_spec: MakeSpec,
        opened: Opened,
        tmp_path: Path,
        ledger_address: str | None,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        opened(make_spec()).close()
        with writing(tmp_path, ledger_address) as left:
            as_version_2_had_it(left)

        def crash(_: Any) -> None:
            pytest.exit("crash")

        with monkeypatch.context() as patch:
            patch.setattr(schema, "MIGRATIONS", (*MIGRATIONS, crash))
            with pytest.raises(pytest.exit.Exception):
                open_database(tmp_path, ledger_address)
        engine = create_engine(database_url(tmp_path, ledger_address))
        with engine.connect() as connection:
            assert schema_version(connection) == 2
            assert connection.execute(text("SELECT study_id, epoch FROM advseg_owners")).all() == [(1, 1)]
        engine.dispose()
        assert opened(make_spec()).ownership.epoch == 2

    def test_that_can_never_be_made_is_not_tried_for_ever(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(_: Any) -> None:
            raise OperationalError("create", {}, Exception("table strange already exists"))

        monkeypatch.setattr(database, "migrate", broken)
        monkeypatch.setattr(database, "_TRIES", 3)
        with pytest.raises(UserError, match=r"cannot be read .*strange already exists"):
            open_database(tmp_path, None)


@on_both
def test_optuna_reads_what_we_write(
    make_spec: MakeSpec, opened: Opened, tmp_path: Path, ledger_address: str | None
) -> None:
    """As optuna-dashboard does."""
    ledger = opened(make_spec())
    for number in range(3):
        ledger.propose()
        ledger.report(number, 4, 10.0)
        ledger.report(number, 8, 20.0 + number)
    ledger.finish(0, TrialState.COMPLETE)
    ledger.finish(1, TrialState.PRUNED, "not among the best")
    ledger.note(2, Account(attempts=2))
    rows = ledger.rows()

    storage = optuna.storages.RDBStorage(database_url(tmp_path, ledger_address))
    study = optuna.load_study(study_name="probe", storage=storage)
    assert study.best_trial.number == 0
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "PRUNED", "RUNNING"]
    assert [trial.params for trial in study.trials] == [row.params for row in rows]
    assert study.trials[0].intermediate_values == {4: 10.0, 8: 20.0}
    storage.remove_session()
    storage.engine.dispose()
