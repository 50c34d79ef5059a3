"""The Hub over HTTP: sockets, faults and who may do what. What each address answers is in ``routes``."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
import socket
import string
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qs, quote, unquote

from .storage import PREFIXES, Blob, HubError, Repo, is_large


class Record(NamedTuple):
    """A request that was answered. ``status`` is 0 where the connection was dropped; tokens are never kept."""

    method: str
    path: str  # as sent, percent signs included, without the query
    status: int
    user: str | None
    query: str = ""  # without signatures


@dataclass
class Fault:
    """What goes wrong with the next ``times`` requests that match; ``met`` says with how many it did.

    Args:
        match: a regular expression, searched in ``METHOD /path?query``, or a function of method and path.
        status: answer this, with ``headers``, and do nothing else.
        drop: close the connection without an answer, once ``after_bytes`` of the request's body were read.
        truncate: send this many bytes of a download, announce all of them, and close the connection.
        corrupt: change one byte of a download.
    """

    match: str | Callable[[str, str], bool]
    status: int | None = None
    times: int = 1
    headers: Mapping[str, str] = field(default_factory=dict)
    drop: bool = False
    after_bytes: int = 0
    truncate: int | None = None
    corrupt: bool = False
    met: int = field(default=0, init=False)

    @property
    def of_content(self) -> bool:
        """Whether it waits for an answer that has content to spoil."""
        return self.truncate is not None or self.corrupt

    def matches(self, record: Record) -> bool:
        if callable(self.match):
            return self.match(record.method, record.path)
        target = f"{record.path}?{record.query}" if record.query else record.path
        return re.search(self.match, f"{record.method} {target}") is not None


@dataclass
class Request:
    """What a route sees of a request."""

    path: str
    method: str
    query: dict[str, str]
    headers: Message
    body: bytes
    user: str | None

    @property
    def json(self) -> Any:
        try:
            return json.loads(self.body)
        except ValueError as error:
            raise HubError(400, "The body is not JSON") from error


@dataclass
class Answer:
    """What a route says."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)

    @classmethod
    def json(cls, value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
        return cls(json.dumps(value).encode(), status, {"Content-Type": "application/json", **(headers or {})})

    @classmethod
    def refusal(cls, error: HubError) -> Answer:
        return cls.json({"error": str(error)}, error.status, error.headers)


class Route(NamedTuple):
    method: str
    pattern: re.Pattern[str]
    answer: Callable[..., Answer]
    signed: bool  # served by the storage host to whoever has the address, and not by the Hub


HEADER_CHARACTERS = string.ascii_letters + string.digits + string.punctuation + " "
ROUTES: list[Route] = []
REPO = r"(?P<kind>models|datasets|spaces)/(?P<id>[^/]+/[^/]+)"
SITE = r"/(?:(?P<kind>datasets|spaces)/)?(?P<id>[^/]+/[^/]+?)"


def route(method: str, pattern: str, signed: bool = False) -> Callable[[Callable[..., Answer]], Callable[..., Answer]]:
    """Register a function of the hub, the request and what is named in ``pattern``; kind and id become the repo."""

    def register(function: Callable[..., Answer]) -> Callable[..., Answer]:
        ROUTES.append(Route(method, re.compile(pattern), function, signed))
        return function

    return register


class HubServer:
    """A Hub on this machine, for the time of a ``with`` block.

    Args:
        port: of the Hub; a free one if 0. Large files are at another port, as the Hub keeps them on another host.
        page_size: most entries of one page of a listing.
        redirect_lfs: whether a large file is a redirect to the storage host, as on the Hub, or comes at once.
        log: takes a line about every request.
    """

    def __init__(
        self,
        port: int = 0,
        page_size: int = 1000,
        redirect_lfs: bool = True,
        log: Callable[[str], None] | None = None,
    ) -> None:
        self.page_size, self.redirect_lfs, self.log = page_size, redirect_lfs, log
        self.repos: dict[str, Repo] = {}  # by path: "user/model", "datasets/user/data", "spaces/user/space"
        self.users: dict[str, str] = {}  # by token
        self.requests: list[Record] = []
        self.faults: list[Fault] = []
        self.lock = threading.RLock()  # around everything above
        self.token = self.add_user("user")
        self._secret = secrets.token_bytes(16)
        self._servers = [_Server(self, port, signed=False), _Server(self, 0, signed=True)]
        self.url, self.storage_url = (f"http://127.0.0.1:{server.server_port}" for server in self._servers)

    def __enter__(self) -> HubServer:
        for server in self._servers:
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None = None, *_: object) -> None:
        for server in self._servers:
            server.stop()
        if kind is None:
            self.mend()

    def mend(self) -> None:
        """Nothing goes wrong any more; a fault that no request has met is an ``AssertionError``."""
        faults, self.faults = self.faults, []
        for fault in faults:
            assert fault.met, f"No request has met {fault}."

    def add_user(self, name: str) -> str:
        """The token of a user, who is made if need be."""
        with self.lock:
            if name not in self.users.values():
                token = "hf_" + "".join(secrets.choice(string.ascii_letters) for _ in range(34))
                self.users[token] = name
            return next(token for token, user in self.users.items() if user == name)

    def create(self, kind: str, repo_id: str, private: bool = False) -> Repo:
        """A new repository, with the commit of .gitattributes that each begins with."""
        repo = Repo(kind, repo_id, private)
        self.repos[repo.path] = repo
        return repo

    def commit(
        self,
        repo_id: str,
        files: Mapping[str, bytes | str],
        *,
        message: str = "Commit behind the scenes",
        branch: str = "main",
        delete: tuple[str, ...] = (),
        kind: str = "model",
        private: bool = False,
    ) -> str:
        """Commit without HTTP and without its checks, so that names and contents may be malicious; gives the sha.

        The repository, public unless ``private``, and the branch are made if need be.
        """
        with self.lock:
            repo = self.repos.get(PREFIXES[kind] + repo_id) or self.create(kind, repo_id, private)
            ref = f"refs/heads/{branch}"
            repo.refs.setdefault(ref, repo.find("main"))
            changes: dict[str, Blob | None] = dict.fromkeys(delete)
            for name, content in files.items():
                data = content.encode() if isinstance(content, str) else bytes(content)
                changes[name] = Blob(data, is_large(name, len(data)))
            return repo.commit(ref, changes, message, repo.owner).sha

    def readable(self, kind: str, repo_id: str, user: str | None) -> Repo:
        """The repository, if the user may know of it; otherwise the same answer as if there were none."""
        repo = self.repos.get(PREFIXES[kind] + repo_id)
        if repo and (not repo.private or user == repo.owner):
            return repo
        if user:
            raise HubError(404, "Repository not found", "RepoNotFound")
        raise HubError(401, "Invalid username or password.", "RepoNotFound")

    @staticmethod
    def check_write(repo: Repo, user: str | None, ref: str | None = None) -> None:
        """Refuse who may not change the repository, or may not push to that pull request."""
        if user is None:
            raise HubError(401, "Invalid username or password.", "RepoNotFound")
        if user not in (repo.owner, repo.proposers.get(ref or "")):
            raise HubError(403, f"You don't have the rights to write to {repo.id}")

    def sign(self, method: str, path: str) -> str:
        """An address at the storage host that allows one method to whoever knows it."""
        return f"{self.storage_url}{path}?signature={self._signature(method, path)}"

    def _signature(self, method: str, path: str) -> str:
        return hmac.new(self._secret, f"{method} {path}".encode(), hashlib.sha256).hexdigest()

    def take_fault(self, record: Record, of_content: bool) -> Fault | None:
        """The first fault that hits this request, counted as used once more."""
        with self.lock:
            for fault in self.faults:
                if fault.times > 0 and fault.of_content == of_content and fault.matches(record):
                    fault.times -= 1
                    fault.met += 1
                    return fault
        return None

    def answer(self, request: Request, signed: bool) -> Answer:
        """What the Hub, or its storage host, says to a request."""
        method = "GET" if request.method == "HEAD" else request.method
        try:
            if signed:
                self._check_signature(request, method)
            for known in ROUTES:
                match = known.pattern.fullmatch(request.path)
                if match and known.method == method and known.signed == signed:
                    with self.lock:
                        return known.answer(self, request, **self._named(request, match.groupdict(), signed))
            code = "RepoNotFound" if re.search(r"^/api/(models|datasets|spaces)/|/resolve/", request.path) else None
            raise HubError(404, "Not found", code)
        except HubError as error:
            return Answer.refusal(error)

    def _named(self, request: Request, groups: dict[str, str | None], signed: bool) -> dict[str, Any]:
        """The arguments of a route, with a repository that the user may read in place of its kind and id."""
        values = {name: unquote(value) if value else value for name, value in groups.items()}
        if "id" in values:
            kind = (values.pop("kind") or "models").removesuffix("s")
            repo_id = str(values.pop("id"))
            owner = repo_id.split("/")[0]  # a signature is as good as the owner's token
            return {"repo": self.readable(kind, repo_id, owner if signed else request.user), **values}
        return values

    def _check_signature(self, request: Request, method: str) -> None:
        if "Authorization" in request.headers:  # as at S3, which also notices a token that should have stayed away
            raise HubError(400, "Only one auth mechanism allowed")
        if not hmac.compare_digest(request.query.get("signature", ""), self._signature(method, request.path)):
            raise HubError(403, "Wrong signature")


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, hub: HubServer, port: int, signed: bool) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.hub, self.signed = hub, signed
        self.connections: set[socket.socket] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # clients may go away
            super().handle_error(request, client_address)

    def stop(self) -> None:
        """Also end the connections that clients keep open, so that nobody is answered any more."""
        self.shutdown()
        self.server_close()
        for connection in list(self.connections):
            with suppress(OSError):  # it was just closed
                connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # headers and body go in two writes: the second would wait for 40 ms
    server: _Server

    def do_GET(self) -> None:
        hub = self.server.hub
        path, _, raw_query = self.path.partition("?")
        query = {key: values[-1] for key, values in parse_qs(raw_query).items()}
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        shown = "&".join(part for part in raw_query.split("&") if not part.startswith("signature="))
        record = Record(self.command, path, 0, hub.users.get(token), shown)

        fault = hub.take_fault(record, of_content=False)
        if fault and fault.drop:
            b"".join(self._body(fault.after_bytes))
            self._note(record)
            self.close_connection = True
            return
        body = b"".join(self._body())
        request = Request(path, self.command, query, self.headers, body, record.user)
        if fault:
            answer = Answer.json({"error": "made to fail"}, fault.status or 500, fault.headers)
        elif token and not record.user and not self.server.signed:
            answer = Answer.refusal(
                HubError(401, "Invalid credentials in Authorization header")
            )  # for public ones too
        else:
            answer = hub.answer(request, self.server.signed)
        self._note(record._replace(status=answer.status))
        self._send(answer, record)

    do_HEAD = do_POST = do_PUT = do_DELETE = do_GET

    def _body(self, most: float = float("inf")) -> Iterator[bytes]:
        """The request's body, or what it begins with, of announced length or in chunks."""
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            while most > 0 and (size := int(self.rfile.readline().split(b";")[0], 16)):
                yield self.rfile.read(size)
                self.rfile.readline()
                most -= size
            if most > 0:
                self.rfile.readline()
        else:
            yield self.rfile.read(int(min(most, int(self.headers.get("Content-Length", 0)))))

    def _note(self, record: Record) -> None:
        hub = self.server.hub
        with hub.lock:
            hub.requests.append(record)
        if hub.log:
            target = f"{record.path}?{record.query}" if record.query else record.path
            hub.log(f"{record.method} {target} {record.status or 'dropped'} {record.user or '-'}")

    def _send(self, answer: Answer, record: Record) -> None:
        content = answer.body if self.command != "HEAD" else b""
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, quote(value, safe=HEADER_CHARACTERS))
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if content and answer.status in (200, 206) and (fault := self.server.hub.take_fault(record, of_content=True)):
            middle = len(content) // 2
            if fault.corrupt:
                content = content[:middle] + bytes([content[middle] ^ 0xFF]) + content[middle + 1 :]
            if fault.truncate is not None:
                content = content[: fault.truncate]
                self.close_connection = True
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing: ``HubServer.log`` is told."""
