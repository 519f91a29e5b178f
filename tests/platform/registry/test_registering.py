"""Who becomes the champion, and that it is decided once."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from advseg.models.architectures import build_segmenter
from advseg.models.bundle import save
from advseg.platform.base.keys import METRIC
from advseg.platform.gate.verdict import Gate
from advseg.platform.registry.moves import CANDIDATE, CHAMPION
from advseg.platform.registry.registering import MIOU_TAG, Registered
from advseg.platform.registry.versions import list_versions
from advseg.trainers.errors import FencedError

from .conftest import CARD, gate_of

Register = Callable[..., Registered]


def aliases(client: MlflowClient) -> dict[str, str]:
    return {alias: str(version) for alias, version in client.get_registered_model("things").aliases.items()}


PASSES = "trial 0 is 1.00 points above the supervised baseline on 6 seeds, 90% [+1.00, +1.00], p = 0.0156"


def test_without_a_gate_the_best_is_a_candidate(client: MlflowClient, model: Path, registered: Register) -> None:
    text = str(registered(model, "probe/0", None))
    assert text == ("things@candidate (version 1): it is the best of its sweep, and was not confirmed on fresh seeds")
    assert aliases(client) == {CANDIDATE: "1"}


def test_the_first_that_passes_is_the_champion(
    client: MlflowClient, model: Path, registered: Register, run_of: Callable
) -> None:
    assert str(registered(model, "probe/0", gate_of(1))) == f"things@champion (version 1): {PASSES}"
    version = client.get_model_version_by_alias("things", CHAMPION)
    assert (str(version.version), version.run_id) == ("1", run_of("probe/0"))


def test_a_version_has_beside_its_model_what_describes_and_serves_it(
    client: MlflowClient, model: Path, registered: Register, run_of: Callable, tmp_path: Path
) -> None:
    registered(model, "probe/0", None)
    names = {Path(file.path).name for file in client.list_artifacts(run_of("probe/0"), "model")}
    assert {"README.md", "MLmodel", "serve.py", "requirements.txt"} < names
    assert {path.name for path in model.iterdir()} < names
    readme = Path(client.download_artifacts(run_of("probe/0"), "model/README.md", str(tmp_path))).read_text()
    assert "\n# things, version 1\n" in readme


def test_what_describes_a_version_is_written_once_and_by_whoever_goes_on(
    client: MlflowClient,
    model: Path,
    registered: Register,
    run_of: Callable,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Killed(BaseException):
        pass

    def kill(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(MlflowClient, "log_text", kill)
        registered(model, "probe/0", None)
    files = {file.path for file in client.list_artifacts(run_of("probe/0"), "model")}
    assert "model/MLmodel" in files
    assert "model/README.md" not in files

    assert registered(model, "probe/0", None).version == "1"
    readme = Path(client.download_artifacts(run_of("probe/0"), "model/README.md", str(tmp_path))).read_text()
    assert "\n# things, version 1\n" in readme


@pytest.mark.parametrize("gate", [None, gate_of(1)])
def test_twice_makes_one_version(client: MlflowClient, model: Path, registered: Register, gate: Gate | None) -> None:
    first, again = (registered(model, "probe/0", gate) for _ in range(2))
    assert (again.version, again.alias) == (first.version, first.alias)
    assert again.reason == "it was registered before"
    assert len(client.search_model_versions("name = 'things'")) == 1


def test_a_candidate_that_passes_later_is_the_champion(client: MlflowClient, model: Path, registered: Register) -> None:
    registered(model, "probe/0", None)
    assert registered(model, "probe/0", gate_of(1)).alias == CHAMPION
    # Going on with a sweep whose spec confirms nothing takes nothing back.
    assert registered(model, "probe/0", None).alias == CHAMPION
    assert aliases(client) == {CANDIDATE: "1", CHAMPION: "1"}


def test_one_that_was_shown_to_be_better_displaces_the_champion(
    client: MlflowClient, judged: Callable[..., Path], registered: Register, run_of: Callable[[str], str]
) -> None:
    registered(judged(), "one/0", gate_of(1))
    assert registered(judged(), "two/0", gate_of(1, run_of("one/0"))).alias == CHAMPION
    assert aliases(client) == {CHAMPION: "2"}


@pytest.mark.parametrize(
    ("gate", "dataset", "reason"),
    [
        (None, "ab", "it is the best of its sweep, and was not confirmed on fresh seeds"),
        (gate_of(1), "ab", "it was not compared with the champion, version 1"),
        (gate_of(1, "its run"), "cd", "the champion, version 1, was judged on other data"),
    ],
)
def test_any_other_is_a_candidate(
    client: MlflowClient,
    judged: Callable[..., Path],
    registered: Register,
    gate: Gate | None,
    dataset: str,
    reason: str,
) -> None:
    registered(judged(), "one/0", gate_of(1))
    assert str(registered(judged(dataset), "two/0", gate)) == f"things@candidate (version 2): {reason}"
    assert aliases(client) == {CHAMPION: "1", CANDIDATE: "2"}


def test_a_sweep_that_is_submitted_again_takes_no_alias_back(
    client: MlflowClient, judged: Callable[..., Path], registered: Register, run_of: Callable[[str], str]
) -> None:
    registered(judged(), "one/0", gate_of(1))
    registered(judged(), "two/0", gate_of(2, run_of("one/0")))
    # What somebody decided by hand stays as it is, too.
    client.set_registered_model_alias("things", CHAMPION, "2")
    assert str(registered(judged(), "one/0", gate_of(1))) == "things@1: it was registered before"
    client.set_registered_model_alias("things", CHAMPION, "1")
    assert str(registered(judged(), "two/0", gate_of(2, run_of("one/0")))) == "things@2: it was registered before"
    assert aliases(client) == {CHAMPION: "1"}


def test_a_trial_of_the_same_key_and_another_run_is_another_one(
    client: MlflowClient, judged: Callable[..., Path], registered: Register, run_of: Callable
) -> None:
    registered(judged(), "one/0", gate_of(1))
    client.delete_run(run_of("one/0"))
    assert registered(judged(), "one/0", gate_of(1)).version == "2"


def test_a_champion_whose_card_cannot_be_read_stays(
    client: MlflowClient, judged: Callable[..., Path], registered: Register, tmp_path: Path
) -> None:
    registered(judged(), "one/0", gate_of(1))
    shutil.rmtree(tmp_path / "judged")
    for card in tmp_path.rglob("model.json"):
        card.unlink()
    text = str(registered(judged(), "two/0", gate_of(1, "its run")))
    assert text.startswith("things@candidate (version 2): the card of things@1 cannot be read: ")
    assert aliases(client) == {CHAMPION: "1", CANDIDATE: "2"}


def test_a_version_1_that_another_run_made_was_not_compared(
    client: MlflowClient, judged: Callable[..., Path], registered: Register, run_of: Callable[[str], str]
) -> None:
    registered(judged(), "one/0", gate_of(1))
    gate = gate_of(1, run_of("one/0"))
    client.delete_registered_model("things")
    registered(judged(), "other/0", gate_of(1))
    told = "things@candidate (version 2): it was not compared with the champion, version 1"
    assert str(registered(judged(), "two/0", gate)) == told
    assert aliases(client) == {CHAMPION: "1", CANDIDATE: "2"}


class TestAnotherOwner:
    """Of the sweep, who took it over while the model was uploaded."""

    def lost(self) -> None:
        raise FencedError("it is another's")

    def test_moves_no_alias(self, client: MlflowClient, model: Path, registered: Register) -> None:
        with pytest.raises(FencedError):
            registered(model, "probe/0", gate_of(1), self.lost)
        assert aliases(client) == {}

    def test_finishes_what_was_begun(
        self, client: MlflowClient, judged: Callable[..., Path], registered: Register, run_of: Callable[[str], str]
    ) -> None:
        registered(judged(), "one/0", gate_of(1))
        gate = gate_of(1, run_of("one/0"))
        with pytest.raises(FencedError):
            registered(judged(), "two/0", gate, self.lost)
        assert aliases(client) == {CHAMPION: "1"}
        assert registered(judged(), "two/0", gate).alias == CHAMPION
        assert len(client.search_model_versions("name = 'things'")) == 2

    def test_is_asked_after_the_upload(self, client: MlflowClient, model: Path, registered: Register) -> None:
        seen = []
        check = lambda: seen.append(len(client.search_model_versions("name = 'things'")))  # noqa: E731
        registered(model, "probe/0", gate_of(1), check)
        assert seen == [1, 1]


def test_a_damaged_model_is_refused(client: MlflowClient, registered: Register, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="MANIFEST"):
        registered(tmp_path, "probe/0", None)
    assert client.search_registered_models() == []


def test_a_list_has_the_mean_iou_of_what_was_exported(
    client: MlflowClient, model: Path, tmp_path: Path, registered: Register, run_of: Callable
) -> None:
    weights = build_segmenter(CARD.segmenter, 2).state_dict()
    save(tmp_path / "best", replace(CARD, metrics={METRIC: 63.75}), weights, None)
    for key, newest in (("probe/0", 60.5), ("probe/1", 61.5)):
        client.log_metric(run_of(key), METRIC, newest, step=8)
    registered(tmp_path / "best", "probe/0", None)
    registered(model, "probe/1", None)  # Its card has no figure.
    assert [version.miou for version in list_versions(client)] == [61.5, 63.75]
    client.set_model_version_tag("things", "1", MIOU_TAG, "many")
    assert [version.miou for version in list_versions(client)] == [61.5, 60.5]
