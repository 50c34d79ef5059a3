"""What is read, written and sent of a folder that may be anybody's."""

import os
import socket
import stat

import pytest
from peft import LoraConfig, get_peft_model

from hf_scorevi import BayesianModel, PosteriorCheckpointError, PosteriorConfig, PushError
from hf_scorevi.errors import InputError
from hf_scorevi.hub import Evaluation, StoredPosterior, push_checkpoint, save_posterior, write_card, write_evaluations
from hf_scorevi.hub.files import own_path, read_bytes, remedy, remove, write_aside
from hf_scorevi.posterior import Posterior, select_parameters
from tests.hub_server import HubServer, online
from tests.tiny_models import tiny_vit

KINDS = {
    "pipe": (os.mkfifo, "is a pipe"),
    "socket": (lambda path: socket.socket(socket.AF_UNIX).bind(os.path.relpath(path)), "is a socket"),
    "folder": (os.mkdir, "is a folder"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "is a link to a device"),
    "nowhere": (lambda path: path.symlink_to("/no/where"), "is a link to a file that is not there"),
    "itself": (lambda path: path.symlink_to(path), "is a link to a file that is not there"),
}
FIGURES = Evaluation("user/data", 60, 4, 0, {"predictive": {"nll": 0.3}, "mean": {"nll": 0.4}})


def write(folder, model=None):
    # By default few tensors, for the picture on each card.
    config = PosteriorConfig(target="trainable" if model else ["classifier"])
    model = model or tiny_vit()
    posterior = Posterior.initialise(select_parameters(model, config.target), config)
    stored = StoredPosterior(config, 24, 0.1)
    BayesianModel(model, posterior, stored, [FIGURES]).save_pretrained(folder)
    return folder


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path / "folder")


@pytest.fixture
def secret(tmp_path):
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "id_rsa").write_text("PRIVATE")
    return tmp_path / "keys" / "id_rsa"


# --- read


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "name",
    ["config.json", "model.safetensors", "posterior.safetensors", "posterior_config.json", "calibration.json"],
)
def test_what_is_no_file_is_named_at_once(folder, monkeypatch, kind, name):
    monkeypatch.chdir(folder)  # whose sockets have short names
    (folder / name).unlink()
    make, message = KINDS[kind]
    make(folder / name)
    with pytest.raises(
        PosteriorCheckpointError, match=rf"{name} {message}.* Move .*/folder/{name} away, and fetch or"
    ):
        BayesianModel.from_pretrained(folder)


def test_a_file_that_becomes_a_pipe_after_it_was_looked_at_is_not_waited_for(tmp_path, monkeypatch):
    (tmp_path / "x").write_text("{}")
    stat_of, seen = os.stat, []

    def replaced(path, *args, **kwargs):
        status = stat_of(path, *args, **kwargs)
        if not seen and str(path).endswith("/x"):
            seen.append(path)
            os.unlink(path)
            os.mkfifo(path)
        return status

    monkeypatch.setattr(os, "stat", replaced)
    with pytest.raises(PosteriorCheckpointError, match="is a pipe"):
        read_bytes(tmp_path / "x")


def test_links_to_files_elsewhere_are_read_and_what_lies_there_is_not_shown(folder, secret):
    weights = secret.with_name("weights")
    (folder / "model.safetensors").rename(weights)
    (folder / "model.safetensors").symlink_to(weights)
    BayesianModel.from_pretrained(folder)
    (folder / "config.json").unlink()
    (folder / "config.json").symlink_to(secret)
    with pytest.raises(PosteriorCheckpointError, match=r"config\.json cannot be read as JSON") as caught:
        BayesianModel.from_pretrained(folder)
    assert "PRIVATE" not in str(caught.value) and str(secret) not in str(caught.value)


def test_no_more_is_read_than_there_may_be(tmp_path):
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ValueError, match=r"has 1,099,511,627,776 bytes, where at most 1,000"):
        read_bytes(path, 1000)
    path.write_bytes(b"x" * 1000)
    assert read_bytes(path, 1000) == b"x" * 1000


def test_only_a_blob_of_the_hub_s_cache_is_to_be_deleted(tmp_path):
    cache = tmp_path / "models--user--tiny"
    blob, commit = cache / "blobs" / ("a" * 40), cache / "snapshots" / ("b" * 40)
    blob.parent.mkdir(parents=True)
    (commit / "sub").mkdir(parents=True)
    blob.touch()
    for link, target in ((commit / "x", "../../blobs/"), (commit / "sub" / "x", "../../../blobs/")):
        link.symlink_to(target + "a" * 40)
        assert remedy(link) == f"Delete {blob}, and it will be fetched again."
        assert own_path(link, link.parent) == blob
    (tmp_path / "link").symlink_to(blob)
    outside = cache / "snapshots" / ("b" * 40) / "y"
    (cache / "id_rsa").touch()
    outside.symlink_to(cache / "id_rsa")
    for path in (tmp_path / "link", outside, blob):
        assert remedy(path) == "Fetch or save the checkpoint again."
    with pytest.raises(InputError, match="outside of the folder"):
        own_path(outside, commit)


