"""The cards of the metrics: what they show has to run, and give what they say."""

import re

import pytest
import yaml

from hf_scorevi.metrics.loading import metric_folder, metric_names


def card(name):
    return (metric_folder(name) / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", metric_names())
def test_front_matter_makes_it_a_space(name):
    metadata = yaml.safe_load(card(name).split("---\n")[1])
    assert metadata["sdk"] == "gradio" and metadata["app_file"] == "app.py"
    assert metadata["tags"] == ["evaluate", "metric"]
    assert metadata["title"] and metadata["license"] == "apache-2.0"


@pytest.mark.parametrize("name", metric_names())
def test_says_what_a_card_has_to_say(name):
    headings = re.findall(r"^## (.*)$", card(name), re.MULTILINE)
    expected = ["Definition", "Inputs", "Result", "Example", "Limits", "Source"]
    assert headings == (expected[:-1] if name == "accuracy" else expected)
    assert f'"user/{name}"' in card(name) and f'load_metric("{name}")' in card(name)


@pytest.mark.parametrize("name", metric_names())
def test_the_example_gives_what_it_shows(name, capsys):
    code, shown = re.search(r"```python\n(.*?)```\n\n```text\n(.*?)```", card(name), re.DOTALL).groups()
    exec(compile(code, f"{name}/README.md", "exec"), {})
    assert capsys.readouterr().out == shown


@pytest.mark.parametrize("name", metric_names())
def test_names_everything_in_the_result(name):
    code = re.search(r"```python\n(.*?)```", card(name), re.DOTALL).group(1)
    names: dict = {}
    exec(compile(code, f"{name}/README.md", "exec"), names)
    result = card(name).split("## Result")[1].split("## Example")[0] + card(name).split("## Inputs")[0]
    for key in names["result"]:
        key = re.sub(r"^\w+_quantiles$", "…_quantiles", key)
        assert f"`{key}`" in result, key
