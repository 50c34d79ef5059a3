"""Hubs that are silent, slow or endless, and files that would have one asked."""

import re
import socket
import threading
import time
from contextlib import contextmanager

import pytest
from huggingface_hub import HfApi, get_session, set_client_factory
from huggingface_hub.utils import _http

from hf_scorevi import PosteriorCheckpointError, PushError
from hf_scorevi.hub import NoAnswerError, asking, push_checkpoint
from hf_scorevi.hub import network as module
from hf_scorevi.hub.network import without_network
from tests.hub.test_pushing import write
from tests.hub_server import Fault, HubServer, online

REPO = "user/tiny"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content")  # huggingface_hub's uploads make httpx2 say so


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(module, "SILENCE", 1.0)


@pytest.fixture
def hub(tmp_path):
    with HubServer() as hub, online(hub, tmp_path / "home"):
        yield hub


def silent_at(hub, pattern):
    """Let the Hub do what it is asked where that matches, and then say nothing for a minute."""
    answer = hub.answer

    def late(request, signed):
        found = answer(request, signed)
        if re.search(pattern, f"{request.method} {request.path}"):
            asked.append(request.path)
            time.sleep(60)
        return found

    asked = []
    hub.answer = late
    return asked


@contextmanager
def answering(*parts, pause=0.0):
    """The address of a server that sends these parts, with a pause before each, to whatever it is asked."""

    def serve():
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=send, args=(connection,), daemon=True).start()

    def send(connection):
        with connection:
            try:
                connection.recv(1 << 16)
                for part in parts:
                    time.sleep(pause)
                    connection.sendall(part)
                time.sleep(60)
            except OSError:
                pass

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/"


@contextmanager
def within(seconds):
    start = time.monotonic()
    yield
    assert time.monotonic() - start < seconds


# --- what a Hub may do


@pytest.mark.parametrize(
    ("parts", "pause", "message"),
    [
        ([], 0, "has not answered for 1 seconds"),
        ([HEAD + b"Content-Length: 9\r\n\r\n"], 0, "has not answered for 1 seconds"),
        ([HEAD + b"Content-Length: 900\r\n\r\n", *[b"x"] * 900], 0.1, r"no more than \d+ bytes in \d+ seconds"),
        ([HEAD + b"\r\n", *[b"x" * (1 << 20)] * 100], 0, "more than 67,108,864 bytes, and is none"),
        ([HEAD.replace(b"200 OK", b"429 No") + b"Retry-After: 99999\r\n\r\n"], 0, "to be left alone"),
        ([HEAD.replace(b"200 OK", b"429 No") + b'ratelimit: "api";r=0;t=99999\r\n\r\n'], 0, "to be left alone"),
    ],
    ids=["silence", "no body", "drop by drop", "endless", "wait", "rate limit"],
)
def test_every_wait_ends(hub, parts, pause, message):
    with answering(*parts, pause=pause) as url, within(30), asking(), pytest.raises(NoAnswerError, match=message):
        _http.http_backoff("GET", url)


def test_requests_without_end_end(hub):
    expected = pytest.raises(NoAnswerError, match="was asked 5,000 times")
    with answering(HEAD + b"Content-Length: 0\r\nConnection: close\r\n\r\n") as url, asking(), expected:
        module._talk.get().requests = 4990
        while True:
            get_session().get(url)


@pytest.mark.parametrize("header", ["ETag", "X-Linked-Etag", "X-Repo-Commit"])
@pytest.mark.parametrize("value", ["../../x", '"/etc/x"', 'W/"..\\x"'])
def test_names_in_the_cache_lead_nowhere_else(hub, header, value):
    told = f"{header}: {value}\r\nContent-Length: 0\r\n\r\n".encode()
    with answering(HEAD + told) as url, asking(), pytest.raises(OSError, match="which is none"):
        get_session().get(url)


def test_a_hub_that_is_slow_but_sure_is_waited_for(hub):
    body = [b'{"a": 1, "b": "' + b"x" * 200, *[b"x" * 100] * 9, b'"}']
    length = sum(map(len, body))
    with answering(HEAD + b"Content-Length: %d\r\n\r\n" % length, *body, pause=0.2) as url, asking():
        assert get_session().get(url).json()["a"] == 1


