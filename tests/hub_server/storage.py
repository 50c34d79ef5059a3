"""What a Hub keeps: repositories with their commits, branches, tags and pull requests, all of it in memory."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any

import yaml

PREFIXES = {"model": "", "dataset": "datasets/", "space": "spaces/"}  # of a repository's address, as on the Hub
LFS_SUFFIXES = (".safetensors", ".bin", ".png", ".parquet")
LFS_SIZE = 1_000_000


class HubError(Exception):
    """An answer that refuses: its status, the code that tells the client which exception to raise, and why."""

    def __init__(self, status: int, message: str, code: str | None = None, **headers: str) -> None:
        super().__init__(message)
        self.status = status
        self.headers = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {}) | headers


def is_large(path: str, size: int) -> bool:
    """Whether a file goes to large file storage; an empty one cannot."""
    return size > LFS_SIZE or (size > 0 and path.endswith(LFS_SUFFIXES))


@dataclass(frozen=True)
class Blob:
    """The content of a file."""

    data: bytes
    large: bool = False

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    @property
    def pointer(self) -> bytes:
        """What git itself holds of a large file."""
        return (
            f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {len(self.data)}\n".encode()
        )

    @cached_property
    def oid(self) -> str:
        """The name that git gives it."""
        data = self.pointer if self.large else self.data
        return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()

    @property
    def etag(self) -> str:
        """The name that clients compare and store it under."""
        return self.sha256 if self.large else self.oid


@dataclass(frozen=True, eq=False)
class Commit:
    """A state of all files, and how it came about."""

    title: str
    message: str
    author: str
    parent: Commit | None
    tree: Mapping[str, Blob]
    date: datetime = field(default_factory=lambda: datetime.now(UTC))

    @cached_property
    def sha(self) -> str:
        files = sorted((path, blob.oid) for path, blob in self.tree.items())
        known = (self.parent and self.parent.sha, self.title, self.message, self.author, str(self.date), files)
        return hashlib.sha1(repr(known).encode()).hexdigest()

    @property
    def time(self) -> str:
        return self.date.strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    def history(self) -> Iterator[Commit]:
        """This commit and those before it, the newest first."""
        commit: Commit | None = self
        while commit:
            yield commit
            commit = commit.parent

    def under(self, path: str) -> dict[str, Blob]:
        """The file of that name, or the files in the folder of that name."""
        return {p: blob for p, blob in self.tree.items() if not path or p == path or p.startswith(path + "/")}

    def folders(self) -> set[str]:
        return {str(parent) for path in self.tree for parent in PurePosixPath(path).parents} - {".", "/"}

    def describe(self, path: str, expand: bool = False) -> dict[str, Any]:
        """The entry of a file or folder in a listing."""
        files = self.under(path)
        if blob := self.tree.get(path):
            entry: dict[str, Any] = {"type": "file", "oid": blob.oid, "size": len(blob.data), "path": path}
            if blob.large:
                entry["lfs"] = {"oid": blob.sha256, "size": len(blob.data), "pointerSize": len(blob.pointer)}
        else:
            content = repr(sorted((p, b.oid) for p, b in files.items())).encode()
            entry = {"type": "directory", "oid": hashlib.sha1(content).hexdigest(), "size": 0, "path": path}
        if expand:
            *_, last = (c for c in self._unchanged_since(path, files))
            entry["lastCommit"] = {"id": last.sha, "title": last.title, "date": last.time}
        return entry

    def _unchanged_since(self, path: str, files: dict[str, Blob]) -> Iterator[Commit]:
        for commit in self.history():
            if commit.under(path) != files:
                return
            yield commit

    def listing(self, path: str = "", recursive: bool = False) -> list[str]:
        """The files and folders in a folder, folders first."""
        folders = self.folders()
        if path and path not in folders:
            raise HubError(404, "Entry not found", "EntryNotFound", **{"X-Repo-Commit": self.sha})
        inside = [p for p in folders | set(self.tree) if not path or p.startswith(path + "/")]
        if not recursive:
            inside = [p for p in inside if str(PurePosixPath(p).parent) in {path or ".", path or "/"}]
        return sorted(inside, key=lambda p: (p in self.tree, p))

    @cached_property
    def card(self) -> dict[str, Any]:
        """The metadata at the top of README.md; empty where that is missing or broken."""
        try:
            return card_metadata(self.tree["README.md"].data.decode(errors="replace"))
        except (KeyError, ValueError):
            return {}


def card_metadata(text: str) -> dict[str, Any]:
    """The YAML block between two lines of dashes that a card begins with."""
    block = re.match(r"\s*---[ \t]*\r?\n(.*?)^---[ \t]*$", text, re.DOTALL | re.MULTILINE)
    try:
        metadata = (yaml.safe_load(block[1]) if block else None) or {}
    except yaml.YAMLError as error:
        raise ValueError(f"YAML Metadata Error: {error}") from error
    if not isinstance(metadata, dict):
        raise ValueError("YAML Metadata Error: it should be a mapping")
    return metadata


@dataclass
class Repo:
    """A repository. ``refs`` maps a full git name, as ``refs/heads/main``, to its commit."""

    kind: str
    id: str
    private: bool = False
    refs: dict[str, Commit] = field(default_factory=dict)
    commits: dict[str, Commit] = field(default_factory=dict)
    large: dict[str, Blob] = field(default_factory=dict)  # by sha256, also before a commit names them
    proposers: dict[str, str] = field(default_factory=dict)  # who opened the pull request of a ref

    def __post_init__(self) -> None:
        attributes = "".join(f"*{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in LFS_SUFFIXES)
        self.commit("refs/heads/main", {".gitattributes": Blob(attributes.encode())}, "initial commit", self.owner)

    @property
    def owner(self) -> str:
        return self.id.split("/")[0]

    @property
    def path(self) -> str:
        """Its address below the Hub's."""
        return PREFIXES[self.kind] + self.id

    def ref(self, revision: str) -> str | None:
        """The full name of a branch, tag or pull request."""
        names = (revision, f"refs/heads/{revision}", f"refs/tags/{revision}")
        return next((name for name in names if name in self.refs), None)

    def find(self, revision: str) -> Commit:
        """The commit that a branch, tag, pull request or sha means."""
        if name := self.ref(revision):
            return self.refs[name]
        if revision in self.commits:
            return self.commits[revision]
        raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")

    def commit(
        self, ref: str, changes: Mapping[str, Blob | None], title: str, author: str, message: str = ""
    ) -> Commit:
        """Put a new commit on a branch or pull request; a file that changes to None is deleted."""
        parent = self.refs.get(ref)
        tree = {**(parent.tree if parent else {}), **changes}
        commit = Commit(title, message, author, parent, {path: blob for path, blob in tree.items() if blob})
        self.commits[commit.sha] = self.refs[ref] = commit
        self.large |= {blob.sha256: blob for blob in commit.tree.values() if blob.large}
        return commit

    def describe(self, revision: str, sizes: bool = False) -> dict[str, Any]:
        """What the Hub tells about a repository."""
        commit, first = self.find(revision), [*self.refs["refs/heads/main"].history()][-1]
        siblings = []
        for path, blob in sorted(commit.tree.items()):
            sibling: dict[str, Any] = {"rfilename": path}
            if sizes:
                sibling |= {"size": len(blob.data), "blobId": blob.oid}
                if blob.large:
                    entry = {"sha256": blob.sha256, "size": len(blob.data), "pointerSize": len(blob.pointer)}
                    sibling["lfs"] = entry
            siblings.append(sibling)
        card = json.loads(json.dumps(commit.card, default=str))  # YAML knows dates, JSON does not
        info = {
            "_id": hashlib.sha1(self.path.encode()).hexdigest()[:24],
            "id": self.id,
            "author": self.owner,
            "sha": commit.sha,
            "lastModified": commit.time,
            "createdAt": first.time,
            "private": self.private,
            "gated": False,
            "disabled": False,
            "downloads": 0,
            "likes": 0,
            "tags": self._tags(card, library := self._library(commit)),
            "siblings": siblings,
            "cardData": card,
        }
        if self.kind == "model":
            named = {"library_name": library, "pipeline_tag": card.get("pipeline_tag")}
            info |= {"modelId": self.id, "model-index": card.get("model-index")}
            info |= {key: value for key, value in named.items() if value}
        return info

    @staticmethod
    def _library(commit: Commit) -> str | None:
        guesses = {"adapter_config.json": "peft", "config.json": "transformers"}
        guess = next((library for name, library in guesses.items() if name in commit.tree), None)
        return commit.card.get("library_name") or guess

    @staticmethod
    def _tags(card: dict[str, Any], library: str | None) -> list[str]:
        """The card's own tags and those that the Hub makes of its other fields."""
        tags = [library] if library else []
        fields = {"tags": "", "datasets": "dataset:", "base_model": "base_model:", "license": "license:"}
        for name, prefix in fields.items():
            values = card.get(name) or []
            tags += [f"{prefix}{value}" for value in (values if isinstance(values, list) else [values])]
        return list(dict.fromkeys(tags))
