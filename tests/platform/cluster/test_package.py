import json
import subprocess
import sys
from pathlib import Path

import pytest

from advseg.platform.cluster import package
from advseg.platform.cluster.package import CODE, PACKAGES, TRAINING, code_digest, copy_package, tell_of_other_code

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_package(tmp_path_factory.mktemp("package"))


def test_the_copy_holds_all_code_and_specs(copied: Path) -> None:
    for name in PACKAGES:
        wanted = {
            path.relative_to(ROOT): path.read_bytes()
            for path in (ROOT / name).rglob("*")
            if path.suffix in (".py", ".yaml")
        }
        assert wanted
        assert all((copied / path).read_bytes() == content for path, content in wanted.items())


def test_the_copy_holds_nothing_compiled(copied: Path) -> None:
    assert not list(copied.rglob("__pycache__"))
    assert not list(copied.rglob("*.pyc"))


def test_the_copy_is_what_a_worker_imports(copied: Path, tmp_path: Path) -> None:
    program = f"""
import importlib, json, sys
sys.path.insert(0, {str(copied.parent)!r})
names = ["advseg.models.bundle", "advseg.trainers.loop", "advseg.platform.spec.spec", "advseg.jobs.train"]
print(json.dumps([importlib.import_module(name).__file__ for name in names]))
import platform
print(platform.system())
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    files, system = done.stdout.splitlines()
    assert all(Path(file).is_relative_to(copied) for file in json.loads(files))
    assert system


def test_a_copy_over_another_is_refused(copied: Path) -> None:
    with pytest.raises(FileExistsError):
        copy_package(copied.parent)


class TestDigest:
    @pytest.fixture
    def tree(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A job's package with a file in each layer, beside an older image's platform."""
        for name in PACKAGES:
            (tmp_path / "job" / name).mkdir(parents=True)
            (tmp_path / "job" / name / "a.py").write_text(name)
        (tmp_path / "image" / "platform").mkdir(parents=True)
        monkeypatch.setattr(package, "_locations", lambda name: [tmp_path / "job" / name, tmp_path / "image" / name])
        return tmp_path

    @pytest.fixture(autouse=True)
    def anew(self, request: pytest.FixtureRequest) -> None:
        code_digest.cache_clear()
        request.addfinalizer(code_digest.cache_clear)

    @staticmethod
    def digest(*packages: str) -> str:
        code_digest.cache_clear()
        return code_digest(packages)

    @pytest.mark.parametrize("layer", TRAINING)
    def test_of_what_trains_tells_what_it_says_and_how_it_is_called(self, tree: Path, layer: str) -> None:
        digests = [self.digest(*TRAINING)]
        (tree / "job" / layer / "a.py").write_text("other")
        digests.append(self.digest(*TRAINING))
        (tree / "job" / layer / "a.py").rename(tree / "job" / layer / "b.py")
        digests.append(self.digest(*TRAINING))
        (tree / "job" / layer / "deeper").mkdir()
        (tree / "job" / layer / "deeper" / "c.py").touch()
        digests.append(self.digest(*TRAINING))
        assert len(set(digests)) == 4

    def test_of_what_trains_is_not_the_platforms(self, tree: Path) -> None:
        before = self.digest(*TRAINING)
        (tree / "job" / "platform" / "a.py").write_text("other")
        (tree / "job" / "models" / "notes.txt").touch()
        assert self.digest(*TRAINING) == before

    def test_of_this_package_has_64_digits(self) -> None:
        assert len(code_digest()) == 64

    def test_a_driver_says_that_it_imports_what_was_not_sent(
        self, tree: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setenv(CODE, code_digest())
        (tree / "image" / "platform" / "a.py").write_text("an older one, which loses")
        tell_of_other_code()
        assert not caplog.messages
        (tree / "image" / "platform" / "ledger.py").write_text("a module that the submitter no longer has")
        code_digest.cache_clear()
        tell_of_other_code()
        (said,) = caplog.messages
        assert str(tree / "image" / "platform" / "ledger.py") in said
        assert "uninstall" in said
