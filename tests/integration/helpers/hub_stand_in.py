"""A stand-in for the Hugging Face Hub on loopback: the few requests that a push and a pull make."""

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from answering import answering


@dataclass
class Repository:
    """Files by commit, the newest last."""

    private: bool
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)

    @property
    def newest(self) -> dict[str, bytes]:
        return [{}, *self.commits.values()][-1]

    def commit(self, files: dict[str, bytes]) -> str:
        """Add a commit of files, beside those of the one before."""
        id = hashlib.sha1(str(len(self.commits)).encode()).hexdigest()
        self.commits[id] = {**self.newest, **files}
        return id


class Hub(ThreadingHTTPServer):
    """Who does not show the token is refused. `asked` has method and path of each request."""

    def __init__(self, token: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.token = token
        self.repositories: dict[str, Repository] = {}
        self.uploads: dict[str, bytes] = {}
        self.full = False
        """Whether nothing more can be uploaded."""
        self.asked: list[tuple[str, str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Hub  # pyright: ignore[reportIncompatibleVariableOverride]
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._respond()

    def do_HEAD(self) -> None:
        self._respond()

    def do_POST(self) -> None:
        self._respond()

    def do_PUT(self) -> None:
        self._respond()

    def _respond(self) -> None:
        path = self.path.partition("?")[0]
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.asked.append((self.command, path))
        # What is uploaded goes to an address that is itself the permission.
        if not path.startswith("/upload/") and self.headers.get("Authorization") != f"Bearer {self.server.token}":
            return self._send(401, {"error": "Invalid credentials"})
        for pattern, answer in _ROUTES.items():
            if found := re.fullmatch(pattern, f"{self.command} {path}"):
                return answer(self, body, *found.groups())
        return self._send(404, {"error": "Not Found"}, **{"X-Error-Code": "RepoNotFound"})

    def _send(self, status: int, content: Any = b"", **headers: str) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _create(self, body: bytes) -> None:
        asked = json.loads(body)
        name = f"{asked['organization']}/{asked['name']}"
        if name in self.server.repositories:
            return self._send(409, {"error": "You already created this model repo", "url": f"{self.server.url}/{name}"})
        self.server.repositories[name] = Repository(private=asked.get("visibility") == "private")
        return self._send(200, {"url": f"{self.server.url}/{name}", "name": name})

    def _check_card(self, body: bytes) -> None:
        self._send(200, {"warnings": [], "errors": []})

    def _modes(self, body: bytes, name: str) -> None:
        files = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular",
                "shouldIgnore": False,
            }
            for file in json.loads(body)["files"]
        ]
        self._send(200, {"files": files})

    def _batch(self, body: bytes, name: str) -> None:
        objects = [
            {**each, "actions": {"upload": {"href": f"{self.server.url}/upload/{each['oid']}"}}}
            for each in json.loads(body)["objects"]
        ]
        self._send(200, {"objects": objects, "transfer": "basic"})

    def _upload(self, body: bytes, oid: str) -> None:
        assert hashlib.sha256(body).hexdigest() == oid
        if self.server.full:
            return self._send(507, {"error": "Insufficient Storage"})
        self.server.uploads[oid] = body
        return self._send(200)

    def _commit(self, body: bytes, name: str) -> None:
        files = {}
        for line in map(json.loads, body.splitlines()):
            match line["key"], line["value"]:
                case "file", value:
                    files[value["path"]] = base64.b64decode(value["content"])
                case "lfsFile", value:
                    files[value["path"]] = self.server.uploads[value["oid"]]
        id = self.server.repositories[name].commit(files)
        self._send(200, {"commitOid": id, "commitUrl": f"{self.server.url}/{name}/commit/{id}"})

    def _info(self, body: bytes, name: str, revision: str | None = None) -> None:
        repository = self.server.repositories.get(name)
        if repository is None:
            return self._send(404, {"error": "Not Found"}, **{"X-Error-Code": "RepoNotFound"})
        if revision not in (None, "main", *repository.commits):
            return self._send(404, {"error": "Not Found"}, **{"X-Error-Code": "RevisionNotFound"})
        id = revision if revision in repository.commits else [None, *repository.commits][-1]
        return self._send(200, {"id": name, "modelId": name, "sha": id, "siblings": []})

    def _file(self, body: bytes, name: str, revision: str, file: str) -> None:
        content = self.server.repositories[name].commits[revision].get(file)
        if content is None:
            return self._send(404, {"error": "Not Found"}, **{"X-Error-Code": "EntryNotFound"})
        digest = hashlib.sha256(content).hexdigest()
        return self._send(200, content, **{"ETag": f'"{digest}"', "X-Repo-Commit": revision})


_NAME = r"([\w.-]+/[\w.-]+)"
_ROUTES: dict[str, Any] = {
    "POST /api/repos/create": _Handler._create,
    "POST /api/validate-yaml": _Handler._check_card,
    rf"POST /api/models/{_NAME}/preupload/main": _Handler._modes,
    rf"POST /{_NAME}\.git/info/lfs/objects/batch": _Handler._batch,
    r"PUT /upload/(\w+)": _Handler._upload,
    rf"POST /api/models/{_NAME}/commit/main": _Handler._commit,
    rf"GET /api/models/{_NAME}": _Handler._info,
    rf"GET /api/models/{_NAME}/revision/([\w.-]+)": _Handler._info,
    rf"(?:GET|HEAD) /{_NAME}/resolve/(\w+)/(.+)": _Handler._file,
}


@contextmanager
def running(token: str) -> Iterator[Hub]:
    """A stand-in that answers."""
    hub = Hub(token)
    with answering(hub):
        yield hub
