"""A network between clients and a server that is as bad as a test wants it."""

import base64
import http.client
import os
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from answering import answering

_HOP_BY_HOP = {"connection", "transfer-encoding", "content-length", "host"}


def _account() -> dict[str, str]:
    """This process's account with the server, for jobs, which look for that of no server but their own."""
    user, password = (os.environ.get(f"MLFLOW_TRACKING_{name}") for name in ("USERNAME", "PASSWORD"))
    if not (user and password):
        return {}
    return {"Authorization": f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"}


class Trouble(Enum):
    """What becomes of requests, of which none but the last kind's reach the server."""

    AWAY = "the connection is closed without an answer"
    ERROR = "the answer is 500"
    BUSY = "the answer is 503"
    HANGS = "there is no answer as long as the trouble lasts"
    CUT = "the connection is reset in the middle of what is sent"
    CUT_ANSWER = "the connection is reset in the middle of the answer"


class Proxy(ThreadingHTTPServer):
    """Stands between clients and a server; can lose answers, and be in trouble."""

    daemon_threads = True

    def __init__(self, target: str, *, passes_host: bool = False) -> None:
        """A server that checks signatures wants the name that the client called, and others want their own."""
        super().__init__(("127.0.0.1", 0), _Forwarder)
        self.target = urlsplit(target).netloc
        self.passes_host = passes_host
        self.trouble: Trouble | None = None
        self.trouble_of: Callable[[str, str], Trouble | None] = lambda command, path: self.trouble
        """What becomes of a request, asked each time that one comes."""
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
        with answering(self):
            try:
                yield self
            finally:
                self.trouble = None


class _Forwarder(BaseHTTPRequestHandler):
    server: Proxy
    protocol_version = "HTTP/1.1"

    def _forward(self) -> None:
        self.close_connection = True
        length = int(self.headers.get("Content-Length", 0))
        trouble = self.server.trouble_of(self.command, self.path)
        if trouble:
            self.server.troubled += 1
        if trouble is Trouble.CUT:
            self.rfile.read(length // 2)
            return self._reset()
        body = self.rfile.read(length)
        match trouble:
            case Trouble.HANGS:
                while self.server.trouble:
                    time.sleep(0.05)
            case Trouble.ERROR:
                self._answer(500, {"Content-Type": "text/plain"}, b"trouble")
            case Trouble.BUSY:
                # As rclone sends it with an error, when a file goes while it is read.
                headers = {"Content-Type": "application/xml", "x-amz-checksum-crc32": "AAAAAA=="}
                self._answer(503, headers, b"<Error><Code>SlowDown</Code></Error>")
        if trouble not in (None, Trouble.CUT_ANSWER):
            return None
        answer, content = self._ask(body)
        if trouble:
            self._answer(answer.status, dict(answer.headers), content, sent=len(content) // 2)
            self._reset()
        elif not self.server.loses(self.path, body):
            self._answer(answer.status, dict(answer.headers), content)
        return None

    def _ask(self, body: bytes) -> tuple[http.client.HTTPResponse, bytes]:
        """What the server answers."""
        upstream = http.client.HTTPConnection(self.server.target, timeout=600)
        try:
            headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP_BY_HOP}
            if self.server.passes_host:
                headers["Host"] = self.headers["Host"]
            upstream.request(self.command, self.path, body, {**_account(), **headers})
            answer = upstream.getresponse()
            return answer, answer.read()
        finally:
            upstream.close()

    def _answer(self, status: int, headers: dict[str, str], content: bytes, sent: int | None = None) -> None:
        """Send an answer, or so many bytes of its content."""
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() not in _HOP_BY_HOP:
                self.send_header(name, value)
        # That to a HEAD tells the length of what it does not have.
        self.send_header("Content-Length", headers.get("Content-Length", str(len(content))))
        # Unless it is told, a client may send its next request into what is being closed.
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content[:sent])

    def _reset(self) -> None:
        self.wfile.flush()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = _forward  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:
        pass
