"""A hub on this machine: as much of the Hugging Face hub's HTTP interface as huggingface_hub needs to fetch files."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

TOKEN = "hf_" + "Secret0123456789" * 2


@dataclass
class Repository:
    """Files by commit, the last commit being that of `main`."""

    commits: dict[str, dict[str, bytes]]
    kind: str = "model"
    gated: bool = False
    private: bool = False
    members: set[str] = field(default_factory=set)  # tokens whose accounts accepted the conditions
    sent: dict[str, bytes] = field(default_factory=dict)  # files that leave the hub as something else
    cut: set[str] = field(default_factory=set)  # files of which half is sent

    @property
    def main(self) -> str:
        return list(self.commits)[-1]


class Hub:
    """What the server knows and has seen."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.tokens = {TOKEN}
        self.seen: list[str] = []
        self.broken: int | None = None  # answer everything with this status
        self.url = ""

    def add(self, name: str, files: dict[str, bytes], **how) -> Repository:
        commit = hashlib.sha1(json.dumps([name, sorted(files)]).encode()).hexdigest()
        self.repositories[name] = Repository({commit: files}, **how)
        return self.repositories[name]


@contextmanager
def serve() -> Iterator[Hub]:
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("_Handler", (_Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_: object) -> None: ...

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(self.path.split("?")[0])
        self.hub.seen.append(f"{self.command} {path}")
        if self.hub.broken is not None:
            return self._fail(self.hub.broken, "", "out of order")
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if token and token not in self.hub.tokens:
            return self._fail(401, "", "Invalid credentials in Authorization header")
        info = re.fullmatch(r"/api/(?:model|dataset)s/([\w.-]+/[\w.-]+)(?:/(revision|tree)/([^/]+))?", path)
        file = re.fullmatch(r"(?:/datasets)?/([\w.-]+/[\w.-]+)/resolve/([^/]+)/(.+)", path)
        match = info or file
        if match is None:
            return self._fail(404, "", "no such page")
        repository = self.hub.repositories.get(match[1])
        kind = "dataset" if path.startswith(("/datasets/", "/api/datasets/")) else "model"
        if repository is None or repository.kind != kind or (repository.private and token not in repository.members):
            return self._fail(404 if token else 401, "RepoNotFound", "Repository not found")
        revision = (info[3] or "main") if info else file[2]
        commit = repository.main if revision == "main" else revision
        if commit not in repository.commits:
            return self._fail(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        files = repository.commits[commit]
        if info and info[2] == "tree":
            return self._json([_entry(name, content) for name, content in files.items()])
        if info:
            siblings = [{"rfilename": name} for name in files]
            return self._json({"id": match[1], "sha": commit, "siblings": siblings, "gated": repository.gated})
        if repository.gated and token not in repository.members:
            return self._fail(403 if token else 401, "GatedRepo", "Access to this repository is restricted")
        if file[3] not in files:
            return self._fail(404, "EntryNotFound", "Entry not found")
        self._file(repository, commit, file[3], files[file[3]])

    def _file(self, repository: Repository, commit: str, name: str, content: bytes) -> None:
        sent = repository.sent.get(name, content)
        entry = _entry(name, content)
        headers = {"X-Repo-Commit": commit, "ETag": f'"{entry.get("lfs", entry)["oid"]}"'}
        if "lfs" in entry:
            headers |= {"X-Linked-ETag": headers["ETag"], "X-Linked-Size": str(len(sent))}
        half = name in repository.cut and self.command == "GET"
        self._send(200, sent[: len(sent) // 2] if half else sent, headers, length=len(sent))
        if half:
            self.close_connection = True

    def _json(self, value: object) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _fail(self, status: int, code: str, message: str) -> None:
        headers = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})
        self._send(status, b"{}", headers)

    def _send(self, status: int, body: bytes, headers: dict[str, str], length: int | None = None) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


def _entry(name: str, content: bytes) -> dict:
    """A file of a tree; those that a hub keeps apart for their size have a SHA-256."""
    git = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    entry = {"type": "file", "path": name, "oid": git, "size": len(content)}
    if name.endswith((".bin", ".npz", ".safetensors")):
        entry["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 100}
    return entry
