import pytest

from advseg.models.reference import reference_of


@pytest.mark.parametrize(
    ("address", "reference"),
    [
        ("models:/shapes@champion", "shapes@champion"),
        ("models:/shapes/3", "shapes@3"),
        ("shapes@3", "shapes@3"),
        ("probe/3", "probe/3"),
    ],
)
def test_addresses_are_those_of_mlflow_or_ours(address: str, reference: str) -> None:
    assert reference_of(address) == reference
