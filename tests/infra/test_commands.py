"""Every command, option and variable that docker/ and infra/ name, against the programs that read them."""

import importlib.util
import json
import os
import re
import shlex
import subprocess
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from advseg.jobs.cli.main import app

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text()
SLURM = ROOT / "infra" / "advseg.slurm"
FILES = [
    ROOT / "docker" / "Dockerfile",
    ROOT / "docker" / "compose.yaml",
    SLURM,
    *sorted((ROOT / "infra").glob("*.yaml")),
]
SERVICES = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())["services"]
OF_IMAGES = {"bash", "curl", "pg_isready", "redis-cli", "redis-server", "server", "wget"}
"""What other images have, and ours of Debian; `server` is MinIO's own."""
VARIABLES = {
    "PATH",
    # libpq: https://www.postgresql.org/docs/17/libpq-envars.html
    "PGPASSWORD",
    # https://hub.docker.com/_/postgres
    "POSTGRES_PASSWORD_FILE",
    # MinIO's reference of settings for root
    "MINIO_ROOT_USER",
    "MINIO_ROOT_PASSWORD_FILE",
    # KubeRay, of the annotation ray.io/overwrite-container-cmd
    "KUBERAY_GEN_RAY_START_CMD",
    # `man sbatch`, output environment variables
    "SLURM_GPUS_ON_NODE",
    "SLURM_JOB_ID",
    "SLURM_JOB_NODELIST",
    "SLURM_JOB_NUM_NODES",
    # The ledger's address, for clients and nodes.
    "ADVSEG_LEDGER",
}
"""Those of others, and who says so."""
READERS = {
    "RAY": (
        "ray._raylet",
        "ray._private.ray_constants",
        "ray._private.node",
        "ray._common.usage.usage_constants",
        "ray.train.v2._internal.constants",
        "ray.scripts.symmetric_run",
        "ray.dashboard.modules.job.job_supervisor",
    ),
    "MLFLOW": ("mlflow.environment_variables", "mlflow.telemetry.utils"),
    "AWS": ("botocore.configprovider", "botocore.credentials"),
}
"""Modules that read the variables of a prefix."""


def parse(program: str, arguments: Sequence[str]) -> dict[str, Any]:
    """The parameters of a command line as its program reads them. Raises for what the program does not know."""
    match program:
        case "ray":
            from ray.scripts.scripts import cli
        case "mlflow":
            from mlflow.cli import cli
        case _:
            cli = typer.main.get_command(app)
    # Typer has a click of its own, so that no class says what both are.
    command: Any = cli
    rest = list(arguments)
    while rest and rest[0] in getattr(command, "commands", {}):
        command = command.commands[rest.pop(0)]
    if hasattr(command, "commands") and rest != ["--help"]:
        raise ValueError(f"No such command: {program} {' '.join(arguments)}")
    return {} if rest == ["--help"] else command.make_context(program, rest).params


def check(words: Sequence[str]) -> None:
    """Raise for a command that does not exist as it is written."""
    match words:
        case ["env" | "srun", *rest]:
            check([word for word in rest if not re.match("[A-Z_]+=", word)])
        case ["ray", "symmetric-run", *rest]:
            rest, entrypoint = rest[: rest.index("--")], rest[rest.index("--") + 1 :]
            symmetric = parse("ray", ["symmetric-run", *rest])
            parse("ray", ["start", *symmetric["ray_args_and_entrypoint"]])
            check(entrypoint)
        case ["ray" | "mlflow" | "advseg" as program, *rest]:
            parse(program, rest)
        case ["python", "-m", module, *_]:
            assert find_spec(module)
        case ["python", path]:
            assert (ROOT / "docker" / Path(path).name).is_file()
        case ["docker", "compose", "run", "--rm", service, *rest]:
            assert service in SERVICES
            check(rest)
        case ["docker" | "kubectl", *rest]:
            named = [word for word in rest if re.match(r"(docker|infra)/", word)]
            assert [word for word in named if not (ROOT / word).is_file()] == []
        case ["sbatch", script, *_]:
            assert ROOT / script == SLURM
        case [program, *_]:
            assert program in OF_IMAGES, program


def in_compose() -> Iterator[tuple[str, list[str]]]:
    for name, service in SERVICES.items():
        if command := service.get("command"):
            yield name, command
        if test := service.get("healthcheck", {}).get("test"):
            assert test[0] == "CMD"
            yield f"{name}, health", test[1:]


def in_dockerfile() -> Iterator[tuple[str, list[str]]]:
    for instruction, command in re.findall(r"^(CMD|HEALTHCHECK .*?CMD|ENTRYPOINT) (.+)$", DOCKERFILE, re.M):
        words = json.loads(command) if command.startswith("[") else shlex.split(command)
        if instruction != "ENTRYPOINT":
            yield instruction.split()[0], words


def in_slurm() -> Iterator[tuple[str, list[str]]]:
    [line] = re.findall(r"^srun .+$", SLURM.read_text().replace("\\\n", ""), re.M)
    yield "srun", shlex.split(re.sub(r"\$SLURM\w+", "1", line))


