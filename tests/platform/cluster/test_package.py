import json
import subprocess
import sys
from pathlib import Path

import pytest

from advseg.platform.base.code_digest import PACKAGES
from advseg.platform.cluster.package import copy_package

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
