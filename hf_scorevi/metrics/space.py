"""Publishing a metric as a Space, from which `evaluate.load("user/space")` gets it."""

from pathlib import Path

from huggingface_hub import CommitInfo, CommitOperationAdd, HfApi

from hf_scorevi import __version__
from hf_scorevi.metrics.loading import metric_folder


def push_metric(name: str, repo_id: str, token: str | bool | None = None) -> CommitInfo:
    """Push a metric's script, card and page to a Space in one commit.

    The script imports hf_scorevi, so that a metric has one source: who loads it needs the library too, and the Space's
    requirements.txt says so.

    Args:
        name: of the metric, as `load_metric` takes it.
        repo_id: `user/space`, made if it is not there.
        token: default: that of `hf auth login`.

    Raises:
        ValueError: there is no metric of this name.
        huggingface_hub.errors.HfHubHTTPError: the Hub refused.
    """
    folder = metric_folder(name)
    api = HfApi(token=token)
    repo_id = api.create_repo(repo_id, repo_type="space", space_sdk="gradio", exist_ok=True).repo_id
    files: dict[str, str | bytes] = {
        f"{repo_id.split('/')[1]}.py": str(folder / f"{name}.py"),  # evaluate asks for the name of the Space
        "README.md": str(folder / "README.md"),
        "app.py": str(Path(__file__).with_name("_space_app.py")),
        "requirements.txt": f"hf_scorevi[evaluate]>={__version__}\n".encode(),
    }
    return api.create_commit(
        repo_id,
        [CommitOperationAdd(path, content) for path, content in files.items()],
        commit_message=f"Upload the metric {name} with hf_scorevi {__version__}",
        repo_type="space",
    )
