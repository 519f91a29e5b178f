"""The home folder of the local services."""

from pathlib import Path

import pytest

from advseg.models.home import find_home


def test_it_is_what_the_environment_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADVSEG_HOME", str(tmp_path / "elsewhere"))
    assert find_home(tmp_path) == tmp_path / "elsewhere"


def test_it_is_the_nearest_one_above(tmp_path: Path) -> None:
    (tmp_path / ".advseg").mkdir()
    (tmp_path / "project" / ".advseg").mkdir(parents=True)
    (tmp_path / "project" / "data" / "images").mkdir(parents=True)
    assert find_home(tmp_path / "project" / "data" / "images") == tmp_path / "project" / ".advseg"


def test_it_is_in_the_working_folder_if_there_is_none_above(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_home() == tmp_path / ".advseg"


def test_it_is_the_users_home_folder_only_from_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".advseg").mkdir()
    (tmp_path / "project").mkdir()
    assert find_home(tmp_path / "project") == tmp_path / "project" / ".advseg"
    assert find_home(tmp_path) == tmp_path / ".advseg"
