"""A Hugging Face Hub on the loopback: the calls of its protocol by which a client finds, fetches and uploads files."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

TOKEN = "hf_test"
Files = dict[str, bytes]


@dataclass
class Repository:
    """Commits by their hashes, and what branches point at.

    Attributes:
        access: Who may read it: ``"all"``, those with a ``"token"``, or nobody, since it is ``"gated"``.
    """

    access: str = "all"
    commits: dict[str, Files] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)

    def commit(self, branch: str, files: Files) -> str:
        content = {**self.commits.get(self.branches.get(branch, ""), {}), **files}
        name = hashlib.sha1(repr((len(self.commits), sorted(content.items()))).encode()).hexdigest()
        self.commits[name], self.branches[branch] = content, name
        return name


class Hub:
    """The server.

    Attributes:
        repositories: By their names.
        refused: Calls that are answered by an error of the server, as the beginning of their paths.
        tokens: The tokens of all calls so far.
        endpoint: Its URL.
    """

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.large: Files = {}
        self.refused: tuple[str, ...] = ()
        self.tokens: set[str | None] = set()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def add(self, name: str, files: Files, access: str = "all") -> str:
        """Make a repository, or a commit on its main branch."""
        repository = self.repositories.setdefault(name, Repository(access))
        return repository.commit("main", files)

    def files(self, name: str, branch: str = "main") -> Files:
        repository = self.repositories[name]
        return repository.commits[repository.branches[branch]]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Error(Exception):
    def __init__(self, status: int, code: str = "", message: str = "", **body: str) -> None:
        self.status, self.headers, self.body = status, {"X-Error-Code": code, "X-Error-Message": message}, body


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args: Any) -> None:
            pass

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            token = (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None
            hub.tokens.add(token)
            url = urlsplit(self.path)
            status, headers, content = 200, {}, b""
            try:
                if hub.refused and url.path.startswith(hub.refused):
                    raise _Error(403, message="not today")
                result = _route(hub, self.command, url.path, parse_qs(url.query), body, token)
                content, headers = result if isinstance(result, tuple) else (json.dumps(result).encode(), {})
            except _Error as error:
                status, headers, content = error.status, error.headers, json.dumps(error.body).encode()
            self.send_response(status)
            for name, value in {"Content-Length": len(content), **headers}.items():
                self.send_header(name, str(value))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

    for method in ("GET", "HEAD", "POST", "PUT"):
        setattr(Handler, f"do_{method}", Handler.answer)
    return Handler


def _route(hub: Hub, method: str, path: str, query: dict[str, list[str]], body: bytes, token: str | None) -> Any:
    name = "(?P<name>[^/]+/[^/]+)"
    if path == "/api/validate-yaml":
        return {"errors": [], "warnings": []}
    if method in ("POST", "PUT") and not path.startswith("/large/") and token != TOKEN:
        raise _Error(401, message="Invalid username or password.")
    if path == "/api/repos/create":
        asked = json.loads(body)
        full = f"{asked['organization'] or 'ann'}/{asked['name']}"
        url = f"{hub.endpoint}/{full}"
        if full in hub.repositories:
            raise _Error(409, message="You already created this model repo", url=url)
        private = asked.get("private") or asked.get("visibility") == "private"
        hub.add(full, {".gitattributes": b""}, "token" if private else "all")
        return {"url": url, "name": full}
    if found := re.fullmatch(f"/{name}\\.git/info/lfs/objects/batch", path):
        return {"transfer": "basic", "objects": [_upload(hub, each) for each in json.loads(body)["objects"]]}
    if path.startswith("/large/"):
        assert hashlib.sha256(body).hexdigest() == path.removeprefix("/large/")
        hub.large[path.removeprefix("/large/")] = body
        return {}
    if found := re.fullmatch(f"/api/models/{name}(?:/(?P<what>[a-z]+)/(?P<revision>.+))?", path):
        repository = _repository(hub, found["name"], token)
        revision = unquote((found["revision"] or "main").partition("/")[0])
        return _api(hub, repository, found["name"], found["what"], revision, query, body)
    if found := re.fullmatch(f"/{name}/resolve/(?P<revision>[^/]+)/(?P<file>.+)", path):
        commit = _commit(_repository(hub, found["name"], token), unquote(found["revision"]))
        content = hub.repositories[found["name"]].commits[commit].get(unquote(found["file"]))
        if content is None:
            raise _Error(404, "EntryNotFound", "Entry not found")
        return content, {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": commit}
    raise _Error(404)


def _repository(hub: Hub, name: str, token: str | None) -> Repository:
    repository = hub.repositories.get(name)
    if repository is None or (repository.access == "token" and token != TOKEN):
        raise _Error(404 if token else 401, "RepoNotFound", "Repository not found")
    if repository.access == "gated":
        raise _Error(403, "GatedRepo", "Access to this model is restricted")
    return repository


def _commit(repository: Repository, revision: str) -> str:
    commit = repository.branches.get(revision, revision)
    if commit not in repository.commits:
        raise _Error(404, "RevisionNotFound", "Invalid rev id")
    return commit


def _api(
    hub: Hub, repository: Repository, name: str, what: str | None, revision: str, query: dict[str, Any], body: bytes
) -> Any:
    if what == "branch":
        if revision in repository.branches:
            raise _Error(409, message="Reference already exists")
        repository.branches[revision] = repository.branches["main"]
        return {}
    commit = _commit(repository, revision)
    files = repository.commits[commit]
    if what in (None, "revision"):
        return {"_id": "1", "id": name, "sha": commit, "siblings": [{"rfilename": file} for file in files]}
    if what == "tree":
        return [_described(file, content) for file, content in files.items()]
    if what == "preupload":
        asked = json.loads(body)["files"]
        modes = {each["path"]: "lfs" if each["path"].endswith(".onebit") else "regular" for each in asked}
        return {"files": [{"path": p, "uploadMode": mode, "shouldIgnore": False} for p, mode in modes.items()]}
    assert what == "commit"
    lines = [json.loads(line) for line in body.splitlines()]
    added = {each["value"]["path"]: _content(hub, each["value"]) for each in lines if each["key"] != "header"}
    proposal = "create_pr" in query
    made = repository.commit("refs/pr/1" if proposal else revision, added)
    page = f"{hub.endpoint}/{name}"
    return {"commitUrl": f"{page}/commit/{made}", "commitOid": made, "pullRequestUrl": f"{page}/discussions/1"}


def _content(hub: Hub, value: dict[str, Any]) -> bytes:
    return base64.b64decode(value["content"]) if "content" in value else hub.large[value["oid"]]


def _upload(hub: Hub, asked: dict[str, Any]) -> dict[str, Any]:
    actions = {} if asked["oid"] in hub.large else {"upload": {"href": f"{hub.endpoint}/large/{asked['oid']}"}}
    return {**asked, "actions": actions} if actions else asked


def _described(file: str, content: bytes) -> dict[str, Any]:
    return {"type": "file", "path": file, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
