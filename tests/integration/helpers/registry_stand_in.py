"""A model registry that answers as MLflow's server does, for what no real one would: faults, and what means harm."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from answering import answering

API = "/api/2.0/"
SOURCE = "mlflow-artifacts:/1/abc/artifacts/model"


@dataclass(kw_only=True)
class Registry:
    """The model `things@champion`, which is its version 1, in a folder."""

    folder: Path
    source: object = SOURCE
    answers: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    """Status and body of what is answered to some requests instead, by how their paths end."""
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    """Path and authorization of each request."""
    url: str = ""

    def answer(self, path: str, query: dict[str, list[str]]) -> tuple[int, bytes]:
        for end, answer in self.answers.items():
            if path.endswith(end):
                return answer
        place = path.removeprefix(API)
        if place in ("mlflow/registered-models/alias", "mlflow/model-versions/get"):
            which = (query.get("alias") or query["version"])[0]
            if query["name"] != ["things"] or which not in ("champion", "1"):
                return 404, b'{"error_code": "RESOURCE_DOES_NOT_EXIST"}'
            return 200, json.dumps({"model_version": {"version": "1", "source": self.source}}).encode()
        name = place.removeprefix("mlflow-artifacts/artifacts/1/abc/artifacts/model/")
        file = self.folder / name
        return (200, file.read_bytes()) if name != place and file.is_file() else (404, b"{}")


@contextmanager
def serving(folder: Path) -> Iterator[Registry]:
    """A registry of the model in a folder, on a port of its own."""
    registry = Registry(folder=folder)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            registry.asked.append((parts.path, self.headers.get("Authorization")))
            status, body = registry.answer(unquote(parts.path), parse_qs(parts.query))
            self.send_response(status)
            if status in (301, 302, 307):
                self.send_header("Location", body.decode())
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    registry.url = f"http://127.0.0.1:{server.server_port}"
    with answering(server):
        yield registry
