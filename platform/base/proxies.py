"""Proxies of the environment (`http_proxy` and its like), by which nothing of this machine can be reached."""

from collections.abc import Mapping

from ...models.local_server import HOSTS

_PROXIES = ("http_proxy", "https_proxy", "all_proxy")
_NAMES = ("no_proxy", "NO_PROXY")


def past_proxies(environment: Mapping[str, str]) -> dict[str, str]:
    """What to set beside an environment so that this machine's own addresses go past the proxies that it names."""
    if not any(value and name.lower() in _PROXIES for name, value in environment.items()):
        return {}
    named = next(filter(None, (environment.get(name, "").strip() for name in _NAMES)), "")
    if named == "*":
        return {}
    hosts = [host.strip() for host in named.split(",") if host.strip()]
    all_hosts = ",".join(dict.fromkeys([*hosts, *HOSTS]))
    return dict.fromkeys(_NAMES, all_hosts)
