import fcntl
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
import pytest
from answering import answering

from advseg.platform.base.mlflow_account import log_in
from advseg.platform.base.processes import ProcessIdentity, end, is_alive, launch
from advseg.platform.services.belonging import is_running, is_temp_dir, make_temp_dir, members, remove_temp_dir
from advseg.platform.services.connection import Services, ServicesDownError, connect
from advseg.platform.services.launching import stop
from advseg.platform.services.mlflow_accounts import accounts_database, ensure_secret, password_path, prepare_account
from advseg.platform.services.ports import choose_port, is_free
from advseg.platform.services.records import ServiceRecord, read_records, records_path, write_records
from advseg.platform.services.servers import (
    MLFLOW,
    RAY,
    RayPorts,
    database_url,
    folder,
    mlflow_server,
    ray_head,
    ray_temp_dir,
)
from advseg.platform.services.services import down, up
from advseg.platform.services.state import ServiceState, status
from advseg.trainers.errors import UserError


@pytest.fixture(autouse=True)
def no_other_services(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ADVSEG_HOME", "RAY_ADDRESS", "RAY_AUTH_TOKEN_PATH", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def said() -> list[str]:
    return []


def identity_of(pid: int) -> ProcessIdentity:
    return ProcessIdentity(pid=pid, created=psutil.Process(pid).create_time() - psutil.boot_time())


def record_of(identity: ProcessIdentity, *, port: int = 5000) -> ServiceRecord:
    return ServiceRecord(
        pid=identity.pid,
        created=identity.created,
        port=port,
        temp_dir=Path("/nowhere/advseg-abcdefgh"),
    )


PORTS = {MLFLOW: 5000, RAY: 8265}
SLEEP = "import time; print('up', flush=True); time.sleep(1000)"
StandIn = Callable[..., ServiceRecord]


@pytest.fixture
def stand_in() -> Iterator[StandIn]:
    """Launches a process in a service's place, noted as such, and ends it after the test."""
    started: list[tuple[Path, str, ServiceRecord]] = []

    def begin(home: Path, name: str, code: str = SLEEP, *, accounts: bool = False) -> ServiceRecord:
        place = folder(home, name)
        place.mkdir(parents=True, exist_ok=True)
        temp_dir, log = make_temp_dir(home), place / "log"
        named = database_url(home) if name == MLFLOW else str(ray_temp_dir(temp_dir))
        environment = {**os.environ, "TMPDIR": str(temp_dir)}
        process = launch([sys.executable, "-c", code, named], environment=environment, folder=place, log=log)
        record = replace(record_of(process, port=PORTS[name]), temp_dir=temp_dir, accounts=accounts)
        started.append((home, name, record))
        while not log.read_text().endswith("\n"):
            assert is_alive(process), "it ended before it was ready"
        return record

    yield begin
    for home, name, record in started:
        stop(home, {name: record}, grace_s=0)


OURS = identity_of(os.getpid())
STRANGER = replace(OURS, created=OURS.created - 100)  # our pid, as an earlier process had it


@contextmanager
def serving(answers: dict[str, tuple[int, object]]) -> Iterator[int]:
    """A server with an answer in JSON for each path; its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, content = answers[self.path]
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(content).encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    with answering(server):
        yield server.server_port


def alive(identity: ProcessIdentity) -> set[psutil.Process]:
    return {psutil.Process(identity.pid)} if is_alive(identity) else set()


class TestPorts:
    def test_a_listened_to_port_is_not_free(self) -> None:
        with socket.socket() as server:
            server.bind(("127.0.0.1", 0))
            server.listen()
            port = server.getsockname()[1]
            assert not is_free(port)
        assert is_free(port)

    def test_a_port_of_all_interfaces_is_not_free(self) -> None:
        with socket.socket() as server:
            server.bind(("0.0.0.0", 0))
            server.listen()
            assert not is_free(server.getsockname()[1])

    def test_a_taken_port_that_was_asked_for_is_an_error_of_one_line(self) -> None:
        with pytest.raises(UserError) as error:
            choose_port(option="--mlflow-port", asked=5000, free=lambda port: False)
        assert str(error.value) == (
            "port 5000 is taken, and the port that --mlflow-port asks for must be free: "
            "name another, or leave --mlflow-port out to have a free one chosen"
        )

    @pytest.mark.parametrize("port", [-1, 0, 80, 65_536])
    def test_an_asked_port_outside_the_range_is_an_error(self, port: int) -> None:
        with pytest.raises(UserError, match=rf"must be in \[1024, 65535\], but got {port}"):
            choose_port(option="--mlflow-port", asked=port, free=lambda port: True)

    @pytest.mark.parametrize(("taken", "chosen"), [(set(), 7000), ({7000}, 5000)])
    def test_the_first_free_preferred_port_is_chosen(self, taken: set[int], chosen: int) -> None:
        port = choose_port(option="", asked=None, preferred=(7000, 5000), free=lambda port: port not in taken)
        assert port == chosen

    def test_any_other_port_is_chosen_when_the_preferred_ones_are_taken_or_promised(self) -> None:
        port = choose_port(option="", asked=None, preferred=(7000, 5000), avoid={7000}, free=lambda port: port != 5000)
        assert port in range(20_000, 32_000)


class TestRecords:
    def test_come_back_as_they_were_written(self, tmp_path: Path) -> None:
        records = {"mlflow": record_of(OURS), "ray": replace(record_of(STRANGER), gcs_address="127.0.0.1:1")}
        write_records(tmp_path, records)
        assert read_records(tmp_path) == records
        assert [path.name for path in tmp_path.iterdir()] == ["services.json"]

    def test_are_none_without_a_file(self, tmp_path: Path) -> None:
        assert read_records(tmp_path) == {}

    def test_leave_no_file_when_there_are_none(self, tmp_path: Path) -> None:
        write_records(tmp_path, {"mlflow": record_of(OURS)})
        write_records(tmp_path, {})
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        "content",
        ["{", "[]", "{}", '{"format": 2}', '{"format": 1, "services": {"mlflow": {"pid": 1}}}', "[" * 100_000, "\0"],
    )
    def test_that_cannot_be_read_name_the_file(self, tmp_path: Path, content: str) -> None:
        records_path(tmp_path).write_text(content)
        with pytest.raises(UserError, match=r"services\.json cannot be read .* delete the file"):
            read_records(tmp_path)

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            *(("pid", value) for value in (1, 0, -1, True, "7", 7.0, None, 10**30)),
            *(("created", value) for value in (0, -5.0, "soon", True, float("nan"), float("inf"), 10**400)),
            *(("port", value) for value in (80, 10**6, "5000")),
            ("temp_dir", None),
            ("gcs_address", 5),
            ("accounts", "yes"),
        ],
    )
    def test_of_what_no_service_is_are_one_line(self, tmp_path: Path, key: str, value: object) -> None:
        write_records(tmp_path, {"mlflow": record_of(OURS)})
        content = json.loads(records_path(tmp_path).read_text())
        content["services"]["mlflow"][key] = value
        records_path(tmp_path).write_text(json.dumps(content))
        with pytest.raises(UserError, match=rf"services\.json cannot be read .*{key} cannot be") as error:
            read_records(tmp_path)
        assert "\n" not in str(error.value)

    def test_of_an_unknown_service_are_an_error(self, tmp_path: Path) -> None:
        records_path(tmp_path).write_text('{"format": 1, "services": {"sshd": {}}}')
        with pytest.raises(UserError, match="there is no service 'sshd'"):
            read_records(tmp_path)

    def test_of_an_older_version_are_read(self, tmp_path: Path) -> None:
        noted = {"pid": 7, "created": 1.5, "port": 5000, "url": "http://evil.example.org", "log": "/etc/shadow"}
        content = {"format": 1, "services": {"mlflow": {**noted, "temp_dir": "/tmp/advseg-x", "gcs_address": None}}}
        records_path(tmp_path).write_text(json.dumps(content))
        [record] = read_records(tmp_path).values()
        assert (record.url, record.accounts) == ("http://127.0.0.1:5000", False)


class TestProcesses:
    @pytest.fixture
    def begin(self, tmp_path: Path) -> Iterator[Callable[[str], ProcessIdentity]]:
        """Launches Python code, returns once that has printed a line, and ends it after the test."""
        started: list[ProcessIdentity] = []

        def begin(code: str) -> ProcessIdentity:
            log = tmp_path / f"{len(started)}.log"
            environment = {**os.environ, "TMPDIR": str(tmp_path)}
            argv = [sys.executable, "-c", code]
            started.append(launch(argv, environment=environment, folder=tmp_path, log=log))
            while not log.read_text().endswith("\n"):
                assert is_alive(started[-1]), "it ended before it was ready"
            return started[-1]

        yield begin
        for identity in started:
            end(lambda identity=identity: alive(identity), leaders=(), grace_s=0)

    def test_a_later_process_with_the_same_pid_is_not_ours(self) -> None:
        assert is_alive(OURS)
        assert not is_alive(STRANGER)

    def test_an_ended_process_is_not_alive(self, begin: Callable[[str], ProcessIdentity]) -> None:
        first = begin("import time; print('up', flush=True); time.sleep(1000)")
        assert is_alive(first)
        psutil.Process(first.pid).kill()
        psutil.Process(first.pid).wait()
        assert not is_alive(first)

    def test_who_ignores_sigterm_is_killed_after_the_grace(
        self, begin: Callable[[str], ProcessIdentity], tmp_path: Path
    ) -> None:
        first = begin(
            "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True)\ntime.sleep(1000)"
        )
        end(lambda: alive(first), leaders={first.pid}, grace_s=0.2)
        assert not is_alive(first)

    def test_what_it_writes_is_for_its_users_eyes_alone(
        self, begin: Callable[[str], ProcessIdentity], tmp_path: Path
    ) -> None:
        begin(f"open('written', 'w').close(); import os; os.mkdir('made'); {SLEEP}")
        modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
        assert modes == {"written": 0o600, "made": 0o700, "0.log": 0o600}


class TestBelonging:
    """What is noted of a service may be wrong, or written by somebody who wants us to end or delete something."""

    def test_a_service_that_runs_is_ours(self, tmp_path: Path, stand_in: StandIn) -> None:
        record = stand_in(tmp_path, RAY)
        assert is_running(tmp_path, RAY, record)
        assert {process.pid for process in members(tmp_path, RAY, record)} == {record.pid}

    def test_a_process_of_another_start_time_home_service_or_folder_is_not(
        self, tmp_path: Path, stand_in: StandIn
    ) -> None:
        record = stand_in(tmp_path / "theirs", RAY)
        (tmp_path / "ours").mkdir()
        for home, name, noted in (
            (tmp_path / "theirs", RAY, replace(record, created=record.created - 100)),
            (tmp_path / "theirs", MLFLOW, record),
            (tmp_path / "ours", RAY, record),
            (tmp_path / "theirs", RAY, replace(record, temp_dir=make_temp_dir(tmp_path / "ours"))),
        ):
            assert not is_running(home, name, noted)
            if noted.created == record.created and name == RAY:
                assert members(home, name, noted) == set()
            remove_temp_dir(noted.temp_dir, tmp_path / "ours")
        assert is_alive(record.process)

    def test_a_process_of_another_user_is_not(
        self, tmp_path: Path, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        record = stand_in(tmp_path, RAY)
        user = os.getuid()
        with monkeypatch.context() as patch:
            patch.setattr(os, "getuid", lambda: user + 1)
            assert not is_running(tmp_path, RAY, record)
            assert members(tmp_path, RAY, record) == set()

    def test_the_caller_and_whom_it_began_are_not(self, tmp_path: Path) -> None:
        with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
            assert members(tmp_path, RAY, record_of(OURS)) == set()
            assert members(tmp_path, RAY, record_of(identity_of(child.pid))) == set()
            child.communicate(b"\n")

    def test_survivors_of_a_killed_process_are_ended_even_in_sessions_of_their_own(
        self, tmp_path: Path, stand_in: StandIn
    ) -> None:
        record = stand_in(
            tmp_path,
            RAY,
            "import os, subprocess, sys, time\n"
            f"near = subprocess.Popen([sys.executable, '-c', {SLEEP!r}], env={{}})\n"
            f"far = subprocess.Popen([sys.executable, '-c', {SLEEP!r}], start_new_session=True)\n"
            f"also = subprocess.Popen([sys.executable, '-c', {SLEEP!r}])\n"
            "print(near.pid, far.pid, also.pid, flush=True)\n"
            "time.sleep(1000)",
        )
        log = folder(tmp_path, RAY) / "log"
        children = {int(word) for word in log.read_text().split() if word.isdigit()}
        began = [identity_of(pid) for pid in children]
        psutil.Process(record.pid).kill()
        psutil.Process(record.pid).wait()
        assert not is_running(tmp_path, RAY, record)
        assert {process.pid for process in members(tmp_path, RAY, record)} == children

        stop(tmp_path, {RAY: record})

        assert members(tmp_path, RAY, record) == set()
        assert [child for child in began if is_alive(child)] == []
        assert not record.temp_dir.exists()

    def test_the_first_process_is_left_to_end_those_of_its_session(self, tmp_path: Path, stand_in: StandIn) -> None:
        child = "import signal, time; signal.signal(signal.SIGTERM, lambda *_: print('told')); time.sleep(1000)"
        record = stand_in(
            tmp_path,
            RAY,
            "import signal, subprocess, sys, time\n"
            f"child = subprocess.Popen([sys.executable, '-u', '-c', {child!r}])\n"
            "def stop(*_):\n"
            "    child.kill(); child.wait(); print('in order', flush=True); sys.exit()\n"
            "signal.signal(signal.SIGTERM, stop); print('up', flush=True); time.sleep(1000)",
        )
        stop(tmp_path, {RAY: record})
        assert (folder(tmp_path, RAY) / "log").read_text().split("\n") == ["up", "in order", ""]

    def test_a_folder_that_is_not_a_services_is_not_removed(self, tmp_path: Path) -> None:
        precious = tmp_path / "advseg-precious"
        precious.mkdir()
        (precious / "home").write_text(str(tmp_path))
        link = Path(f"{make_temp_dir(tmp_path)}-link")
        target = Path(str(link).removesuffix("-link"))
        link.symlink_to(target)
        unmarked = Path(tempfile.mkdtemp(prefix="advseg-", dir="/tmp"))
        theirs = make_temp_dir(tmp_path / "other")
        try:
            for folder in (precious, link, unmarked, theirs, Path("/tmp"), Path("/tmp/advseg-absent"), target / ".."):
                assert not is_temp_dir(folder, tmp_path)
                remove_temp_dir(folder, tmp_path)
            assert all(folder.exists() for folder in (precious, link, unmarked, theirs, target))
            remove_temp_dir(target, tmp_path)
            assert not target.exists()
        finally:
            link.unlink()
            unmarked.rmdir()
            remove_temp_dir(theirs, tmp_path / "other")


class TestServers:
    AMBIENT = {  # noqa: RUF012
        "HOME": "/home/someone",
        "MLFLOW_REGISTRY_STORE_URI": "sqlite:///another.db",
        "MLFLOW_RUN_ID": "0123",
        "MLFLOW_TRACKING_URI": "http://elsewhere",
        "PATH": "/usr/bin",
        "RAY_ADDRESS": "http://elsewhere",
        "RAY_AUTH_TOKEN": "another",
        "RAY_TMPDIR": "/elsewhere",
    }
    HOME = Path("/project/.advseg")
    TEMP_DIR = Path("/tmp/advseg-abcdefgh")

    def test_mlflow_is_configured_here_alone(self) -> None:
        server = mlflow_server(self.HOME, port=5000, temp_dir=self.TEMP_DIR, environment=self.AMBIENT, accounts=False)
        assert server.url == "http://127.0.0.1:5000"
        assert "sqlite:////project/.advseg/mlflow/mlflow.db" in server.argv
        assert server.environment == {
            "HOME": "/home/someone",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "PATH": f"{Path(sys.executable).parent}:/usr/bin",
            "TMPDIR": "/tmp/advseg-abcdefgh",
        }

    def test_mlflow_asks_for_an_account_unless_it_is_told_not_to(self) -> None:
        server = mlflow_server(self.HOME, port=5000, temp_dir=self.TEMP_DIR, environment=self.AMBIENT)
        assert server.argv[-2:] == ["--app-name", "basic-auth"]
        assert server.environment["MLFLOW_AUTH_CONFIG_PATH"] == "/project/.advseg/mlflow/accounts.ini"

    def test_ray_is_reachable_from_this_machine_with_a_token_only(self) -> None:
        ports = RayPorts(dashboard=1, gcs=2, client_server=3, dashboard_metrics=4, autoscaler_metrics=5)
        server = ray_head(self.HOME, ports=ports, cpus=7, temp_dir=self.TEMP_DIR, environment=self.AMBIENT)
        assert (server.url, server.gcs_address) == ("http://127.0.0.1:1", "127.0.0.1:2")
        assert server.environment["RAY_AUTH_MODE"] == "token"
        assert server.environment["RAY_AUTH_TOKEN_PATH"] == "/project/.advseg/ray/token"
        assert server.environment["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] == "0"
        left = {name for name in self.AMBIENT if name in server.environment}
        assert left == {"HOME", "PATH"}

    def test_a_secret_is_made_once_and_readable_by_its_owner_only(self, tmp_path: Path) -> None:
        path = tmp_path / "token"
        secret = ensure_secret(path)
        assert len(secret) == 64
        assert path.stat().st_mode & 0o777 == 0o600
        path.chmod(0o644)
        assert ensure_secret(path) == path.read_text() == secret
        assert path.stat().st_mode & 0o777 == 0o600

    def test_accounts_of_a_lost_password_are_begun_anew(self, tmp_path: Path) -> None:
        prepare_account(tmp_path, "http://127.0.0.1:5000")
        accounts_database(tmp_path).touch()
        prepare_account(tmp_path, "http://127.0.0.1:5000")
        assert accounts_database(tmp_path).exists()
        password_path(tmp_path).write_text("")
        prepare_account(tmp_path, "http://127.0.0.1:5000")
        assert not accounts_database(tmp_path).exists()


class TestStatus:
    def test_nothing_noted_is_down(self, tmp_path: Path) -> None:
        assert [(each.name, each.state, each.url, each.pid) for each in status(tmp_path)] == [
            ("mlflow", ServiceState.DOWN, None, None),
            ("ray", ServiceState.DOWN, None, None),
        ]

    @pytest.mark.parametrize(
        ("nodes", "jobs", "state"),
        [
            (["ALIVE", "DEAD"], 200, ServiceState.RUNNING),
            (["DEAD"], 200, ServiceState.SILENT),
            ([], 200, ServiceState.SILENT),
            (["ALIVE"], 500, ServiceState.SILENT),
        ],
    )
    def test_a_cluster_runs_if_it_answers_and_has_a_node(
        self, tmp_path: Path, stand_in: StandIn, nodes: list[str], jobs: int, state: ServiceState
    ) -> None:
        listed = {"data": {"result": {"result": [{"state": each} for each in nodes]}}}
        answers = {
            "/api/version": (200, {"ray_version": "2"}),
            "/api/jobs/": (jobs, []),
            "/api/v0/nodes": (200, listed),
        }
        folder(tmp_path, RAY).mkdir()
        ensure_secret(folder(tmp_path, RAY) / "token")
        with serving(answers) as port:
            write_records(tmp_path, {"ray": replace(stand_in(tmp_path, RAY), port=port)})
            assert [each.state for each in status(tmp_path)] == [ServiceState.DOWN, state]

    def test_a_noted_service_is_silent_or_dead(self, tmp_path: Path, stand_in: StandIn) -> None:
        silent = replace(stand_in(tmp_path, MLFLOW), port=choose_port(option="", asked=None))
        write_records(tmp_path, {"mlflow": silent, "ray": record_of(STRANGER, port=8265)})
        assert [(each.name, each.state, each.url) for each in status(tmp_path)] == [
            ("mlflow", ServiceState.SILENT, silent.url),
            ("ray", ServiceState.DEAD, "http://127.0.0.1:8265"),
        ]


class TestConnect:
    def test_without_services_says_how_to_start_them(self, tmp_path: Path) -> None:
        with pytest.raises(ServicesDownError) as error:
            connect(tmp_path)
        assert str(error.value) == (
            f"the MLflow server and the Ray head do not run in {tmp_path}: start them with `advseg up`, or name others "
            f"by MLFLOW_TRACKING_URI and RAY_ADDRESS"
        )

    def test_names_only_what_does_not_run(self, tmp_path: Path, stand_in: StandIn) -> None:
        write_records(tmp_path, {"mlflow": stand_in(tmp_path, MLFLOW), "ray": record_of(STRANGER)})
        with pytest.raises(
            ServicesDownError, match=r"^the Ray head does not run in .*: start it .*, or name another by"
        ):
            connect(tmp_path)

    def test_finds_the_local_services(self, tmp_path: Path, stand_in: StandIn) -> None:
        mlflow, ray = stand_in(tmp_path, MLFLOW, accounts=True), stand_in(tmp_path, RAY)
        write_records(tmp_path, {"mlflow": mlflow, "ray": ray})
        assert connect(tmp_path).environment() == {
            "ADVSEG_MLFLOW_PASSWORD_PATH": str(tmp_path / "mlflow" / "password"),
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_TRACKING_URI": "http://127.0.0.1:5000",
            "RAY_ADDRESS": "http://127.0.0.1:8265",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": "",
            "RAY_AUTH_TOKEN_PATH": str(tmp_path / "ray" / "token"),
            "RAY_USAGE_STATS_ENABLED": "0",
        }

    def test_the_environment_wins_over_the_local_services(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stand_in: StandIn
    ) -> None:
        write_records(tmp_path, {"mlflow": stand_in(tmp_path, MLFLOW)})
        monkeypatch.setenv("RAY_ADDRESS", "https://ray.example.org")
        services = connect(tmp_path)
        assert services == Services(
            tracking_uri="http://127.0.0.1:5000", dashboard_url="https://ray.example.org", ray_token_path=None
        )
        assert "RAY_AUTH_MODE" not in services.environment()

    @pytest.mark.parametrize(("mode", "told"), [(None, "token"), ("token", "token"), ("disabled", "disabled")])
    def test_a_token_in_the_environment_is_meant_to_be_shown(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str | None, told: str
    ) -> None:
        monkeypatch.setenv("RAY_ADDRESS", "https://ray.example.org")
        monkeypatch.setenv("RAY_AUTH_TOKEN", "t0ken")
        if mode:
            monkeypatch.setenv("RAY_AUTH_MODE", mode)
        environment = connect(tmp_path, [RAY]).environment()
        assert environment["RAY_AUTH_MODE"] == told
        assert "RAY_AUTH_TOKEN" not in environment

    @pytest.mark.parametrize(
        ("needed", "name", "address"),
        [(MLFLOW, "MLFLOW_TRACKING_URI", "http://10.0.0.2:5000"), (RAY, "RAY_ADDRESS", "http://10.0.0.1:8265")],
    )
    def test_needs_no_other_service_than_the_one_that_is_asked_for(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, needed: str, name: str, address: str
    ) -> None:
        monkeypatch.setenv(name, address)
        environment = connect(tmp_path, [needed]).environment()
        assert environment[name] == address
        assert len({"MLFLOW_TRACKING_URI", "RAY_ADDRESS"} & environment.keys()) == 1

    def test_needs_no_local_services_when_the_environment_names_both(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("RAY_ADDRESS", "http://10.0.0.1:8265")
        monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "/secrets/token")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://10.0.0.2:5000")
        assert connect(tmp_path) == Services(
            tracking_uri="http://10.0.0.2:5000",
            dashboard_url="http://10.0.0.1:8265",
            ray_token_path=Path("/secrets/token"),
        )

    def test_still_needs_the_local_service_that_the_environment_does_not_name(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://10.0.0.2:5000")
        with pytest.raises(ServicesDownError, match=r"^the Ray head does not run in "):
            connect(tmp_path)

    @pytest.mark.parametrize("address", ["auto", "127.0.0.1:6379", "ray://10.0.0.1:10001"])
    def test_refuses_an_address_that_is_not_a_dashboards(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str
    ) -> None:
        monkeypatch.setenv("RAY_ADDRESS", address)
        with pytest.raises(UserError, match=f"^RAY_ADDRESS must be .* but is {address}: "):
            connect(tmp_path)

    def test_a_local_server_named_by_the_environment_has_its_account_and_no_other_server_has(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stand_in: StandIn
    ) -> None:
        mlflow, ray = stand_in(tmp_path, MLFLOW, accounts=True), stand_in(tmp_path, RAY)
        write_records(tmp_path, {"mlflow": mlflow, "ray": ray})
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000/")
        assert connect(tmp_path).mlflow_password_path == tmp_path / "mlflow" / "password"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5001")
        assert connect(tmp_path).environment()["ADVSEG_MLFLOW_PASSWORD_PATH"] == ""

    @pytest.mark.parametrize("name", ["MLFLOW_TRACKING_URI", "RAY_ADDRESS"])
    @pytest.mark.parametrize(
        "address",
        ["localhost:5000", "me:s3cr3tpw@localhost:5000", "http://[::1", "http://host:x", "http://"],
    )
    def test_refuses_what_is_no_address_of_a_server(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, address: str
    ) -> None:
        monkeypatch.setenv(name, address)
        with pytest.raises(UserError, match=rf"^{name} must be the http:// or https:// address of an? ") as error:
            connect(tmp_path)
        assert "s3cr3tpw" not in str(error.value)

    def test_refuses_a_database_that_lies_elsewhere_for_each_process(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///runs.db")
        with pytest.raises(UserError, match=rf"but is sqlite:///runs\.db: set it to sqlite:///{tmp_path}/runs\.db$"):
            connect(tmp_path, [])
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/runs.db")
        assert connect(tmp_path, []).tracking_uri == f"sqlite:///{tmp_path}/runs.db"

    @pytest.mark.parametrize("name", ["MLFLOW_TRACKING_URI", "RAY_ADDRESS"])
    @pytest.mark.parametrize(
        "address",
        [
            "https://me:s3cr3tpw@example.org",
            "http://s3cr3tpw@example.org:80/x",
            "ray://:s3cr3tpw@example.org",
            "postgresql://example.org/db?p%61ssword=s3cr3tpw",
            "http://example.org/?access_token=s3cr3tpw",
        ],
    )
    def test_refuses_an_address_with_a_password_without_showing_it(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, address: str
    ) -> None:
        monkeypatch.setenv(name, address)
        with pytest.raises(
            UserError, match=rf"^{name} must hold no user and no password, .* is \w+://\*\*\*@example"
        ) as error:
            connect(tmp_path)
        assert "s3cr3tpw" not in str(error.value)
        assert "\n" not in str(error.value)


class TestAccount:
    @pytest.fixture(autouse=True)
    def restored(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "somebody")
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "theirs")

    def test_is_read_from_the_file_that_the_environment_names(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "password").write_text("ours\n")
        monkeypatch.setenv("ADVSEG_MLFLOW_PASSWORD_PATH", str(tmp_path / "password"))
        log_in()
        assert (os.environ["MLFLOW_TRACKING_USERNAME"], os.environ["MLFLOW_TRACKING_PASSWORD"]) == ("advseg", "ours")

    @pytest.mark.parametrize("path", ["", "/absent/password"])
    def test_is_the_environments_own_where_there_is_no_file(self, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
        monkeypatch.setenv("ADVSEG_MLFLOW_PASSWORD_PATH", path)
        log_in()
        assert (os.environ["MLFLOW_TRACKING_USERNAME"], os.environ["MLFLOW_TRACKING_PASSWORD"]) == (
            "somebody",
            "theirs",
        )


class TestUpAndDown:
    def test_a_taken_port_starts_nothing(self, tmp_path: Path, said: list[str]) -> None:
        with socket.socket() as server:
            server.bind(("127.0.0.1", 0))
            server.listen()
            port = server.getsockname()[1]
            with pytest.raises(UserError, match=f"port {port} is taken"):
                up(tmp_path, dashboard_port=port, say=said.append)
        assert said == []
        assert not records_path(tmp_path).exists()

    def test_one_port_cannot_serve_both(self, tmp_path: Path, said: list[str]) -> None:
        with pytest.raises(UserError, match=r"port 23456 is taken, .* --dashboard-port"):
            up(tmp_path, mlflow_port=23456, dashboard_port=23456, say=said.append)

    def test_a_running_service_does_not_change_its_port(
        self, tmp_path: Path, said: list[str], stand_in: StandIn
    ) -> None:
        records = {"mlflow": stand_in(tmp_path, MLFLOW), "ray": stand_in(tmp_path, RAY)}
        write_records(tmp_path, records)
        with pytest.raises(UserError, match="runs already at port 8265 and cannot move to 23456"):
            up(tmp_path, dashboard_port=23456, say=said.append)
        assert read_records(tmp_path) == records

    def test_ray_needs_a_cpu(self, tmp_path: Path, said: list[str]) -> None:
        with pytest.raises(UserError, match="--cpus must be at least 1, but got 0"):
            up(tmp_path, cpus=0, say=said.append)

    @pytest.mark.parametrize("home", ["", "absent"])
    def test_down_says_so_when_nothing_runs(self, tmp_path: Path, said: list[str], home: str) -> None:
        assert down(tmp_path / home, say=said.append) is False
        assert said == [f"nothing runs in {tmp_path / home}"]

    def test_down_names_the_jobs_that_end_with_it(self, tmp_path: Path, said: list[str], stand_in: StandIn) -> None:
        processes = {"shapes-1": "advseg.jobs.sweep", "over-1": "ray::IDLE"}
        begin = "subprocess.Popen([sys.executable, '-c', {!r}, {!r}], env={{**os.environ, 'ADVSEG_JOB': {!r}}})"
        begun = "; ".join(begin.format(SLEEP, title, job) for job, title in processes.items())
        write_records(tmp_path, {RAY: stand_in(tmp_path, RAY, f"import os, subprocess, sys; {begun}; {SLEEP}")})
        assert down(tmp_path, say=said.append) is True
        assert said == [
            "jobs that still run end, and go on once they are submitted again: shapes-1",
            "ended the Ray head",
        ]

    def test_down_never_ends_a_stranger_at_the_pid(self, tmp_path: Path, said: list[str]) -> None:
        with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as bystander:
            identity = identity_of(bystander.pid)
            write_records(tmp_path, {"mlflow": record_of(replace(identity, created=identity.created - 100))})
            assert down(tmp_path, say=said.append) is True
            assert bystander.poll() is None
            bystander.communicate(b"\n")
        assert not records_path(tmp_path).exists()

    def test_the_home_is_for_its_owners_eyes_alone_afterwards(self, tmp_path: Path, said: list[str]) -> None:
        tmp_path.chmod(0o755)
        (tmp_path / "mlflow").mkdir(mode=0o755)
        with pytest.raises(UserError):
            up(tmp_path, mlflow_port=23456, dashboard_port=23456, say=said.append)
        places = [tmp_path, *tmp_path.rglob("*")]
        assert len(places) == 4
        assert [oct(place.stat().st_mode & 0o077) for place in places] == ["0o0"] * len(places)

    def test_a_home_of_another_user_is_refused(
        self, tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        user = os.getuid()
        monkeypatch.setattr(os, "getuid", lambda: user + 1)
        with pytest.raises(UserError, match=f"^{tmp_path} must be yours, but is another user's: .* ADVSEG_HOME"):
            up(tmp_path, say=said.append)
        assert list(tmp_path.iterdir()) == []

    def test_no_other_user_can_hold_the_lock_that_all_homes_share(
        self, tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        squatted = Path(f"/tmp/advseg-{os.getuid()}.lock")
        monkeypatch.setenv("HOME", str(tmp_path / "user"))
        with squatted.open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with pytest.raises(UserError):
                up(tmp_path / "home", mlflow_port=23456, dashboard_port=23456, say=said.append)
        [lock] = (tmp_path / "user").rglob("*.lock")
        assert lock.parent.stat().st_mode & 0o077 == 0
        assert said == []


def test_the_services_module_imports_neither_ray_nor_mlflow() -> None:
    code = "import advseg.platform.services.services, json, sys; print(json.dumps(list(sys.modules)))"
    output = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert {"ray", "mlflow", "torch"}.isdisjoint(json.loads(output))