# --- written


def test_a_file_takes_the_place_of_a_link_and_what_it_points_to_stays(tmp_path, secret):
    for place in ("new", "link", "dangling"):
        path = tmp_path / place
        if place != "new":
            path.symlink_to(secret if place == "link" else "/no/where")
        write_aside(path, lambda aside: aside.write_text("ours"))
        assert path.read_text() == "ours" and not path.is_symlink()
    assert secret.read_text() == "PRIVATE"
    assert {path.name for path in tmp_path.iterdir()} == {"new", "link", "dangling", "keys"}


def test_the_name_of_a_file_that_is_being_written_cannot_be_foretold_and_its_mode_is_the_umask_s(tmp_path):
    names = set()
    before = os.umask(0o027)
    try:
        for _ in range(3):
            write_aside(tmp_path / "x", lambda aside: (names.add(aside.name), aside.write_text("x")))
    finally:
        os.umask(before)
    assert len(names) == 3 and all(len(name) > 20 for name in names)
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o640


def test_a_folder_in_a_file_s_place_is_named_and_left_alone(folder):
    (folder / "README.md").unlink()
    (folder / "README.md").mkdir()
    (folder / "coverage-3.png").mkdir()  # as a picture of an earlier card would be called
    with pytest.raises(InputError, match=r"README\.md is a folder"):
        write_card(folder)
    (folder / "calibration.json").unlink()
    (folder / "calibration.json").mkdir()
    with pytest.raises(InputError, match=r"calibration\.json cannot be written: there is a folder of that name"):
        write_evaluations(folder, [FIGURES])
    remove(folder / "coverage-3.png")
    assert (folder / "coverage-3.png").is_dir()


@pytest.mark.parametrize("adapter", [False, True])
def test_saving_replaces_links_and_writes_through_none(tmp_path, secret, adapter):
    folder, model = tmp_path / "folder", tiny_vit()
    if adapter:
        model = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"]))
    folder.mkdir()
    names = [path.name for path in write(tmp_path / "other", model).iterdir()]
    for name in names:
        if name != "README.md":
            (folder / name).symlink_to(secret)
    write(folder, model)
    assert secret.read_text() == "PRIVATE"
    assert not any(path.is_symlink() for path in folder.iterdir())
    assert sorted(path.name for path in folder.iterdir()) == sorted(names)
    BayesianModel.from_pretrained(folder, base_model=tiny_vit() if adapter else None)


def test_saving_leaves_the_old_checkpoint_alone_until_the_new_one_is_written(folder, monkeypatch):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    model = BayesianModel.from_pretrained(folder)

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("transformers.modeling_utils.safe_save_file", full)
    with pytest.raises(OSError, match="No space left"):
        model.save_pretrained(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_whole_file_and_shards_do_not_stay_beside_each_other(tmp_path):
    model, folder = tiny_vit(), tmp_path / "folder"
    save = model.save_pretrained
    model.save_pretrained = lambda aside: save(aside, max_shard_size="4KB")
    write(folder, model)
    assert (folder / "model.safetensors.index.json").is_file()
    model.save_pretrained = save
    write(folder, model)
    assert [path.name for path in folder.glob("model*")] == ["model.safetensors"]
    model.save_pretrained = lambda aside: save(aside, max_shard_size="4KB")
    write(folder, model)
    assert not (folder / "model.safetensors").exists()
    BayesianModel.from_pretrained(folder)


def test_an_adapter_saved_again_keeps_what_people_wrote_on_its_card(tmp_path):
    model = get_peft_model(tiny_vit(), LoraConfig(r=2, target_modules=["q_proj"]))
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "README.md").write_text("---\ntags: [mine]\n---\n# t\n\nMy own words.\n")
    write(folder, model)
    text = (folder / "README.md").read_text()
    assert "My own words." in text and "- mine" in text.replace("[mine", "- mine") and "lora" in text
    (folder / "README.md").write_text("---\nx: &x [*x]\n---\n")  # a bomb is no reason to lose what was trained
    with pytest.raises(InputError, match="x holds itself"):
        write(folder, model)
    BayesianModel.from_pretrained(folder, base_model=tiny_vit())


# --- sent


@pytest.fixture
def hub(tmp_path):
    with HubServer() as hub, online(hub, tmp_path / "home"):
        yield hub


