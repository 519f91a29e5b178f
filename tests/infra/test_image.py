"""The image, by parsing: nothing here builds one."""

import fnmatch
import re
import subprocess
from pathlib import Path

from advseg.platform.cluster.package import PACKAGES

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text()
STAGES = DOCKERFILE.split("\nFROM ")
COPIED = [name for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.M) for name in line.split()[:-1]]


def test_all_that_the_image_copies_is_there_and_sent_to_the_build():
    assert {*PACKAGES, "pyproject.toml", "constraints.txt"} <= set(COPIED)
    assert [name for name in COPIED if not (ROOT / name).exists()] == []
    everything, *sent = [
        line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")
    ]
    assert everything == "*"
    assert {line.removeprefix("!") for line in sent if line.startswith("!")} == set(COPIED)


def test_nothing_private_is_sent_to_the_build():
    sent = [line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"]
    for private in (".git", ".venv", ".advseg", "docker/secrets", "docker/data"):
        assert not any(fnmatch.fnmatch(private, pattern) or private.startswith(f"{pattern}/") for pattern in sent)


def test_packages_have_the_pinned_versions_and_a_change_of_code_leaves_them():
    packages = STAGES[1]
    assert "--constraint constraints.txt" in packages
    assert "${TORCH_INDEX:+--extra-index-url" in packages
    assert re.findall("^COPY (.+)$", packages, re.M) == ["pyproject.toml constraints.txt ./"]


def test_every_base_is_pinned_by_version():
    assert re.search(r"^ARG BASE=python:3\.\d+\.\d+-slim-\w+$", DOCKERFILE, re.M)
    assert {line.split(" AS ")[0] for line in STAGES[1:] for line in [line.splitlines()[0]]} == {"${BASE}"}


def test_it_runs_as_no_root_by_number_below_an_init_that_hands_signals_on():
    last = STAGES[-1]
    assert re.search(r"^USER [1-9]\d*$", last, re.M)
    assert last.index("USER ") > last.index("pip install")
    assert 'ENTRYPOINT ["tini", "--", "with-secrets"]' in last


def test_a_secret_named_like_a_variable_is_that_variable(tmp_path):
    (tmp_path / "PGPASSWORD").write_text("s3cret of many words\n")
    (tmp_path / "ray").write_text("token")
    (tmp_path / "kubernetes.io").mkdir()
    script = (ROOT / "docker" / "with-secrets").read_text()
    assert "/run/secrets" in script
    command = ["sh", "-c", script.replace("/run/secrets", str(tmp_path)), "with-secrets", "env"]
    environment = subprocess.run(command, env={"PATH": "/usr/bin:/bin"}, check=True, capture_output=True, text=True)
    lines = environment.stdout.splitlines()
    assert "PGPASSWORD=s3cret of many words" in lines
    assert not any("token" in line for line in lines)


def test_a_command_runs_where_there_are_no_secrets(tmp_path):
    script = (ROOT / "docker" / "with-secrets").read_text().replace("/run/secrets", str(tmp_path / "none"))
    assert subprocess.run(["sh", "-c", script, "with-secrets", "false"]).returncode == 1
    assert (ROOT / "docker" / "with-secrets").stat().st_mode & 0o111
