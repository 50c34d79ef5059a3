"""The local Hub, as the unmodified clients see it."""

from __future__ import annotations

import hashlib
import io
import json
import signal
import subprocess
import sys
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationDelete,
    HfApi,
    ModelCard,
    constants,
    get_session,
    hf_hub_download,
    hf_hub_url,
    metadata_eval_result,
    metadata_update,
)
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import httpx
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForImageClassification

from tests.hub_server import Fault, HubServer, online, run_client
from tests.tiny_models import tiny_vit

REPO = "user/model"
CARD = "---\nlicense: mit\ntags: [bayesian]\ndatasets: [user/data]\nbase_model: user/base\n---\n# A model\n"
WEIGHTS = bytes(range(256)) * 5_000

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content")  # huggingface_hub's uploads make httpx2 say so


@pytest.fixture
def hub():
    with HubServer() as hub:
        yield hub


@pytest.fixture
def client(hub, tmp_path):
    with online(hub, tmp_path / "home") as client:
        yield client


@pytest.fixture
def api(client):
    return HfApi()


@pytest.fixture
def folder(tmp_path):
    """Small and large files, some of them deeper down and with names that need quoting."""
    folder = tmp_path / "folder"
    for name, content in {
        "README.md": CARD.encode(),
        "config.json": b"{}",
        "empty.safetensors": b"",
        "model.safetensors": WEIGHTS,
        "sub folder/höher & #1?.txt": b"quoted",
        "sub folder/deep/a%20b+.bin": b"percent",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture
def pushed(api, folder):
    """The commit of that folder to a new repository."""
    api.create_repo(REPO)
    return api.upload_folder(repo_id=REPO, folder_path=folder, commit_message="First", commit_description="of all")


def contents(folder):
    """All files of a folder, but for .gitattributes, which the Hub adds."""
    files = [path for path in Path(folder).rglob("*") if path.is_file() and path.name != ".gitattributes"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def asked(hub, method, path=""):
    return [record for record in hub.requests if record.method == method and path in record.path]


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def status_of(call, *args, **kwargs):
    """The status that the client complains of."""
    with pytest.raises(HfHubHTTPError) as caught:
        call(*args, **kwargs)
    return caught.value.response.status_code


# --- repositories


def test_repositories_are_created_once_listed_and_deleted(hub, api):
    assert api.create_repo("model").repo_id == REPO  # under the name of the user
    data = api.create_repo("user/data", repo_type="dataset", private=True)
    assert (data.repo_id, data.repo_type, data.endpoint) == ("user/data", "dataset", hub.url)
    assert set(hub.repos) == {REPO, "datasets/user/data"} and hub.repos["datasets/user/data"].private
    assert status_of(api.create_repo, REPO) == 409
    assert api.create_repo(REPO, exist_ok=True).repo_id == REPO
    assert [model.id for model in api.list_models(author="user")] == [REPO]
    assert [data.id for data in api.list_datasets(search="DAT")] == ["user/data"]
    assert api.whoami()["name"] == "user"
    api.delete_repo(REPO)
    assert not api.repo_exists(REPO) and api.repo_exists("user/data", repo_type="dataset")
    with pytest.raises(RepositoryNotFoundError):
        api.delete_repo(REPO)


def test_private_repositories_do_not_exist_for_others(hub, api):
    hub.commit(REPO, {"config.json": "{}"}, private=True)
    strangers = HfApi(token=False), HfApi(token=hub.add_user("eve"))
    assert [status_of(stranger.model_info, REPO) for stranger in strangers] == [401, 404]
    for stranger in strangers:
        for call in stranger.model_info, stranger.list_repo_files, stranger.list_repo_refs, stranger.create_branch:
            with pytest.raises(RepositoryNotFoundError):
                call(REPO, **({"branch": "mine"} if call == stranger.create_branch else {}))
        with pytest.raises(RepositoryNotFoundError):
            stranger.hf_hub_download(REPO, "config.json")
        assert not [*stranger.list_models()]
    assert api.model_info(REPO).private
    api.update_repo_settings(REPO, private=False)
    assert not strangers[0].model_info(REPO).private


def test_only_the_owner_writes(hub, api):
    hub.commit(REPO, {"a.txt": "a"})
    upload = {"path_or_fileobj": b"x", "path_in_repo": "x.txt", "repo_id": REPO}
    assert status_of(HfApi(token=False).upload_file, **upload) == 401
    eve, nobody = HfApi(token=hub.add_user("eve")), HfApi(token="hf_" + "x" * 34)
    assert status_of(nobody.upload_file, **upload) == status_of(nobody.model_info, REPO) == 401
    for call, arguments in (
        (eve.upload_file, upload),
        (eve.delete_repo, {"repo_id": REPO}),
        (eve.create_repo, {"repo_id": "user/other"}),
        (eve.create_branch, {"repo_id": REPO, "branch": "mine"}),
        (eve.create_tag, {"repo_id": REPO, "tag": "mine"}),
        (eve.update_repo_settings, {"repo_id": REPO, "private": True}),
    ):
        assert status_of(call, **arguments) == 403
    assert api.list_repo_files(REPO) == [".gitattributes", "a.txt"]


# --- pushing


def test_a_folder_comes_back_as_it_was_pushed(api, folder, pushed):
    snapshot = api.snapshot_download(REPO)
    assert contents(snapshot) == contents(folder)
    assert snapshot.endswith(pushed.oid) and api.model_info(REPO).sha == pushed.oid
    newest = api.list_repo_commits(REPO)[0]
    assert (newest.title, newest.message, newest.authors) == ("First", "of all", ["user"])


def test_large_files_go_to_the_storage_host_and_the_token_does_not(hub, api, pushed):
    api.hf_hub_download(REPO, "model.safetensors")
    assert [record.status for record in asked(hub, "HEAD", "model.safetensors")] == [302]
    moved = asked(hub, "PUT") + asked(hub, "GET", "/large/")
    assert len(moved) == 3 and all(record.status == 200 and record.user is None for record in moved)
    tree = hub.repos[REPO].find("main").tree
    assert {name for name, blob in tree.items() if blob.large} == {"model.safetensors", "sub folder/deep/a%20b+.bin"}


def test_storage_wants_a_signature_and_the_right_content(hub, api, pushed):
    href = hub.sign("PUT", f"/{REPO}/large/{'0' * 64}")
    session = get_session()
    assert session.put(href, content=b"other").status_code == 400
    assert session.put(href.partition("?")[0], content=b"other").status_code == 403
    assert session.put(href, content=b"", headers={"Authorization": f"Bearer {hub.token}"}).status_code == 400
    assert session.get(href).status_code == 403
    chunks = session.put(hub.sign("PUT", f"/{REPO}/large/{sha256(b'abcd')}"), content=iter([b"ab", b"cd"]))
    assert chunks.status_code == 200 and hub.repos[REPO].large[sha256(b"abcd")].data == b"abcd"


def test_pushing_the_same_again_makes_no_commit(hub, api, folder, pushed):
    before = len(asked(hub, "PUT"))
    assert api.upload_folder(repo_id=REPO, folder_path=folder).oid == pushed.oid
    (folder / "config.json").write_text("{ }")
    again = api.upload_folder(repo_id=REPO, folder_path=folder)
    assert len(api.list_repo_commits(REPO)) == 3 and again.oid != pushed.oid
    assert len(asked(hub, "PUT")) == before


def test_a_commit_to_a_state_that_has_passed_is_refused(api, pushed):
    add = CommitOperationAdd("a.txt", b"a")
    commit = {"repo_id": REPO, "commit_message": "Again", "parent_commit": pushed.oid}
    api.create_commit(operations=[add], **commit)
    assert status_of(api.create_commit, operations=[CommitOperationAdd("a.txt", b"b")], **commit) == 412


def test_commits_of_what_was_not_uploaded_or_leads_outside_are_refused(hub, api, pushed):
    def commit(key, **value):
        lines = '{"key": "header", "value": {"summary": "x"}}\n' + json.dumps({"key": key, "value": value})
        url = f"{hub.url}/api/models/{REPO}/commit/main"
        return get_session().post(url, content=lines, headers={"Authorization": f"Bearer {hub.token}"}).status_code

    assert commit("lfsFile", path="a.bin", oid="0" * 64, size=1) == 400
    assert commit("file", path="../a", content="") == commit("file", path="/a", content="") == 400
    assert commit("what", path="a") == 400
    assert api.model_info(REPO).sha == pushed.oid


def test_files_and_folders_are_deleted(api, pushed):
    api.delete_file("config.json", REPO)
    api.create_commit(REPO, [CommitOperationDelete("sub folder/")], commit_message="Delete")
    assert set(api.list_repo_files(REPO)) == {".gitattributes", "README.md", "empty.safetensors", "model.safetensors"}
    with pytest.raises(EntryNotFoundError):
        api.delete_file("config.json", REPO)


def test_a_broken_card_is_refused(api):
    api.create_repo(REPO)
    with pytest.raises(ValueError, match="YAML"):
        api.upload_file(path_or_fileobj=b"---\na: [\n---\n", path_in_repo="README.md", repo_id=REPO)


# --- looking


def test_model_info_knows_the_card_and_the_files(hub, api, pushed):
    info = api.model_info(REPO, files_metadata=True)
    assert info.tags == ["transformers", "bayesian", "dataset:user/data", "base_model:user/base", "license:mit"]
    assert (info.library_name, info.pipeline_tag, info.private) == ("transformers", None, False)
    weights = next(file for file in info.siblings if file.rfilename == "model.safetensors")
    assert weights.size == weights.lfs.size == len(WEIGHTS) and weights.lfs.sha256 == sha256(WEIGHTS)
    assert {file.rfilename for file in info.siblings} == set(api.list_repo_files(REPO))


def test_results_are_added_to_a_card(api, pushed):
    result = {
        "model_pretty_name": "A model",
        "task_pretty_name": "Images",
        "task_id": "image-classification",
        "metrics_pretty_name": "ECE",
        "metrics_id": "ece",
        "metrics_value": 0.25,
        "dataset_pretty_name": "Data",
        "dataset_id": "user/data",
    }
    metadata_update(REPO, metadata_eval_result(**result))
    (found,) = api.model_info(REPO).card_data.eval_results
    assert (found.metric_type, found.metric_value) == ("ece", 0.25)
    assert ModelCard.load(REPO).text.strip() == "# A model"


@pytest.mark.parametrize("page_size", [1, 4, 1000])
def test_listings_come_in_pages(hub, api, pushed, page_size):
    hub.page_size = page_size
    entries = list(api.list_repo_tree(REPO, recursive=True, expand=True))
    assert [entry.path for entry in entries] == [
        "sub folder",
        "sub folder/deep",
        ".gitattributes",
        "README.md",
        "config.json",
        "empty.safetensors",
        "model.safetensors",
        "sub folder/deep/a%20b+.bin",
        "sub folder/höher & #1?.txt",
    ]
    assert [entry.last_commit.title for entry in entries[1:4]] == ["First", "initial commit", "First"]
    assert [entry.path for entry in api.list_repo_tree(REPO, "sub folder")] == [entries[1].path, entries[-1].path]
    assert len(api.list_repo_commits(REPO)) == 2
    pages = [record for record in asked(hub, "GET", "/tree/main") if "recursive=true" in record.query]
    assert len(pages) == -(-len(entries) // page_size)


def test_paths_are_described_and_unknown_ones_left_out(api, pushed):
    weights, sub = api.get_paths_info(REPO, ["model.safetensors", "sub folder", "missing"])
    assert weights.lfs.sha256 == sha256(WEIGHTS) and sub.path == "sub folder" and not hasattr(sub, "size")
    assert api.get_paths_info(REPO, "config.json")[0].blob_id == "9e26dfeeb6e641a33dae4961196235bdb965b21b"  # as git


def test_what_is_missing_raises_what_the_hub_makes_clients_raise(api, pushed):
    for call, error in (
        (lambda: api.hf_hub_download(REPO, "missing"), EntryNotFoundError),
        (lambda: list(api.list_repo_tree(REPO, "missing")), EntryNotFoundError),
        (lambda: api.hf_hub_download(REPO, "config.json", revision="missing"), RevisionNotFoundError),
        (lambda: api.model_info(REPO, revision="missing"), RevisionNotFoundError),
        (lambda: api.create_tag(REPO, tag="v1", revision="missing"), RevisionNotFoundError),
        (
            lambda: api.upload_file(path_or_fileobj=b"", path_in_repo="a", repo_id=REPO, revision="x"),
            RevisionNotFoundError,
        ),
        (lambda: api.hf_hub_download("user/missing", "config.json"), RepositoryNotFoundError),
        (lambda: api.model_info("missing"), RepositoryNotFoundError),
        (lambda: api.dataset_info(REPO), RepositoryNotFoundError),
    ):
        with pytest.raises(error):
            call()
    assert not api.file_exists(REPO, "missing") and api.file_exists(REPO, "config.json")


# --- downloads


@pytest.mark.parametrize("redirect", [True, False])
@pytest.mark.parametrize("name", ["model.safetensors", "README.md"])
def test_parts_of_a_file_are_served(hub, api, folder, pushed, name, redirect):
    hub.redirect_lfs = redirect
    content = (folder / name).read_bytes()
    url = hf_hub_url(REPO, name)

    def get(wanted):
        return get_session().get(url, headers={"Range": f"bytes={wanted}"})

    for wanted, part in ("2-5", content[2:6]), ("10-", content[10:]), ("-7", content[-7:]):
        answer = get(wanted)
        assert answer.status_code == 206 and answer.content == part
    assert get(f"3-{10**9}").headers["Content-Range"] == f"bytes 3-{len(content) - 1}/{len(content)}"
    assert get(f"{len(content)}-").status_code == 416


def test_a_second_download_transfers_nothing(hub, api, folder, pushed):
    first = api.snapshot_download(REPO)
    before = len(asked(hub, "GET", "/resolve/") + asked(hub, "GET", "/large/"))
    assert api.snapshot_download(REPO) == first
    api.upload_file(path_or_fileobj=b"new", path_in_repo="new.txt", repo_id=REPO)
    assert contents(api.snapshot_download(REPO)) == contents(folder) | {"new.txt": b"new"}
    assert len(asked(hub, "GET", "/resolve/") + asked(hub, "GET", "/large/")) == before + 1


def test_each_revision_has_its_own_files(hub, api, pushed):
    def content(revision):
        return Path(hf_hub_download(REPO, "config.json", revision=revision)).read_text()

    def push(text, **where):
        return api.upload_file(path_or_fileobj=text.encode(), path_in_repo="config.json", repo_id=REPO, **where)

    api.create_tag(REPO, tag="v1")
    api.create_branch(REPO, branch="feature/x")
    push("branch", revision="feature/x")
    push("main")
    proposal = push("proposed", create_pr=True)
    assert (proposal.pr_revision, proposal.pr_num) == ("refs/pr/1", 1) and proposal.pr_url.startswith(hub.url)
    push("improved", revision="refs/pr/1")
    wanted = {
        None: "main",
        "main": "main",
        "v1": "{}",
        pushed.oid: "{}",
        "feature/x": "branch",
        "refs/pr/1": "improved",
    }
    assert {revision: content(revision) for revision in wanted} == wanted
    found = api.list_repo_refs(REPO, include_pull_requests=True)
    assert [[ref.name for ref in refs] for refs in (found.branches, found.tags, found.pull_requests)] == [
        ["main", "feature/x"],
        ["v1"],
        ["refs/pr/1"],
    ]
    assert found.tags[0].target_commit == pushed.oid
    assert status_of(api.create_branch, REPO, branch="feature/x") == status_of(api.create_tag, REPO, tag="v1") == 409
    api.delete_branch(REPO, branch="feature/x")
    api.delete_tag(REPO, tag="v1")
    for revision in "feature/x", "v1":
        with pytest.raises(RevisionNotFoundError):
            api.model_info(REPO, revision=revision)


def test_others_propose_changes_but_do_not_make_them(hub, api, pushed):
    eve, mallory = (HfApi(token=hub.add_user(name)) for name in ("eve", "mallory"))
    upload = {"path_or_fileobj": WEIGHTS[:99], "path_in_repo": "new.bin", "repo_id": REPO}
    assert eve.upload_file(**upload, create_pr=True).pr_revision == "refs/pr/1"
    upload["path_or_fileobj"] = b"changed"
    eve.upload_file(**upload, revision="refs/pr/1")
    assert status_of(mallory.upload_file, **upload, revision="refs/pr/1") == 403
    assert "new.bin" not in api.list_repo_files(REPO) and api.file_exists(REPO, "new.bin", revision="refs/pr/1")


def test_seeded_files_may_have_any_name(hub, api):
    names = ["../evil.json", "/etc/x", "a\\..\\b", "line\nbreak.bin", "ok.txt"]
    sha = hub.commit(REPO, {name: name for name in names}, message="Evil", branch="other")
    hub.commit(REPO, {}, delete=("ok.txt",), branch="other")
    assert set(api.list_repo_files(REPO, revision=sha)) == {".gitattributes", *names}
    assert api.list_repo_files(REPO) == [".gitattributes"]
    assert "ok.txt" not in api.list_repo_files(REPO, revision="other")
    assert Path(api.hf_hub_download(REPO, "line\nbreak.bin", revision=sha)).read_text() == "line\nbreak.bin"


# --- faults


def test_busy_and_failing_answers_are_tried_again_after_the_time_asked_for(hub, api, client, folder):
    api.create_repo(REPO)
    hub.faults += [
        Fault("POST .*/preupload/", status=429, headers={"Retry-After": "7"}),
        Fault("POST .*/batch", status=503),
        Fault(lambda method, path: method == "PUT", status=500, times=2),
    ]
    api.upload_folder(repo_id=REPO, folder_path=folder)
    assert contents(api.snapshot_download(REPO)) == contents(folder)
    assert client.waits[0] == 8 and len(client.waits) == 4  # the client adds a second
    assert [record.status for record in asked(hub, "POST", "/preupload/")] == [429, 200]


def test_a_fault_that_lasts_reaches_the_caller(hub, api, pushed):
    hub.faults.append(Fault(r"/commit/main$", status=503, times=2))
    for _ in range(2):
        assert status_of(api.delete_file, "config.json", REPO) == 503
    api.delete_file("config.json", REPO)


@pytest.mark.parametrize("after_bytes", [0, 100_000])
def test_an_upload_that_breaks_off_is_sent_again(hub, api, folder, after_bytes):
    api.create_repo(REPO)
    hub.faults.append(Fault("PUT", drop=True, after_bytes=after_bytes))
    api.upload_file(path_or_fileobj=folder / "model.safetensors", path_in_repo="model.safetensors", repo_id=REPO)
    assert [record.status for record in asked(hub, "PUT")] == [0, 200]
    assert hub.repos[REPO].find("main").tree["model.safetensors"].data == WEIGHTS


def test_a_connection_that_ends_without_an_answer_is_an_error_where_nothing_is_tried_again(hub, api, pushed):
    hub.faults.append(Fault("/commit/main", drop=True))
    with pytest.raises(httpx.TransportError):
        api.delete_file("config.json", REPO)
    assert api.model_info(REPO).sha == pushed.oid


def test_a_download_that_breaks_off_is_continued(hub, api, pushed, monkeypatch):
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 100_000)  # of 10 MB, it keeps only whole ones
    hub.faults.append(Fault("GET .*model.safetensors", truncate=500_000))
    assert Path(api.hf_hub_download(REPO, "model.safetensors")).read_bytes() == WEIGHTS
    assert [record.status for record in asked(hub, "GET", "/large/")] == [200, 206]


def test_a_changed_byte_is_not_noticed_by_the_client(hub, api, pushed):
    hub.faults.append(Fault("GET .*model.safetensors", corrupt=True))
    got = np.frombuffer(Path(api.hf_hub_download(REPO, "model.safetensors")).read_bytes(), np.uint8)
    assert np.flatnonzero(got != np.frombuffer(WEIGHTS, np.uint8)).tolist() == [len(WEIGHTS) // 2]


# --- the libraries


def test_transformers_pushes_and_loads(hub, client):
    model = tiny_vit()
    model.push_to_hub(REPO, private=True)
    again = AutoModelForImageClassification.from_pretrained(REPO)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    assert hub.repos[REPO].private and hub.repos[REPO].find("main").tree["model.safetensors"].large


def test_peft_pushes_and_loads(hub, client):
    tiny_vit().push_to_hub("user/base")
    base = AutoModelForImageClassification.from_pretrained("user/base")
    adapter = get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False))
    adapter.push_to_hub(REPO)
    again = PeftModel.from_pretrained(AutoModelForImageClassification.from_pretrained("user/base"), REPO)
    pixels = torch.randn(1, 1, 8, 8)
    assert torch.equal(again(pixels).logits, adapter.eval()(pixels).logits)


def test_datasets_pushes_and_loads(hub, client):
    data = datasets.Dataset.from_dict({"x": [1, 2, 3], "y": ["a", "b", "c"]})
    data.push_to_hub("user/data")
    assert "datasets/user/data" in hub.repos
    assert datasets.load_dataset("user/data", split="train").to_dict() == data.to_dict()


def test_a_fresh_process_works_with_the_hub(hub):
    data = io.BytesIO()
    datasets.Dataset.from_dict({"x": [1, 2, 3]}).to_parquet(data)
    hub.commit("user/data", {"train.parquet": data.getvalue()}, kind="dataset", private=True)
    code = """
        import datasets, huggingface_hub
        data = datasets.load_dataset("user/data", split="train")
        print(huggingface_hub.whoami()["name"], data["x"][:])
    """
    assert run_client(hub, code).split("\n")[-2] == "user [1, 2, 3]"
    with pytest.raises(AssertionError, match="RepositoryNotFoundError"):
        run_client(hub, "from huggingface_hub import model_info; model_info('user/data')", env={"HF_TOKEN": None})


# --- the server itself


def test_the_process_is_offline_again_afterwards(hub, tmp_path):
    with online(hub, tmp_path):
        assert HfApi().whoami()["name"] == "user"
    with online(hub, tmp_path, token=None), pytest.raises(LocalTokenNotFoundError):
        HfApi().whoami()
    assert constants.ENDPOINT == HfApi().endpoint != hub.url and datasets.config.HF_HUB_OFFLINE
    with pytest.raises(OfflineModeIsEnabled):
        HfApi().model_info(REPO)


def test_nobody_is_answered_after_the_end(tmp_path):
    with HubServer() as hub, online(hub, tmp_path):
        session = get_session()
        assert session.get(f"{hub.url}/api/models").json() == []
        hub.__exit__()
        with pytest.raises(httpx.TransportError):
            session.get(f"{hub.url}/api/models")


def test_the_command_says_how_to_use_it_and_logs_no_token():
    command = [sys.executable, "-m", "tests.hub_server", "--port", "0"]

    def heed_interrupts():  # which a test run in the background of a shell is made to ignore, and so would this
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=heed_interrupts) as process:
        lines = iter(process.stdout.readline, "")
        usage = next(line for line in lines if "export" in line)
        settings = dict(word.split("=") for word in usage.split()[1:])
        headers = {"Authorization": f"Bearer {settings['HF_TOKEN']}"}
        httpx.get(f"{settings['HF_ENDPOINT']}/api/whoami-v2?x=1", headers=headers)
        log = next(line for line in lines if "whoami" in line)
        process.send_signal(signal.SIGINT)
        try:
            assert process.wait(30) == 0
        finally:
            process.kill()
    assert log == "GET /api/whoami-v2?x=1 200 user\n" and settings["HF_HUB_DISABLE_XET"] == "1"
