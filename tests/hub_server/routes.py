"""What the Hub answers, address by address. Names and forms are those that the clients expect."""

from __future__ import annotations

import base64
import json
import re
from typing import Any
from urllib.parse import parse_qs, quote, urlencode

from .server import REPO, SITE, Answer, HubServer, Request, route
from .storage import PREFIXES, Blob, HubError, Repo, card_metadata, is_large

API = f"/api/{REPO}"
REVISION = "(?P<revision>[^/]+)"


# --- users and repositories


@route("GET", "/api/agent-harnesses")
def agent_harnesses(hub: HubServer, request: Request) -> Answer:
    """huggingface_hub asks once per machine and day, to name coding agents in its user agent."""
    return Answer.json({"standardEnvVars": [], "harnesses": {}})


@route("GET", "/api/whoami-v2")
def whoami(hub: HubServer, request: Request) -> Answer:
    name = signed_in(request)
    token = {"type": "access_token", "accessToken": {"displayName": "test", "role": "write"}}
    return Answer.json({"type": "user", "name": name, "fullname": name, "orgs": [], "auth": token})


@route("POST", "/api/validate-yaml")
def validate_yaml(hub: HubServer, request: Request) -> Answer:
    try:
        metadata = card_metadata(request.json["content"])
    except ValueError as error:
        return Answer.json({"errors": [{"message": str(error)}], "warnings": []}, 400)
    empty = [{"message": "empty or missing yaml metadata in repo card"}]
    return Answer.json({"errors": [], "warnings": [] if metadata else empty})


@route("POST", "/api/repos/create")
def create_repo(hub: HubServer, request: Request) -> Answer:
    user, wanted = signed_in(request), request.json
    kind, owner = wanted.get("type") or "model", wanted.get("organization") or user
    if owner != user:
        raise HubError(403, f"You don't have the rights to create a {kind} under the namespace {owner}")
    path = f"{PREFIXES[kind]}{owner}/{wanted['name']}"
    answer = {"url": f"{hub.url}/{path}", "name": f"{owner}/{wanted['name']}"}
    if path in hub.repos:
        return Answer.json({"error": f"You already created this {kind} repo"} | answer, 409)
    hub.create(kind, answer["name"], is_private(wanted))
    return Answer.json(answer)


@route("DELETE", "/api/repos/delete")
def delete_repo(hub: HubServer, request: Request) -> Answer:
    user, wanted = signed_in(request), request.json
    repo_id = f"{wanted.get('organization') or user}/{wanted['name']}"
    repo = hub.readable(wanted.get("type") or "model", repo_id, user)
    hub.check_write(repo, user)
    del hub.repos[repo.path]
    return Answer(b"OK")


@route("PUT", f"{API}/settings")
def settings(hub: HubServer, request: Request, repo: Repo) -> Answer:
    hub.check_write(repo, request.user)
    repo.private = is_private(request.json, repo.private)
    return Answer.json({"private": repo.private})


@route("GET", "/api/(?P<kind>models|datasets|spaces)")
def list_repos(hub: HubServer, request: Request, kind: str) -> Answer:
    author, search = request.query.get("author"), request.query.get("search", "").lower()
    found = [
        repo.describe("main")
        for repo in hub.repos.values()
        if repo.kind + "s" == kind
        and author in (None, repo.owner)
        and search in repo.id.lower()
        and (not repo.private or repo.owner == request.user)
    ]
    return page(hub, request, found)


@route("GET", f"{API}(?:/revision/{REVISION})?")
def repo_info(hub: HubServer, request: Request, repo: Repo, revision: str | None) -> Answer:
    return Answer.json(repo.describe(revision or "main", "blobs" in request.query))


# --- what is in a repository


