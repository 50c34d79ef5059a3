import json
import shutil
import sys
from types import SimpleNamespace

import pytest

import hf_scorevi
from hf_scorevi.metrics import ece
from hf_scorevi.metrics.loading import metric_folder
from hf_scorevi.metrics.space import push_metric
from tests.hub_server import HubServer, online, run_client

PREDICTIONS, REFERENCES = [[0.6, 0.4], [0.3, 0.7], [0.9, 0.1]], [0, 0, 1]


@pytest.fixture
def hub():
    with HubServer() as server:
        yield server


def test_one_commit_has_a_whole_space(hub, tmp_path):
    with online(hub, tmp_path):
        push_metric("ece", "user/calibration")
        push_metric("ece", "user/calibration")  # what has not changed is not sent
    repo = hub.repos["spaces/user/calibration"]
    head = repo.find("main")
    files = {name: blob.data.decode() for name, blob in head.tree.items() if not name.startswith(".")}
    assert sorted(files) == ["README.md", "app.py", "calibration.py", "requirements.txt"]
    assert files["calibration.py"] == (metric_folder("ece") / "ece.py").read_text(encoding="utf-8")
    assert files["README.md"] == (metric_folder("ece") / "README.md").read_text(encoding="utf-8")
    assert files["requirements.txt"] == f"hf_scorevi[evaluate]>={hf_scorevi.__version__}\n"
    pushed = [commit for commit in head.history() if "README.md" in commit.tree]
    assert len(pushed) == 1
    assert pushed[0].title.startswith("Upload the metric ece with hf_scorevi")


def test_refuses_other_names(hub, tmp_path):
    with online(hub, tmp_path), pytest.raises(ValueError, match="there is no metric 'f1'"):
        push_metric("f1", "user/f1")
    assert not hub.repos


@pytest.mark.slow
def test_evaluate_loads_the_space(hub, tmp_path):
    pytest.importorskip("evaluate")
    with online(hub, tmp_path):
        push_metric("ece", "user/ece")
        push_metric("mce", "user/worst-bin")
    code = f"""
        import json
        import evaluate
        both = evaluate.combine(["user/ece", evaluate.load("user/worst-bin")])
        print(json.dumps(both.compute(predictions={PREDICTIONS}, references={REFERENCES})))
    """
    result = json.loads(run_client(hub, code).splitlines()[-1])
    assert result["ece"] == ece(PREDICTIONS, REFERENCES)["ece"]
    assert result["mce_norm"] == "max"


def test_the_page_computes_the_metric(tmp_path, monkeypatch, evaluate_caches):
    page = {}

    class Error(Exception):
        pass

    gradio = SimpleNamespace(
        Error=Error,
        Textbox=lambda **options: options,
        JSON=lambda **options: options,
        Interface=lambda **options: page.update(options) or SimpleNamespace(launch=lambda: page.update(launched=True)),
    )
    monkeypatch.setitem(sys.modules, "gradio", gradio)
    folder = tmp_path / "space"
    folder.mkdir()
    app = metric_folder("ece").parent / "_space_app.py"
    for source, name in (
        (app, "app.py"),
        (metric_folder("ece") / "ece.py", "ece.py"),
        (metric_folder("ece") / "README.md", "README.md"),
    ):
        shutil.copy(source, folder / name)
    code = compile((folder / "app.py").read_text(encoding="utf-8"), str(folder / "app.py"), "exec")
    exec(code, {"__name__": "__main__", "__file__": str(folder / "app.py")})
    assert page["launched"] and page["title"] == "ece"
    assert [box["label"] for box in page["inputs"]] == ["predictions, as JSON", "references, as JSON"]
    assert page["article"].lstrip().startswith("# Expected calibration error")
    assert page["fn"](json.dumps(PREDICTIONS), json.dumps(REFERENCES)) == ece(PREDICTIONS, REFERENCES)
    with pytest.raises(Error, match="does not sum to one"):
        page["fn"]("[[3, 4]]", "[0]")
    with pytest.raises(Error, match="Expecting"):
        page["fn"]("[[3, 4]", "[0]")