@pytest.mark.parametrize("name", ["vocab.txt", "notes", "config.json", "README.md", "sub/a.txt", "calibration.json"])
def test_links_out_of_the_folder_are_named_and_nothing_is_pushed(hub, folder, secret, name):
    (folder / "sub").mkdir()
    path = folder / name
    path.unlink(missing_ok=True)
    path.symlink_to(secret.parent if name == "notes" else secret)
    with pytest.raises((PushError, PosteriorCheckpointError)) as caught:
        push_checkpoint(folder, "user/tiny")
    assert name in str(caught.value) and "PRIVATE" not in str(caught.value)
    assert "user/tiny" not in hub.repos and secret.read_text() == "PRIVATE"
    if name not in ("config.json", "calibration.json"):  # which are read first
        assert f"{path} is a link to {path.resolve()}, outside of the folder" in str(caught.value)


def test_a_card_is_not_made_of_what_a_link_points_to(folder, secret):
    (folder / "README.md").unlink()
    (folder / "README.md").symlink_to(secret)
    with pytest.raises(InputError, match=r"README\.md is a link to .*id_rsa, outside of the folder"):
        write_card(folder)
    assert secret.read_text() == "PRIVATE" and (folder / "README.md").is_symlink()


def test_links_within_the_folder_are_sent_as_what_they_point_to(hub, folder):
    (folder / "a.txt").write_text("A")
    (folder / "b.txt").symlink_to("a.txt")
    (folder / "self").symlink_to(".")
    (folder / "sub").mkdir()
    (folder / "sub" / "up").symlink_to("..")
    (folder / "sub" / "c.txt").symlink_to(folder / "a.txt")
    push_checkpoint(folder, "user/tiny")
    sent = {name: blob.data for name, blob in hub.repos["user/tiny"].find("main").tree.items()}
    assert sent["a.txt"] == sent["b.txt"] == sent["sub/c.txt"] == b"A"
    assert not [name for name in sent if name.startswith(("self", "sub/up"))]


@pytest.mark.parametrize("target", ["training_args.bin", ".env", "loop", "/no/where"])
def test_a_link_to_what_stays_at_home_or_to_nothing_is_named(hub, folder, target):
    (folder / "training_args.bin").write_text("pickle")
    (folder / ".env").write_text("TOKEN")
    (folder / "x.txt").symlink_to(folder / "x.txt" if target == "loop" else target)
    with pytest.raises(PushError, match=r"x\.txt is a link (to .* never sent|that leads nowhere)"):
        push_checkpoint(folder, "user/tiny")
    assert "user/tiny" not in hub.repos


def test_a_checkpoint_in_the_hub_s_cache_can_be_pushed(hub, folder):
    push_checkpoint(folder, "user/tiny")
    BayesianModel.from_pretrained("user/tiny")
    from hf_scorevi.hub import fetch_checkpoint

    cached = fetch_checkpoint("user/tiny")
    assert (cached / "model.safetensors").is_symlink()
    push_checkpoint(cached, "user/other")
    assert BayesianModel.from_pretrained("user/other").evaluations


def test_a_card_of_a_gigabyte_is_not_fetched(hub, folder):
    push_checkpoint(folder, "user/tiny")
    hub.commit("user/tiny", {"README.md": b"x" * (5 << 20)})
    with pytest.raises(
        PushError, match=r"README\.md of user/tiny has 5,242,880 bytes or more, where at most 4,194,304"
    ):
        push_checkpoint(folder, "user/tiny")
    hub.commit("user/tiny", {"calibration.json": b" " * (17 << 20)})
    with pytest.raises(InputError, match=r"calibration\.json of user/tiny has 17,825,792 bytes or more"):
        BayesianModel.from_pretrained("user/tiny")


def test_saving_over_the_hub_s_cache_leaves_its_blobs_alone(hub, folder):
    from hf_scorevi.hub import fetch_checkpoint

    push_checkpoint(folder, "user/tiny")
    cached = fetch_checkpoint("user/tiny")
    blob = (cached / "model.safetensors").resolve()
    before = blob.read_bytes()
    write(cached, tiny_vit(seed=1))
    assert blob.read_bytes() == before and not (cached / "model.safetensors").is_symlink()


def test_the_posterior_s_files_are_written_aside_too(folder, secret):
    for name in ("posterior.safetensors", "posterior_config.json"):
        (folder / name).unlink()
        (folder / name).symlink_to(secret)
    model = tiny_vit()
    posterior = Posterior.initialise(select_parameters(model), PosteriorConfig())
    save_posterior(folder, model, posterior, StoredPosterior(PosteriorConfig(), 24, 0.1))
    assert secret.read_text() == "PRIVATE" and not (folder / "posterior.safetensors").is_symlink()
