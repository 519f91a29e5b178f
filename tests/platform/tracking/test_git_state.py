import subprocess
from pathlib import Path

import pytest

from advseg.platform.tracking.git_state import git_state, read_git_state, redact, write_git_state


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", "-C", str(folder), *identity, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """With two folders of code, committed."""
    for name in ("models", "trainers", "notes"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "code.py").write_text("x = 1\n")
    git(tmp_path, "init", "--initial-branch=main", "--quiet")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message=first")
    return tmp_path


def folders(repository: Path) -> list[Path]:
    return [repository / "models", repository / "trainers"]


def test_code_as_committed_has_a_commit_and_no_diff(repository):
    state = git_state(folders(repository))
    assert state
    assert (state.commit, state.branch, state.diff) == (git(repository, "rev-parse", "HEAD"), "main", "")


def test_changes_of_that_code_alone_are_told(repository):
    (repository / "trainers" / "code.py").write_text("x = 2\n")
    (repository / "notes" / "code.py").write_text("y = 3\n")
    (repository / "models" / "new.py").write_text("z = 4\n")
    state = git_state(folders(repository))
    assert state
    assert "-x = 1\n+x = 2\n" in state.diff
    assert "y = 3" not in state.diff
    assert state.diff.startswith("# not in git: models/new.py\n")


def test_a_package_that_somebodys_repository_does_not_track_has_no_state(repository):
    (repository / ".gitignore").write_text(".venv/\n")
    installed = [repository / ".venv" / "location-packages" / name for name in ("models", "trainers")]
    for folder in installed:
        folder.mkdir(parents=True)
        (folder / "code.py").write_text("x = 1\n")
    assert git_state(installed) is None
    assert git_state([repository / "models", installed[1]]) is None


def test_code_in_no_repository_has_no_state(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_state([tmp_path]) is None


def test_a_machine_without_git_has_no_state(repository, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    assert git_state(folders(repository)) is None


def test_a_job_reads_what_its_submitter_wrote(repository, tmp_path):
    state = git_state(folders(repository))
    assert state
    assert read_git_state(tmp_path) is None
    write_git_state(tmp_path, state)
    assert read_git_state(tmp_path) == state


@pytest.mark.parametrize(
    ("line", "secret"),
    [
        ('+password = "hunter2isgreat"', "hunter2isgreat"),
        (
            '+AWS_SECRET_ACCESS_KEY = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"',
            "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        ),
        ('+url = "postgresql://me:s3cr3tpw@db/x"', "s3cr3tpw"),
        ('+token = "ghp_abcdefghijklmnopqrstuvwxyz0123456789"', "ghp_abcdefghijklmnopqrstuvwxyz0123456789"),
        ("-key AKIAIOSFODNN7EXAMPLE", "AKIAIOSFODNN7EXAMPLE"),
        ("+api_key: abcd1234efgh", "abcd1234efgh"),
        ("+AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG", "wJalrXUtnFEMI/K7MDENG"),
        ("+export DB_PASSWORD=correcthorse", "correcthorse"),
        ("+MLFLOW_TRACKING_PASSWORD='correct horse' mlflow server", "correct horse"),
        ("+db_password=correcthorse", "correcthorse"),
        ('+headers = {"Authorization": "Bearer abcdefgh"}', "abcdefgh"),
        ("+Proxy-Authorization: Basic bWU6cHc=", "bWU6cHc="),
        ("+curl -H 'X: Bearer abc.def.9hi'", "abc.def.9hi"),
        ("+login hf_abcdefghijklmnopqrstuvwxyz", "abcdefghijklmnopqrstuvwxyz"),
        ("+client = OpenAI('sk-proj-abc123def456ghi789')", "abc123def456ghi789"),
        ("+git clone with ghp_abcdefghijklmnopqrst", "abcdefghijklmnopqrst"),
        ("+github_pat_11ABCDEFG0123456789_abcdefg", "11ABCDEFG0123456789"),
        ("+glpat-abcdefghij0123456789", "abcdefghij0123456789"),
        ("+MLFLOW_TRACKING_URI=https://me:s3cr3tpw@mlflow.example.org", "s3cr3tpw"),
    ],
)
def test_secrets_are_redacted(line, secret):
    text = redact(f"+a = 1\n{line}\n+b = 2\n")
    assert secret not in text
    assert "***" in text
    assert text.startswith("+a = 1\n")
    assert text.endswith("+b = 2\n")


def test_code_is_not_taken_for_a_secret():
    digest = "0ba904eae8773b70c75333db4de2f3ac45a8ad4ddba1b242f0b3cfc199391dd8"
    code = (
        f'+digest = "{digest}"\n+x = token_path(home)\n+def f(token: str) -> str:\n+lr = 0.1\n'
        "+def g(token=None):\n+f(password=password, token=token)\n+if secret==other:\n"
        '+headers={"Authorization": f"Bearer {token}"}\n+export ADMIN_PASSWORD="$(cat /etc/admin)"\n'
        '+f"https://{user}:{password}@{host}"\n+# basic segmentation, a bearer of news\n'
    )
    assert redact(code) == code


@pytest.mark.parametrize("end", ["+-----END RSA PRIVATE KEY-----\n+b = 2\n", ""], ids=["whole", "cut off"])
def test_a_private_key_is_redacted_with_all_of_its_lines(end):
    body = "+MIIEpAIBAAKCAQEA7bq0\n+Zm9vYmFyYmF6cXV4\n"
    text = redact(f"+a = 1\n+-----BEGIN RSA PRIVATE KEY-----\n{body}{end}")
    assert text == "+a = 1\n+***" + ("\n+b = 2\n" if end else "")
