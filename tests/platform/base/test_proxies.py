import pytest

from advseg.platform.base.proxies import past_proxies

PROXY = {"https_proxy": "http://proxy.example:3128"}


@pytest.mark.parametrize(
    ("environment", "hosts"),
    [
        ({}, None),
        ({"http_proxy": ""}, None),
        (PROXY, "127.0.0.1,localhost,::1"),
        ({"HTTP_PROXY": "http://proxy.example"}, "127.0.0.1,localhost,::1"),
        ({**PROXY, "no_proxy": "localhost, .example.org"}, "localhost,.example.org,127.0.0.1,::1"),
        ({**PROXY, "NO_PROXY": "10.0.0.1", "no_proxy": ""}, "10.0.0.1,127.0.0.1,localhost,::1"),
        ({**PROXY, "NO_PROXY": "*"}, None),
    ],
)
def test_this_machine_goes_past_those_that_are_named(environment: dict[str, str], hosts: str | None) -> None:
    assert past_proxies(environment) == ({"no_proxy": hosts, "NO_PROXY": hosts} if hosts else {})