@route("GET", f"{API}/tree/{REVISION}(?:/(?P<path>.*))?")
def tree(hub: HubServer, request: Request, repo: Repo, revision: str, path: str | None) -> Answer:
    commit = repo.find(revision)
    paths = commit.listing(path or "", request.query.get("recursive", "").lower() == "true")
    expand = request.query.get("expand", "").lower() == "true"
    return page(hub, request, [commit.describe(path, expand) for path in paths])


@route("POST", f"{API}/paths-info/{REVISION}")
def paths_info(hub: HubServer, request: Request, repo: Repo, revision: str) -> Answer:
    commit = repo.find(revision)
    if "json" in request.headers.get("Content-Type", ""):
        wanted = request.json
    else:
        form = parse_qs(request.body.decode())
        wanted = {"paths": form.get("paths", []), "expand": form.get("expand") == ["true"]}
    known = [path for path in wanted["paths"] if commit.under(path)]
    return Answer.json([commit.describe(path, bool(wanted.get("expand"))) for path in known])


@route("GET", f"{API}/commits/{REVISION}")
def commits(hub: HubServer, request: Request, repo: Repo, revision: str) -> Answer:
    history = [
        {"id": c.sha, "title": c.title, "message": c.message, "authors": [{"user": c.author}], "date": c.time}
        for c in repo.find(revision).history()
    ]
    return page(hub, request, history)


@route("GET", f"{API}/refs")
def refs(hub: HubServer, request: Request, repo: Repo) -> Answer:
    def under(prefix: str, shorten: bool = True) -> list[dict[str, str]]:
        return [
            {"name": ref.removeprefix(prefix) if shorten else ref, "ref": ref, "targetCommit": commit.sha}
            for ref, commit in repo.refs.items()
            if ref.startswith(prefix)
        ]

    found = {"branches": under("refs/heads/"), "tags": under("refs/tags/"), "converts": []}
    if "include_prs" in request.query:
        found["pullRequests"] = under("refs/pr/", shorten=False)
    return Answer.json(found)


@route("GET", f"{SITE}/resolve/{REVISION}/(?P<path>.*)")
def resolve(hub: HubServer, request: Request, repo: Repo, revision: str, path: str) -> Answer:
    """A file; a large one is a redirect to the storage host, with what the client wants to know of it."""
    commit = repo.find(revision)
    headers = {"X-Repo-Commit": commit.sha, "Accept-Ranges": "bytes"}
    blob = commit.tree.get(path)
    if blob is None:
        raise HubError(404, "Entry not found", "EntryNotFound", **headers)
    headers |= {"ETag": f'"{blob.oid}"', "Content-Disposition": f"inline; filename*=UTF-8''{quote(path, safe='')}"}
    if blob.large:
        headers |= {"X-Linked-Etag": f'"{blob.sha256}"', "X-Linked-Size": str(len(blob.data))}
        if hub.redirect_lfs:
            address = hub.sign("GET", f"/{repo.path}/large/{blob.sha256}/{quote(path, safe='')}")
            return Answer(status=302, headers=headers | {"Location": address})
    return content(request, blob, headers)


@route("GET", f"{SITE}/large/(?P<oid>[^/]+)/(?P<path>[^/]+)", signed=True)
def large_file(hub: HubServer, request: Request, repo: Repo, oid: str, path: str) -> Answer:
    if oid not in repo.large:
        raise HubError(404, "No such object")
    return content(request, repo.large[oid], {"ETag": f'"{oid}"', "Accept-Ranges": "bytes"})


# --- branches and tags


@route("POST", f"{API}/branch/(?P<name>[^/]+)")
def create_branch(hub: HubServer, request: Request, repo: Repo, name: str) -> Answer:
    return add_ref(hub, request, repo, f"refs/heads/{name}", request.json.get("startingPoint") or "main")


@route("POST", f"{API}/tag/{REVISION}")
def create_tag(hub: HubServer, request: Request, repo: Repo, revision: str) -> Answer:
    return add_ref(hub, request, repo, f"refs/tags/{request.json['tag']}", revision)