def test_others_wait_as_long_as_they_like(hub):
    with asking():
        pass
    response = get_session().get(hub.url)
    assert set(response.request.extensions["timeout"].values()) == {None}
    with asking():
        given = get_session().get(hub.url, timeout=7).request.extensions["timeout"]
        ours = get_session().get(hub.url).request.extensions["timeout"]
    assert set(given.values()) == {7} and set(ours.values()) == {1.0}


def test_a_client_of_the_user_s_own_stays_in_use_and_is_watched(hub, monkeypatch):
    made = []

    def factory():
        made.append(_http.default_client_factory())
        return made[-1]

    before = _http._GLOBAL_CLIENT_FACTORY
    set_client_factory(factory)
    try:
        with answering() as url, within(30), asking(), pytest.raises(NoAnswerError):
            get_session().get(url)
        assert len(made) == 1 and get_session() is made[0]
    finally:
        set_client_factory(before)


# --- pushes


@pytest.mark.parametrize(
    "pattern",
    [
        "POST /api/repos/create",
        "POST .*/branch/",
        "GET .*/tree/",
        "POST .*/preupload/",
        "POST .*/objects/batch",
        "PUT .*/large/",
        "POST .*/objects/verify",
        "POST .*/commit/",
    ],
)
def test_a_push_to_a_silent_hub_fails_once_and_says_how_to_go_on(hub, tmp_path, pattern, monkeypatch):
    monkeypatch.setattr("hf_scorevi.hub.card._draw", lambda *_: {})  # which takes longest
    folder = write(tmp_path / "own")
    before = {path.name: path.read_bytes() for path in folder.glob("*.safetensors")}
    answer = hub.answer
    asked = silent_at(hub, pattern)
    command = re.escape(f"hf-scorevi push {folder} {REPO}")
    with within(30), pytest.raises(PushError, match=rf"not answered for 1 seconds; what it was (?s:.*){command}"):
        push_checkpoint(folder, REPO, revision="draft")
    assert len(asked) == len(set(asked)) or "verify" in pattern  # two files are uploaded side by side
    assert {path.name: path.read_bytes() for path in folder.glob("*.safetensors")} == before
    hub.answer = answer
    monkeypatch.setattr(module, "SILENCE", 60.0)
    push_checkpoint(folder, REPO, revision="draft")


def test_a_conflict_that_never_ends_ends(hub, tmp_path, monkeypatch):
    """huggingface_hub asks again at once, as long as it is told this."""
    monkeypatch.setattr(module, "SILENCE", 60.0)
    monkeypatch.setattr(module, "_MOST_REQUESTS", 20)
    answer = hub.answer

    def conflict(request, signed):
        found = answer(request, signed)
        if "create" in request.path:
            found.status, found.body = 409, b"Cannot create repo: another conflicting operation is in progress"
        return found

    hub.answer = conflict
    with within(30), pytest.raises(PushError, match="was asked 20 times, and no end is in sight"):
        push_checkpoint(write(tmp_path / "own"), REPO)


# --- no Hub at all


def test_nothing_is_asked_while_a_model_is_built(hub, tmp_path):
    expected = pytest.raises(PosteriorCheckpointError, match=r"config\.json names another repository.*user/evil")
    with expected, without_network(tmp_path / "config.json"):
        HfApi().repo_exists("user/evil")
    assert not hub.requests


def test_other_threads_may_ask_meanwhile(hub, tmp_path):
    found = []
    with without_network(tmp_path / "config.json"):
        other = threading.Thread(target=lambda: found.append(HfApi().repo_exists("user/other")))
        other.start()
        other.join()
    assert found == [False]
    assert not HfApi().repo_exists("user/other")


def test_faults_that_pass_are_still_tried_again(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SILENCE", 60.0)
    hub.faults += [Fault("POST .*/objects/batch", status=503), Fault("PUT .*/large/", drop=True, after_bytes=10)]
    push_checkpoint(write(tmp_path / "own"), REPO)
    assert [fault.times for fault in hub.faults] == [0, 0]
