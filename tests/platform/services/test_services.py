import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from advseg.platform.base.home import find_home
from advseg.platform.base.processes import ProcessIdentity, end, is_alive, launch, members
from advseg.platform.services.connection import Services, ServicesDownError, connect
from advseg.platform.services.ports import choose_port, is_free
from advseg.platform.services.records import ServiceRecord, read_records, records_path, write_records
from advseg.platform.services.servers import RayPorts, ensure_token, mlflow_server, ray_head, token_path
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
        url=f"http://127.0.0.1:{port}",
        log="/somewhere/server.log",
        temp_dir="/nowhere/advseg-abcdefgh",
    )


OURS = identity_of(os.getpid())
STRANGER = replace(OURS, created=OURS.created - 100)  # our pid, as an earlier process had it


class TestHome:
    def test_is_what_the_environment_names(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ADVSEG_HOME", str(tmp_path / "elsewhere"))
        assert find_home(tmp_path) == tmp_path / "elsewhere"

    def test_is_the_nearest_one_above(self, tmp_path: Path) -> None:
        (tmp_path / ".advseg").mkdir()
        (tmp_path / "project" / ".advseg").mkdir(parents=True)
        (tmp_path / "project" / "data" / "images").mkdir(parents=True)
        assert find_home(tmp_path / "project" / "data" / "images") == tmp_path / "project" / ".advseg"

    def test_is_in_the_working_folder_if_there_is_none_above(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        assert find_home() == tmp_path / ".advseg"

    def test_is_the_users_home_folder_only_from_there(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        (tmp_path / ".advseg").mkdir()
        (tmp_path / "project").mkdir()
        assert find_home(tmp_path / "project") == tmp_path / "project" / ".advseg"
        assert find_home(tmp_path) == tmp_path / ".advseg"


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
        "content", ["{", "[]", "{}", '{"format": 2}', '{"format": 1, "services": {"mlflow": {"pid": 1}}}']
    )
    def test_that_cannot_be_read_name_the_file(self, tmp_path: Path, content: str) -> None:
        records_path(tmp_path).write_text(content)
        with pytest.raises(UserError, match=r"services\.json cannot be read .* delete the file"):
            read_records(tmp_path)


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
            end(lambda identity=identity: members(identity, temp_dir=tmp_path), leaders=(), grace_s=0)

    def test_a_later_process_with_the_same_pid_is_not_ours(self) -> None:
        assert is_alive(OURS)
        assert not is_alive(STRANGER)

    def test_an_ended_process_is_not_alive(self, begin: Callable[[str], ProcessIdentity]) -> None:
        first = begin("import time; print('up', flush=True); time.sleep(1000)")
        assert is_alive(first)
        psutil.Process(first.pid).kill()
        psutil.Process(first.pid).wait()
        assert not is_alive(first)

    def test_a_stranger_at_the_pid_has_no_members(self, tmp_path: Path) -> None:
        assert members(STRANGER, temp_dir=tmp_path) == set()

    def test_the_caller_is_never_a_member(self, tmp_path: Path) -> None:
        assert os.getpid() not in {process.pid for process in members(OURS, temp_dir=tmp_path)}

    def test_survivors_of_a_killed_process_are_ended_even_in_sessions_of_their_own(
        self, begin: Callable[[str], ProcessIdentity], tmp_path: Path
    ) -> None:
        child = "import time; time.sleep(1000)"
        first = begin(
            "import subprocess, sys, time\n"
            f"near = subprocess.Popen([sys.executable, '-c', {child!r}])\n"
            f"far = subprocess.Popen([sys.executable, '-c', {child!r}], start_new_session=True)\n"
            "print(near.pid, far.pid, flush=True)\n"
            "time.sleep(1000)"
        )
        children = {int(pid) for pid in (tmp_path / "0.log").read_text().split()}
        psutil.Process(first.pid).kill()
        psutil.Process(first.pid).wait()
        assert {process.pid for process in members(first, temp_dir=tmp_path)} == children

        end(lambda: members(first, temp_dir=tmp_path), leaders={first.pid}, grace_s=300)

        assert members(first, temp_dir=tmp_path) == set()

    def test_the_first_process_is_left_to_end_those_of_its_session(
        self, begin: Callable[[str], ProcessIdentity], tmp_path: Path
    ) -> None:
        child = "import signal, time; signal.signal(signal.SIGTERM, lambda *_: print('told')); time.sleep(1000)"
        first = begin(
            "import signal, subprocess, sys, time\n"
            f"child = subprocess.Popen([sys.executable, '-u', '-c', {child!r}])\n"
            "def stop(*_):\n"
            "    child.kill(); child.wait(); print('in order', flush=True); sys.exit()\n"
            "signal.signal(signal.SIGTERM, stop); print('up', flush=True); time.sleep(1000)"
        )
        end(lambda: members(first, temp_dir=tmp_path), leaders={first.pid}, grace_s=300)
        assert (tmp_path / "0.log").read_text().split("\n") == ["up", "in order", ""]

    def test_who_ignores_sigterm_is_killed_after_the_grace(
        self, begin: Callable[[str], ProcessIdentity], tmp_path: Path
    ) -> None:
        first = begin(
            "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True)\ntime.sleep(1000)"
        )
        end(lambda: members(first, temp_dir=tmp_path), leaders={first.pid}, grace_s=0.2)
        assert not is_alive(first)


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
        server = mlflow_server(self.HOME, port=5000, temp_dir=self.TEMP_DIR, environment=self.AMBIENT)
        assert server.url == "http://127.0.0.1:5000"
        assert "sqlite:////project/.advseg/mlflow/mlflow.db" in server.argv
        assert server.environment == {
            "HOME": "/home/someone",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "PATH": f"{Path(sys.executable).parent}:/usr/bin",
            "TMPDIR": "/tmp/advseg-abcdefgh",
        }

    def test_ray_is_reachable_from_this_machine_with_a_token_only(self) -> None:
        ports = RayPorts(dashboard=1, gcs=2, client_server=3, dashboard_metrics=4, autoscaler_metrics=5)
        server = ray_head(self.HOME, ports=ports, cpus=7, temp_dir=self.TEMP_DIR, environment=self.AMBIENT)
        assert (server.url, server.gcs_address) == ("http://127.0.0.1:1", "127.0.0.1:2")
        assert server.environment["RAY_AUTH_MODE"] == "token"
        assert server.environment["RAY_AUTH_TOKEN_PATH"] == "/project/.advseg/ray/token"
        assert server.environment["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] == "0"
        left = {name for name in self.AMBIENT if name in server.environment}
        assert left == {"HOME", "PATH"}

    def test_the_token_is_made_once_and_readable_by_its_owner_only(self, tmp_path: Path) -> None:
        (tmp_path / "ray").mkdir()
        ensure_token(tmp_path)
        token = token_path(tmp_path).read_text()
        assert len(token) == 64
        assert token_path(tmp_path).stat().st_mode & 0o777 == 0o600
        ensure_token(tmp_path)
        assert token_path(tmp_path).read_text() == token


class TestStatus:
    def test_nothing_noted_is_down(self, tmp_path: Path) -> None:
        assert [(each.name, each.state, each.url, each.pid) for each in status(tmp_path)] == [
            ("mlflow", ServiceState.DOWN, None, None),
            ("ray", ServiceState.DOWN, None, None),
        ]

    def test_a_noted_service_runs_or_is_dead(self, tmp_path: Path) -> None:
        write_records(tmp_path, {"mlflow": record_of(OURS), "ray": record_of(STRANGER, port=8265)})
        assert [(each.name, each.state, each.url) for each in status(tmp_path)] == [
            ("mlflow", ServiceState.RUNNING, "http://127.0.0.1:5000"),
            ("ray", ServiceState.DEAD, "http://127.0.0.1:8265"),
        ]


class TestConnect:
    def test_without_services_says_how_to_start_them(self, tmp_path: Path) -> None:
        with pytest.raises(ServicesDownError) as error:
            connect(tmp_path)
        assert str(error.value) == (
            f"the MLflow server and the Ray head do not run in {tmp_path}: start them with `advseg up`"
        )

    def test_names_only_what_does_not_run(self, tmp_path: Path) -> None:
        write_records(tmp_path, {"mlflow": record_of(OURS), "ray": record_of(STRANGER)})
        with pytest.raises(ServicesDownError, match=r"^the Ray head does not run in "):
            connect(tmp_path)

    def test_finds_the_local_services(self, tmp_path: Path) -> None:
        write_records(tmp_path, {"mlflow": record_of(OURS), "ray": record_of(OURS, port=8265)})
        assert connect(tmp_path).environment() == {
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_TRACKING_URI": "http://127.0.0.1:5000",
            "RAY_ADDRESS": "http://127.0.0.1:8265",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": "",
            "RAY_AUTH_TOKEN_PATH": str(tmp_path / "ray" / "token"),
            "RAY_USAGE_STATS_ENABLED": "0",
        }

    def test_the_environment_wins_over_the_local_services(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write_records(tmp_path, {"mlflow": record_of(OURS), "ray": record_of(OURS, port=8265)})
        monkeypatch.setenv("RAY_ADDRESS", "https://ray.example.org")
        services = connect(tmp_path)
        assert services == Services(
            tracking_uri="http://127.0.0.1:5000", dashboard_url="https://ray.example.org", ray_token_path=None
        )
        assert "RAY_AUTH_MODE" not in services.environment()

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

    def test_a_running_service_does_not_change_its_port(self, tmp_path: Path, said: list[str]) -> None:
        records = {"mlflow": record_of(OURS), "ray": record_of(OURS, port=8265)}
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

    def test_down_never_ends_a_stranger_at_the_pid(self, tmp_path: Path, said: list[str]) -> None:
        with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as bystander:
            identity = identity_of(bystander.pid)
            write_records(tmp_path, {"mlflow": record_of(replace(identity, created=identity.created - 100))})
            assert down(tmp_path, say=said.append) is True
            assert bystander.poll() is None
            bystander.communicate(b"\n")
        assert not records_path(tmp_path).exists()


def test_the_services_module_imports_neither_ray_nor_mlflow() -> None:
    code = "import advseg.platform.services.services, json, sys; print(json.dumps(list(sys.modules)))"
    output = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert {"ray", "mlflow", "torch"}.isdisjoint(json.loads(output))