def add_ref(hub: HubServer, request: Request, repo: Repo, ref: str, start: str) -> Answer:
    hub.check_write(repo, request.user)
    if ref in repo.refs:
        raise HubError(409, f"Reference {ref} exists already")
    repo.refs[ref] = repo.find(start)
    return Answer(b"OK")


@route("DELETE", f"{API}/(?P<group>branch|tag)/(?P<name>[^/]+)")
def delete_ref(hub: HubServer, request: Request, repo: Repo, group: str, name: str) -> Answer:
    hub.check_write(repo, request.user)
    ref = f"refs/heads/{name}" if group == "branch" else f"refs/tags/{name}"
    if ref == "refs/heads/main":
        raise HubError(403, "The main branch cannot be deleted")
    if ref not in repo.refs:
        raise HubError(404, f"Invalid rev id: {name}", "RevisionNotFound")
    del repo.refs[ref]
    return Answer(b"OK")


# --- uploads


@route("POST", f"{API}/preupload/{REVISION}")
def preupload(hub: HubServer, request: Request, repo: Repo, revision: str) -> Answer:
    """How to send each file, and what is there under its name: what has not changed is then not sent."""
    check_push(hub, request, repo, revision)
    current = repo.find(revision).tree
    files = [
        {
            "path": file["path"],
            "uploadMode": "lfs" if is_large(file["path"], file["size"]) else "regular",
            "shouldIgnore": False,
            "oid": current[file["path"]].etag if file["path"] in current else None,
        }
        for file in request.json["files"]
    ]
    return Answer.json({"files": files})


@route("POST", rf"{SITE}\.git/info/lfs/objects/batch")
def lfs_batch(hub: HubServer, request: Request, repo: Repo) -> Answer:
    """Where to put each large file; nowhere if the repository has it. Readers may, for they may propose changes."""
    signed_in(request)
    objects: list[dict[str, Any]] = [{"oid": o["oid"], "size": o["size"]} for o in request.json["objects"]]
    for wanted in objects:
        if wanted["oid"] not in repo.large:
            upload = hub.sign("PUT", f"/{repo.path}/large/{quote(wanted['oid'], safe='')}")
            verify = f"{hub.url}/{repo.path}.git/info/lfs/objects/verify"
            wanted["actions"] = {"upload": {"href": upload}, "verify": {"href": verify}}
    answer = Answer.json({"transfer": "basic", "objects": objects})
    return Answer(answer.body, headers={"Content-Type": "application/vnd.git-lfs+json"})


@route("PUT", f"{SITE}/large/(?P<oid>[^/]+)", signed=True)
def lfs_upload(hub: HubServer, request: Request, repo: Repo, oid: str) -> Answer:
    blob = Blob(request.body, large=True)
    if blob.sha256 != oid:
        raise HubError(400, "The content does not match its hash")
    repo.large[oid] = blob
    return Answer()


@route("POST", rf"{SITE}\.git/info/lfs/objects/verify")
def lfs_verify(hub: HubServer, request: Request, repo: Repo) -> Answer:
    signed_in(request)
    blob = repo.large.get(request.json["oid"])
    if blob is None or len(blob.data) != request.json["size"]:
        raise HubError(404, "The object was not uploaded")
    return Answer.json({"message": "ok"})


