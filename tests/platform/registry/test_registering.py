"""Who becomes the champion, and that it is decided once."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from advseg.platform.registry.registering import Registered
from advseg.platform.registry.registry import CANDIDATE, CHAMPION
from advseg.trainers.errors import FencedError

Register = Callable[..., Registered]


def aliases(client: MlflowClient) -> dict[str, str]:
    return {alias: str(version) for alias, version in client.get_registered_model("things").aliases.items()}


def test_the_first_is_the_champion(client: MlflowClient, model: Path, registered: Register, run_of: Callable) -> None:
    assert str(registered(model, "probe/0")) == "things@champion (version 1)"
    version = client.get_model_version_by_alias("things", CHAMPION)
    assert (str(version.version), version.run_id) == ("1", run_of("probe/0"))


def test_twice_makes_one_version(client: MlflowClient, model: Path, registered: Register) -> None:
    assert [str(registered(model, "probe/0")) for _ in range(2)] == ["things@champion (version 1)"] * 2
    assert len(client.search_model_versions("name = 'things'")) == 1


def test_a_better_one_on_the_same_data_displaces_the_champion(
    client: MlflowClient, judged: Callable[..., Path], registered: Register
) -> None:
    registered(judged(40.0), "one/0")
    assert str(registered(judged(41.0), "two/0")) == "things@champion (version 2)"
    assert aliases(client) == {CHAMPION: "2"}


def test_whoever_ends_last_is_not_therefore_the_champion(
    client: MlflowClient, judged: Callable[..., Path], registered: Register
) -> None:
    registered(judged(41.0), "one/0")
    text = str(registered(judged(40.0), "two/0"))
    assert text == "things@2: the champion, version 1, has mIoU 41.00 on the same data, and this one 40.00"
    assert aliases(client) == {CHAMPION: "1"}


def test_one_on_other_data_is_a_candidate(
    client: MlflowClient, judged: Callable[..., Path], registered: Register
) -> None:
    registered(judged(41.0), "one/0")
    text = str(registered(judged(99.0, dataset="cd"), "two/0"))
    assert text == "things@candidate (version 2): the champion, version 1, was judged on other data"
    assert aliases(client) == {CHAMPION: "1", CANDIDATE: "2"}


def test_a_sweep_that_is_submitted_again_takes_no_alias_back(
    client: MlflowClient, judged: Callable[..., Path], registered: Register
) -> None:
    registered(judged(40.0), "one/0")
    registered(judged(41.0), "two/0")
    # What somebody decided by hand stays as it is, too.
    client.set_registered_model_alias("things", CHAMPION, "2")
    assert str(registered(judged(40.0), "one/0")) == "things@1: it was registered before"
    client.set_registered_model_alias("things", CHAMPION, "1")
    assert str(registered(judged(41.0), "two/0")) == "things@2: it was registered before"
    assert aliases(client) == {CHAMPION: "1"}


def test_a_trial_of_the_same_key_and_another_run_is_another_one(
    client: MlflowClient, judged: Callable[..., Path], registered: Register, run_of: Callable
) -> None:
    registered(judged(40.0), "one/0")
    client.delete_run(run_of("one/0"))
    assert str(registered(judged(41.0), "one/0")) == "things@champion (version 2)"


def test_a_champion_whose_card_cannot_be_read_stays(
    client: MlflowClient, judged: Callable[..., Path], registered: Register, tmp_path: Path
) -> None:
    registered(judged(40.0), "one/0")
    shutil.rmtree(tmp_path / "judged")
    for card in tmp_path.rglob("model.json"):
        card.unlink()
    text = str(registered(judged(41.0), "two/0"))
    assert text.startswith("things@candidate (version 2): the card of things@1 cannot be read: ")
    assert aliases(client) == {CHAMPION: "1", CANDIDATE: "2"}


class TestAnotherOwner:
    """Of the sweep, who took it over while the model was uploaded."""

    def lost(self) -> None:
        raise FencedError("it is another's")

    def test_moves_no_alias(self, client: MlflowClient, model: Path, registered: Register) -> None:
        with pytest.raises(FencedError):
            registered(model, "probe/0", self.lost)
        assert aliases(client) == {}

    def test_finishes_what_was_begun(
        self, client: MlflowClient, judged: Callable[..., Path], registered: Register
    ) -> None:
        registered(judged(40.0), "one/0")
        with pytest.raises(FencedError):
            registered(judged(41.0), "two/0", self.lost)
        assert aliases(client) == {CHAMPION: "1"}
        assert str(registered(judged(41.0), "two/0")) == "things@champion (version 2)"
        assert len(client.search_model_versions("name = 'things'")) == 2

    def test_is_asked_after_the_upload(self, client: MlflowClient, model: Path, registered: Register) -> None:
        seen = []
        registered(model, "probe/0", lambda: seen.append(len(client.search_model_versions("name = 'things'"))))
        assert seen == [1]


def test_a_damaged_model_is_refused(client: MlflowClient, registered: Register, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="MANIFEST"):
        registered(tmp_path, "probe/0")
    assert client.search_registered_models() == []
