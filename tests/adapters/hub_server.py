"""A local stand-in for the Hugging Face Hub: the requests of an upload, and what it answered."""

import base64
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

TOKEN = "hf_local"


class Hub(ThreadingHTTPServer):
    """Accepts one token; ``refuse`` answers one kind of request with a status."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.commits: list[dict[str, Any]] = []  # summary and files of each
        self.blobs: dict[str, bytes] = {}  # large files, by SHA-256
        self.created: dict[str, bool] = {}  # whether each repository is private
        self.refuse: tuple[str, int] = ("", 0)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self) -> None:
        body = self._body()
        word, status = self.server.refuse
        if word and word in self.path:
            self._send({"error": "no"}, status)
        elif "upload" not in self.path and self.headers.get("authorization") != f"Bearer {TOKEN}":
            self._send({"error": "Invalid credentials"}, 401)
        elif self.path.startswith("/api/models/") and self.command == "GET":
            self._send({"error": "Repository not found"}, 404)
        else:
            self._send(self._document(body))

    def _document(self, body: bytes) -> Any:
        answers: dict[str, Callable[[bytes], Any]] = {
            "/api/whoami": lambda _: {"type": "user", "name": "me", "auth": {"accessToken": {"role": "write"}}},
            "/api/repos/create": self._create,
            "/api/validate-yaml": lambda _: {"errors": [], "warnings": []},  # of a README.md
            "/preupload/": self._modes,
            "/info/lfs/objects/batch": self._links,
            "/upload/": self._store,
            "/commit/": self._commit,
        }
        known = [answer for part, answer in answers.items() if part in self.path]
        assert known, self.path
        return known[0](body)

    def _create(self, body: bytes) -> Any:
        asked = json.loads(body)
        name = f"{asked.get('organization') or 'me'}/{asked['name']}"
        self.server.created[name] = bool(asked.get("private")) or asked.get("visibility") == "private"
        return {"url": f"{self.server.url}/{name}"}

    def _modes(self, body: bytes) -> Any:
        paths = [file["path"] for file in json.loads(body)["files"]]
        modes = ["lfs" if path.endswith(".safetensors") else "regular" for path in paths]
        files = zip(paths, modes, strict=True)
        return {"files": [{"path": path, "uploadMode": mode, "shouldIgnore": False} for path, mode in files]}

    def _links(self, body: bytes) -> Any:
        objects = json.loads(body)["objects"]
        links = [{"upload": {"href": f"{self.server.url}/upload/{one['oid']}"}} for one in objects]
        linked = [{**one, "actions": link} for one, link in zip(objects, links, strict=True)]
        return {"transfer": "basic", "objects": linked}

    def _store(self, body: bytes) -> Any:
        self.server.blobs[self.path.rpartition("/")[2]] = body
        return {}

    def _commit(self, body: bytes) -> Any:
        self.server.commits.append(_commit(body, self.server.blobs))
        url = f"{self.server.url}/me/student/commit/{'0' * 40}"
        return {"success": True, "commitOid": "0" * 40, "commitUrl": url}

    def _body(self) -> bytes:
        if self.headers.get("transfer-encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("content-length") or 0))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _send(self, document: Any, status: int = 200) -> None:
        content = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def _commit(body: bytes, blobs: dict[str, bytes]) -> dict[str, Any]:
    found: dict[str, Any] = {"files": {}}
    for line in map(json.loads, body.decode().splitlines()):
        value = line["value"]
        if line["key"] == "header":
            found["summary"] = value["summary"]
        elif line["key"] == "file":
            found["files"][value["path"]] = base64.b64decode(value["content"])
        else:
            found["files"][value["path"]] = blobs[value["oid"]]
    return found


@contextmanager
def local_hub() -> Iterator[Hub]:
    """A running server."""
    hub = Hub()
    thread = Thread(target=hub.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
        thread.join()