@route("POST", f"{API}/commit/{REVISION}")
def commit(hub: HubServer, request: Request, repo: Repo, revision: str) -> Answer:
    check_push(hub, request, repo, revision)
    head, ref = repo.find(revision), repo.ref(revision)
    if ref is None or ref.startswith("refs/tags/"):
        raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
    try:
        lines = [json.loads(line) for line in request.body.splitlines() if line.strip()]
        (header,) = [line["value"] for line in lines if line["key"] == "header"]
    except ValueError as error:
        raise HubError(400, "The body is not lines of JSON with one header") from error
    if header.get("parentCommit") not in (None, head.sha):
        raise HubError(412, "A commit has happened since. Please refresh and try again.")

    changes: dict[str, Blob | None] = {}
    for line in lines:
        if line["key"] != "header":
            changes |= operation(repo, {p: b for p, b in ({**head.tree} | changes).items() if b}, **line)

    url = f"{hub.url}/{repo.path}"
    answer = {"success": True, "hookOutput": ""}
    if "create_pr" in request.query:
        number = len(repo.proposers) + 1
        ref = f"refs/pr/{number}"
        repo.refs[ref], repo.proposers[ref] = head, str(request.user)
        answer["pullRequestUrl"] = f"{url}/discussions/{number}"
    new = repo.commit(ref, changes, header["summary"], str(request.user), header.get("description") or "")
    return Answer.json(answer | {"commitOid": new.sha, "commitUrl": f"{url}/commit/{new.sha}"})


def operation(repo: Repo, files: dict[str, Blob], key: str, value: dict[str, Any]) -> dict[str, Blob | None]:
    """What one line of a commit changes in the files."""
    path = value["path"]
    if path.startswith("/") or {"", ".", "..", ".git"} & set(path.rstrip("/").split("/")):
        raise HubError(400, f"Invalid path: {path}")
    if key == "file":
        data = value["content"]
        return {path: Blob(base64.b64decode(data) if value.get("encoding") == "base64" else data.encode())}
    if key == "lfsFile":
        if value["oid"] not in repo.large:
            raise HubError(400, f"The LFS object {value['oid']} of {path} was never uploaded")
        return {path: repo.large[value["oid"]]}
    gone = [path] if key == "deletedFile" else [p for p in files if p.startswith(path.rstrip("/") + "/")]
    if key not in ("deletedFile", "deletedFolder"):
        raise HubError(400, f"Unknown operation: {key}")
    if not set(gone) & set(files):
        raise HubError(404, f"{path} does not exist", "EntryNotFound")
    return dict.fromkeys(gone)


# --- what several of them need


def signed_in(request: Request) -> str:
    if request.user is None:
        raise HubError(401, "Invalid username or password.")
    return request.user


def is_private(wanted: dict[str, Any], default: bool = False) -> bool:
    if "visibility" in wanted:
        return wanted["visibility"] == "private"
    return bool(wanted.get("private", default))


def check_push(hub: HubServer, request: Request, repo: Repo, revision: str) -> None:
    """Only the owner pushes; but every user may open a pull request, and push to their own."""
    if request.user is None or "create_pr" not in request.query:
        hub.check_write(repo, request.user, revision)


def page(hub: HubServer, request: Request, entries: list[Any]) -> Answer:
    """A part of a listing, with the address of the next one in the Link header."""
    start = int(request.query.get("cursor", 0))
    end = start + min(int(request.query.get("limit", hub.page_size)), hub.page_size)
    headers = {}
    if end < len(entries):
        following = urlencode(request.query | {"cursor": end})
        headers["Link"] = f'<{hub.url}{request.path}?{following}>; rel="next"'
    return Answer.json(entries[start:end], headers=headers)


def content(request: Request, blob: Blob, headers: dict[str, str]) -> Answer:
    """The whole of a file, or the range of bytes that was asked for."""
    headers = {"Content-Type": "application/octet-stream"} | headers
    size = len(blob.data)
    wanted = re.fullmatch(r"bytes=(\d*)-(\d*)", request.headers.get("Range", ""))
    if not wanted or wanted[0] == "bytes=-":
        return Answer(blob.data, headers=headers)
    first, last = wanted.groups()
    start = int(first) if first else max(size - int(last), 0)
    end = min(int(last), size - 1) if first and last else size - 1
    if start > end:
        raise HubError(416, "Range not satisfiable", **{"Content-Range": f"bytes */{size}"})
    return Answer(blob.data[start : end + 1], 206, headers | {"Content-Range": f"bytes {start}-{end}/{size}"})
