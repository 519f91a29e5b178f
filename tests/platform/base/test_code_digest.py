"""Which code a process imports, and that it says so if that is not what was sent."""

import socket
from pathlib import Path

import pytest

from advseg.platform.base import code_digest as code
from advseg.platform.base.code_digest import CODE, PACKAGES, TRAINING, code_digest, tell_of_other_code


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A job's package with a file in each layer, beside an older image's platform."""
    for name in PACKAGES:
        (tmp_path / "job" / name).mkdir(parents=True)
        (tmp_path / "job" / name / "a.py").write_text(name)
    (tmp_path / "image" / "platform").mkdir(parents=True)
    monkeypatch.setattr(code, "_locations", lambda name: [tmp_path / "job" / name, tmp_path / "image" / name])
    return tmp_path


@pytest.fixture(autouse=True)
def anew(request: pytest.FixtureRequest) -> None:
    code_digest.cache_clear()
    request.addfinalizer(code_digest.cache_clear)


def digest(*packages: str) -> str:
    code_digest.cache_clear()
    return code_digest(packages)


@pytest.mark.parametrize("layer", TRAINING)
def test_of_what_trains_tells_what_it_says_and_how_it_is_called(tree: Path, layer: str) -> None:
    digests = [digest(*TRAINING)]
    (tree / "job" / layer / "a.py").write_text("other")
    digests.append(digest(*TRAINING))
    (tree / "job" / layer / "a.py").rename(tree / "job" / layer / "b.py")
    digests.append(digest(*TRAINING))
    (tree / "job" / layer / "deeper").mkdir()
    (tree / "job" / layer / "deeper" / "c.py").touch()
    digests.append(digest(*TRAINING))
    assert len(set(digests)) == 4


def test_of_what_trains_is_not_the_platforms(tree: Path) -> None:
    before = digest(*TRAINING)
    (tree / "job" / "platform" / "a.py").write_text("other")
    (tree / "job" / "models" / "notes.txt").touch()
    assert digest(*TRAINING) == before


def test_of_this_package_has_64_digits() -> None:
    assert len(code_digest()) == 64


def test_a_process_says_that_it_imports_what_was_not_sent(
    tree: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(CODE, code_digest())
    (tree / "image" / "platform" / "a.py").write_text("an older one, which loses")
    tell_of_other_code()
    assert not caplog.messages
    left = tree / "image" / "platform" / "ledger.py"
    left.write_text("a module that the submitter no longer has")
    code_digest.cache_clear()
    tell_of_other_code()
    (said,) = caplog.messages
    assert said.startswith(
        f"{socket.gethostname()} imports other code of advseg (digest {code_digest()[:12]}) than was"
    )
    assert said.endswith(f", {left} beside it: uninstall advseg from its image")


def test_a_process_says_whence_it_has_the_code_of_an_image_alone(
    tree: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(CODE, "0" * 64)
    tell_of_other_code()
    (said,) = caplog.messages
    assert f"than was sent (000000000000), that of {tree / 'job'}: " in said
