"""Where a sweep goes on."""

from collections.abc import Callable
from pathlib import Path

import pytest

from advseg.platform.ledger.ledger import Ledger
from advseg.platform.ledger.location import Location, location_of
from advseg.platform.ledger.reading import read_location
from advseg.platform.spec.spec import Spec
from advseg.trainers.errors import UserError

OWN = Location(storage="/home/me/runs", tracking_uri="https://mine.example")
BEGUN = Location(storage="/shared/runs", tracking_uri="https://team.example")


def test_a_new_one_begins_where_its_spec_and_its_submitter_say() -> None:
    assert location_of("a", None, None, OWN) == OWN
    assert location_of("a", "/shared", None, OWN) == Location(storage="/shared", tracking_uri=OWN.tracking_uri)


@pytest.mark.parametrize("named", [None, BEGUN.storage])
def test_one_that_has_begun_stays_where_it_is(named: str | None) -> None:
    assert location_of("a", named, BEGUN, OWN) == BEGUN


def test_another_storage_is_refused_by_both_names() -> None:
    with pytest.raises(UserError) as told:
        location_of("a", "/home/me", BEGUN, OWN)
    assert str(told.value) == (
        "sweep a keeps its files in /shared/runs, as its ledger has it, but the spec names storage /home/me: remove "
        "that key to go on with it, or choose another name, as in --set name=a-2"
    )


@pytest.mark.parametrize("uri", ["http://127.0.0.1:5000", "http://localhost:5000", "http://[::1]:5000", "sqlite:///x"])
def test_an_mlflow_of_one_machine_binds_nobody(uri: str) -> None:
    begun = Location(storage=BEGUN.storage, tracking_uri=uri)
    assert location_of("a", None, begun, OWN) == Location(storage=BEGUN.storage, tracking_uri=OWN.tracking_uri)
    # Who names no other may be on that very machine.
    assert location_of("a", None, begun, Location(storage="/x", tracking_uri="")) == begun


@pytest.mark.parametrize("ledger_address", ["postgresql"], indirect=True)
def test_a_ledger_of_several_machines_holds_it(
    make_spec: Callable[..., Spec], opened: Callable[..., Ledger], tmp_path: Path, ledger_address: str
) -> None:
    assert read_location("probe", ledger_address) is None
    ledger = opened(make_spec())
    assert read_location("probe", ledger_address) is None, "as of a version before"
    ledger.hold_location(BEGUN)
    assert read_location("probe", ledger_address) == BEGUN


def test_a_file_lies_in_the_storage_and_is_moved_with_it(
    make_spec: Callable[..., Spec], opened: Callable[..., Ledger], tmp_path: Path
) -> None:
    opened(make_spec()).hold_location(BEGUN)
    assert read_location("probe", None) is None
