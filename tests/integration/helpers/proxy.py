"""A network between clients and the MLflow server that is as bad as a test wants it."""

import base64
import http.client
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

_HOP_BY_HOP = {"connection", "transfer-encoding", "content-length", "host"}


def _account() -> dict[str, str]:
    """This process's account with the server, for jobs, which look for that of no server but their own."""
    user, password = (os.environ.get(f"MLFLOW_TRACKING_{name}") for name in ("USERNAME", "PASSWORD"))
    if not (user and password):
        return {}
    return {"Authorization": f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"}


class Trouble(Enum):
    """What becomes of requests, which never reach the server."""

    AWAY = "the connection is closed without an answer"
    ERROR = "the answer is 500"
    HANGS = "there is no answer as long as the trouble lasts"


class Proxy(ThreadingHTTPServer):
    """Stands between clients and the MLflow server; can lose answers, and be in trouble."""

    daemon_threads = True

    def __init__(self, target: str) -> None:
        super().__init__(("127.0.0.1", 0), _Forwarder)
        self.target = urlsplit(target).netloc
        self.trouble: Trouble | None = None
        self.troubled = 0
        """Requests that met trouble."""
        self.loses: Callable[[str, bytes], bool] = lambda path, body: False
        """Whether the answer to a request, which is carried out, gets lost."""

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @contextmanager
    def serving(self) -> Iterator["Proxy"]:
        """Meanwhile it answers."""
        with self:
            thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05})
            thread.start()
            try:
                yield self
            finally:
                self.trouble = None
                self.shutdown()
                thread.join()


class _Forwarder(BaseHTTPRequestHandler):
    server: Proxy
    protocol_version = "HTTP/1.1"

    def _forward(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.close_connection = True
        if trouble := self.server.trouble:
            self.server.troubled += 1
            while trouble is Trouble.HANGS and self.server.trouble:
                time.sleep(0.05)
            if trouble is Trouble.ERROR:
                self._answer(500, "text/plain", b"trouble")
            return
        upstream = http.client.HTTPConnection(self.server.target, timeout=600)
        try:
            headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP_BY_HOP}
            upstream.request(self.command, self.path, body, {**_account(), **headers})
            answer = upstream.getresponse()
            content = answer.read()
        finally:
            upstream.close()
        if not self.server.loses(self.path, body):
            self._answer(answer.status, answer.headers.get("Content-Type", "application/json"), content)

    def _answer(self, status: int, content_type: str, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _forward  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:
        pass