def in_kubernetes() -> Iterator[tuple[str, list[str]]]:
    """Commands of containers; a Ray node's as KubeRay makes it of its parameters."""

    def walk(part: Any) -> Iterator[list[str]]:
        match part:
            case {"rayStartParams": parameters, **rest}:
                head = ["--head"] if "groupName" not in rest else ["--address=head:6379"]
                yield ["ray", "start", *head, "--block", *(f"--{name}={value}" for name, value in parameters.items())]
                yield from walk(rest)
            case dict():
                if "containers" in part:
                    yield from (container["args"] for container in part["containers"])
                if "entrypoint" in part:
                    yield shlex.split(part["entrypoint"])
                if "exec" in part:
                    yield part["exec"]["command"]
                for value in part.values():
                    yield from walk(value)
            case list():
                for value in part:
                    yield from walk(value)

    for path in sorted((ROOT / "infra").glob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text()):
            yield from ((path.name, words) for words in walk(document))


def in_headers() -> Iterator[tuple[str, list[str]]]:
    """What the heads of files tell to type: comments that are set in by three."""
    for path in FILES:
        text = re.sub(r"\\\n# +", "", path.read_text())
        for line in re.findall(r"^#   (\S.*)$", text, re.M):
            for command in re.split(r" \| | && ", re.sub(r"\s+#.*$|\s&$", "", line)):
                words = shlex.split(command)
                while re.match("[A-Z_]+=", words[0]):
                    words = words[1:]
                if words[0] in {"docker", "kubectl", "sbatch", "advseg"}:
                    yield path.name, words


# Of MLflow's own, at its import.
pytestmark = pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning")
COMMANDS = [*in_dockerfile(), *in_compose(), *in_slurm(), *in_kubernetes(), *in_headers()]


@pytest.mark.parametrize(
    ("where", "words"), COMMANDS, ids=lambda part: part if isinstance(part, str) else " ".join(part)[:60]
)
def test_every_command_and_option_exists(where, words):
    check(words)


def test_commands_of_every_kind_are_found():
    told = [" ".join(words) for _, words in COMMANDS]
    for beginning in (
        "ray start --head",
        "ray start --address",
        "srun ray symmetric-run",
        "mlflow server",
        "python -m advseg.jobs.sweep",
        "docker build",
        "docker compose run",
        "kubectl apply",
        "advseg submit",
    ):
        assert any(command.startswith(beginning) for command in told), beginning


@pytest.mark.parametrize(
    "words",
    [
        ["ray", "start", "--hat"],
        ["ray", "begin"],
        ["ray", "symmetric-run", "--address", "a:1", "--min-nods", "2", "--", "advseg", "status"],
        ["ray", "symmetric-run", "--address", "a:1", "--", "advseg", "begin"],
        ["mlflow", "server", "--app-name=none"],
        ["advseg", "submit", "spec.yaml", "--folow"],
    ],
    ids=" ".join,
)
def test_a_command_that_there_is_not_is_noticed(words):
    with pytest.raises(Exception, match=r"No such|is not one of"):
        check(words)


def names() -> Iterator[tuple[str, str]]:
    """Every environment variable that is set, or asked for in a secret."""
    for service in SERVICES.values():
        yield from (("compose.yaml", name) for name in service.get("environment", {}))
        for secret in service.get("secrets", []):
            if isinstance(secret, dict):
                yield "compose.yaml", secret["target"]
    for path in FILES:
        for line in path.read_text().splitlines():
            code = re.sub("^#   ", "", line)
            if path.suffix == ".yaml":
                yield from ((path.name, name) for name in re.findall(r"^\s+([A-Z][A-Z_]+_[A-Z_]+):", code))
            yield from ((path.name, name) for name in re.findall(r"\$([A-Z]+_[A-Z_]+)", code))
            yield from ((path.name, name) for name in re.findall(r"(?:^|ENV | )([A-Z]+_[A-Z_]+)=", code))
            if "secrets.env" in code:
                yield from (
                    (path.name, name) for name in re.findall(r"\b[A-Z]+_[A-Z_]+|PG[A-Z]+", code.partition(" # ")[2])
                )


def source_of(module: str) -> bytes:
    found = importlib.util.find_spec(module)
    assert found and found.origin
    return Path(found.origin).read_bytes()


def test_every_variable_is_read_by_somebody():
    sources = {prefix: b"".join(map(source_of, modules)) for prefix, modules in READERS.items()}
    ignored = {"TORCH_INDEX"}  # an argument of the build
    found = {*names()}
    assert {prefix for _, name in found for prefix in READERS if name.startswith(f"{prefix}_")} == READERS.keys()
    for where, name in sorted(found):
        prefix = name.partition("_")[0]
        assert name in VARIABLES | ignored or name.encode() in sources.get(prefix, b""), (
            f"{where} names {name}, which nothing reads"
        )


def test_the_script_of_slurm_is_one_and_makes_a_token_for_its_owner_alone(tmp_path):
    subprocess.run(["bash", "-n", str(SLURM)], check=True)
    text = SLURM.read_text()
    assert "RAY_AUTH_MODE=token" in text
    [command] = re.findall(r"^\(umask 077.+$", text, re.M)
    token = tmp_path / "token"
    environment = {**os.environ, "HOME": str(tmp_path), "RAY_AUTH_TOKEN_PATH": str(token)}
    subprocess.run(["bash", "-euc", command], env=environment, check=True)
    assert token.stat().st_mode & 0o777 == 0o600
    assert len(token.read_text().strip()) == 64
