"""Where a model may be downloaded from. A registry's server names any address, and so does whoever can write to it."""

from urllib.parse import unquote, urlsplit

_OPENED_HERE = ("", "file")


def refusal(source: str, tracking_uri: str) -> str | None:
    """Why a model that lies at a source is not downloaded from there, in words; None for one that may be.

    - `mlflow-artifacts:` is what the tracking server itself keeps: of that server alone, for it is shown our password.
    - `s3:` is read with the credentials, and from the storage, of this process's environment.
    - Files of this machine are taken where the tracking database is one, too. A server could name any other file.
    - Everything else is refused: `http:` would ask strangers, and `runs:` and `models:` lead on to any of these.
    """
    server = urlsplit(tracking_uri)
    try:
        source.encode()
        address = urlsplit(source)
    except ValueError:
        return "that is no address"
    if ".." in unquote(address.path).split("/"):
        return "it climbs out of its folder"
    match address.scheme:
        case "mlflow-artifacts":
            ours = not address.netloc or address.netloc == server.netloc.rpartition("@")[2]
            return None if ours else f"it lies on another server than {server.netloc.rpartition('@')[2]}"
        case "s3":
            return None
        case scheme if scheme in _OPENED_HERE:
            is_remote = server.scheme in ("http", "https")
            return "it is a file of this machine, which a server has no business to name" if is_remote else None
    return f"models come from mlflow-artifacts: or s3:, not from {address.scheme}:"
