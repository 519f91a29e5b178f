"""What a gate found of a version is found again, also of one that was registered before it was judged."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from advseg.platform.registry.confirmed import UNCONFIRMED
from advseg.platform.registry.registering import Registered
from advseg.platform.registry.verdicts import GATE_TAG, digest_of, doubt, hold_verdict, hold_verdicts, read_verdict
from advseg.trainers.errors import UserError

from .conftest import gate_of

Register = Callable[..., Registered]


def description(client: MlflowClient) -> str:
    return client.get_model_version("things", "1").description


def readme(client: MlflowClient, run_id: str, folder: Path) -> str:
    return Path(client.download_artifacts(run_id, "model/README.md", str(folder))).read_text()


def test_a_version_that_is_registered_under_a_gate_is_written_with_it(
    client: MlflowClient, judged: Callable[..., Path], registered: Register, run_of: Callable, tmp_path: Path
) -> None:
    gate = replace(gate_of(1), test={"trial 0": 39.0})
    registered(judged(), "one/0", gate)
    assert "a mean IoU of 39.00 percent on the test images" in readme(client, run_of("one/0"), tmp_path)
    assert description(client).startswith("### On fresh seeds\n\n**The figure to quote: a mean IoU of 39.00")
    assert read_verdict(client, "things@champion") == gate
    (kept,) = client.list_artifacts(run_of("one/0"), "model/gates")
    assert Path(kept.path).stem == digest_of(gate)


def test_without_a_gate_it_says_so(client: MlflowClient, judged: Callable[..., Path], registered: Register) -> None:
    registered(judged(), "one/0", None)
    assert description(client) == f"### On fresh seeds\n\n{UNCONFIRMED}"
    assert read_verdict(client, "things@candidate") is None
    assert read_verdict(client, "one/0") is None


def test_one_that_is_judged_later_says_it_and_keeps_its_files(
    client: MlflowClient, judged: Callable[..., Path], registered: Register, run_of: Callable, tmp_path: Path
) -> None:
    registered(judged(), "one/0", None)
    before = readme(client, run_of("one/0"), tmp_path)
    newest = gate_of(2)
    for gate in (gate_of(1), newest, None):
        registered(judged(), "one/0", gate)
    assert readme(client, run_of("one/0"), tmp_path) == before
    assert "| the supervised baseline | +2.00 |" in description(client)
    assert read_verdict(client, "things@1") == newest


def test_one_that_was_found_to_be_no_better_says_it(
    client: MlflowClient, judged: Callable[..., Path], registered: Register, run_of: Callable
) -> None:
    """It is not registered again, and no alias is moved."""
    registered(judged(), "one/0", None)
    registered(judged(), "two/0", None)
    worse = gate_of(-1)
    hold_verdicts(client, "things", [run_of("one/0"), None], worse)
    assert read_verdict(client, "things@1") == worse
    assert "The gate says: kept." in description(client)
    assert read_verdict(client, "things@2") is None


def test_of_a_model_that_there_is_not_no_verdict_is_kept(client: MlflowClient, run_of: Callable) -> None:
    hold_verdicts(client, "things", [run_of("one/0")], gate_of(1))
    assert client.search_registered_models() == []


class TestAVerdictThatSomebodyChanged:
    @pytest.fixture
    def kept(self, client: MlflowClient, judged: Callable[..., Path], registered: Register, tmp_path: Path) -> Path:
        registered(judged(), "one/0", gate_of(1))
        (path,) = (tmp_path / "mlruns").rglob("gates/*.json")
        return path

    def refused(self, client: MlflowClient) -> str:
        with pytest.raises(UserError, match=r"^the verdict on things@1 cannot be read: ") as caught:
            read_verdict(client, "things@1")
        assert "\n" not in str(caught.value)
        return str(caught.value)

    def test_is_refused(self, client: MlflowClient, kept: Path) -> None:
        kept.write_text(kept.read_text().replace("promoted", "kept"))
        assert self.refused(client).endswith(f"gates/{kept.name} differs from its checksum")

    def test_is_refused_if_it_is_gone(self, client: MlflowClient, kept: Path) -> None:
        kept.unlink()
        self.refused(client)

    def test_is_refused_if_it_is_none(self, client: MlflowClient, kept: Path) -> None:
        client.set_model_version_tag(
            "things", "1", GATE_TAG, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        )
        (kept.parent / "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855.json").touch()
        self.refused(client)

    def test_is_told_by_the_history(self, client: MlflowClient, kept: Path) -> None:
        assert doubt(client, "things@1") == ""
        said = (
            f"version 1 of things was moved by the verdict {kept.stem[:12]}, as `advseg models history things` says, "
            f"but the newest on it, which its tag advseg.gate names, is "
        )
        changed = gate_of(40)
        hold_verdict(client, client.get_model_version("things", "1"), changed)
        told = f"{said}{digest_of(changed)[:12]}: it was judged again since, or somebody changed it"
        assert doubt(client, "things@1") == told
        client.delete_model_version_tag("things", "1", GATE_TAG)
        assert doubt(client, "things@champion") == f"{said}gone: somebody deleted it"

    @pytest.mark.parametrize("tag", ["", "../../secret", "a" * 63, "/etc/passwd"])
    def test_is_sought_nowhere_else(self, client: MlflowClient, kept: Path, tag: str) -> None:
        client.set_model_version_tag("things", "1", GATE_TAG, tag)
        assert f"its tag {GATE_TAG} is no SHA-256" in self.refused(client)
