import re

import pytest
import yaml
from huggingface_hub import ModelCard, ModelCardData
from markdown_it import MarkdownIt
from peft import LoraConfig, get_peft_model

from hf_scorevi import PosteriorConfig
from hf_scorevi.hub import CardMetadata, Evaluation, StoredPosterior, save_posterior, write_card, write_evaluations
from hf_scorevi.hub.card_merging import cell, has_own_text, identifier, merge_cards, plain
from hf_scorevi.posterior import Posterior, select_parameters
from tests.tiny_models import tiny_vit

BEGIN = "<!-- hf_scorevi: begin (it is ours) -->"
END = "<!-- hf_scorevi: end -->"
TAGS = ["hf_scorevi", "bayesian"]


def result(value=0.5, ours=True, dataset="user/data", split=None):
    """Of a `model-index`."""
    args = {"library": "hf_scorevi", "weights": "mean"} if ours else {"library": "theirs"}
    named = {"name": dataset, "type": dataset} | ({"split": split} if split else {})
    metric = {"type": "accuracy", "value": value, "args": args}
    return {"task": {"type": "image-classification"}, "dataset": named, "metrics": [metric]}


def index(*results, name="tiny"):
    return [{"name": name, "results": list(results)}]


def ours(text="Ours.", **metadata):
    front = yaml.safe_dump({"library_name": "transformers", "tags": TAGS} | metadata, sort_keys=False)
    return f"---\n{front}---\n\n# tiny\n\n{BEGIN}\n\n{text}\n\n{END}\n"


def card(text, **metadata):
    return f"---\n{yaml.safe_dump(metadata, sort_keys=False)}---\n\n{text}"


def metadata_of(merged):
    return yaml.safe_load(merged.split("---\n")[1])


def text_of(merged):
    return ModelCard(merged).text


# The text


@pytest.mark.parametrize("existing", [None, "", " \r\n\n", "\ufeff"])
def test_without_a_card_ours_is_it(existing):
    assert merge_cards(existing, ours()) == ours()


@pytest.mark.parametrize(
    "existing", [ours("Old."), "# Mine\n\nText.", card("", license="mit"), "\ufeff" + ours("Old.")]
)
def test_the_same_again_changes_nothing(existing):
    once = merge_cards(existing, ours())
    assert merge_cards(once, ours()) == once
    assert once.count(BEGIN) == once.count(END) == 1 and "Old." not in once


def test_text_above_and_below_stays_where_it_is():
    existing = (
        ours("Old.").replace("# tiny", "# My model\n\nMade for the *zoo*.").replace(END, END + "\n\n## Thanks\n")
    )
    merged = merge_cards(existing, ours("New."))
    assert text_of(merged) == (f"\n# My model\n\nMade for the *zoo*.\n\n{BEGIN}\n\nNew.\n\n{END}\n\n## Thanks\n")
    assert has_own_text(merged)


def test_ours_comes_behind_a_text_that_has_no_place_for_it():
    merged = merge_cards(card("# My model\n\nMine.\n\n\n", license="mit"), ours())
    assert text_of(merged) == f"\n# My model\n\nMine.\n\n{BEGIN}\n\nOurs.\n\n{END}\n"
    assert metadata_of(merged) == {"license": "mit", "library_name": "transformers", "tags": TAGS}


def test_a_card_without_metadata_gets_some():
    merged = merge_cards("# My model\n\nMine.\n", ours())
    assert merged.startswith("---\nlibrary_name: transformers\n")
    assert text_of(merged).startswith("\n# My model\n\nMine.\n")


@pytest.mark.parametrize("old", ["", "\n\n", "\n# Model Card for Model ID\n"])
def test_where_nobody_has_written_the_whole_text_is_ours(old):
    merged = merge_cards(card(old, license="mit"), ours())
    assert text_of(merged) == text_of(ours())
    assert not has_own_text(card(old, license="mit")) and not has_own_text(merged)


def test_a_page_of_questions_that_somebody_has_begun_to_answer_is_theirs():
    questions = ModelCard.from_template(ModelCardData()).content
    assert not has_own_text(questions)
    assert text_of(merge_cards(questions, ours())) == text_of(ours())
    answered = questions.replace("- **Developed by:** [More Information Needed]", "- **Developed by:** Ada")
    assert has_own_text(answered)
    merged = merge_cards(answered, ours())
    assert "- **Developed by:** Ada" in merged and merged.rstrip().endswith(END)


def test_two_of_our_parts_become_one():
    twice = ours("Old.") + "\nMine.\n\n" + f"{BEGIN}\n\nOlder.\n\n{END}\n"
    merged = merge_cards(twice, ours("New."))
    assert merged.count(BEGIN) == merged.count(END) == 1
    assert "New." in merged and "Mine." in merged and "Old" not in merged


@pytest.mark.parametrize("lost", [BEGIN, END])
def test_what_was_written_beside_a_lost_marker_survives_every_later_merge(lost):
    existing = ours("Old.").replace(lost, "Mine, in the place of a line of yours.") + "\nMine too.\n"
    merged = merge_cards(existing, ours("New."))
    for text in ("Mine, in the place of a line of yours.", "Mine too.", "New."):
        assert merged.count(text) == 1
    later = merge_cards(merged, ours("Newer."))
    assert later == merged.replace("New.", "Newer.")


def test_the_backslashes_of_our_text_are_not_taken_for_groups():
    assert r"\1 \g<0>" in merge_cards(ours("Old."), ours(r"\1 \g<0>"))


@pytest.mark.parametrize(
    ("text", "own"),
    [
        ("# tiny\n", False), (f"# tiny\n{BEGIN}\nOurs.\n{END}\n", False), ("", False),
        ("Mine.", True), ("# tiny\n\nMine.", True), (f"{BEGIN}\n{END}\nMine.", True), ("# tiny\n# Two", True),
    ],
)  # fmt: skip
def test_own_text_is_more_than_a_title(text, own):
    assert has_own_text(text) == has_own_text(card(text, license="mit")) == own


def test_line_ends_stay_those_of_the_card():
    existing = card("# Mine\n\nText.\n", license="mit").replace("\n", "\r\n")
    merged = merge_cards(existing, ours())
    assert merged == merge_cards(existing.replace("\r\n", "\n"), ours()).replace("\n", "\r\n")
    assert merge_cards(merged, ours()) == merged
    assert metadata_of(merged.replace("\r\n", "\n"))["license"] == "mit"


# The metadata


THEIRS = """\
# Checked by hand.
license:    apache-2.0
language: no   # Norwegian
tags:
- vision
- hf_scorevi
- bayesian
library_name: 'transformers'
# Do not remove.
widget:
  - text: |
      a: b

      c
"""


@pytest.mark.parametrize("front", [THEIRS, "{library_name: transformers,\n tags: [hf_scorevi, 'bayesian']}\n"])
def test_metadata_that_do_not_change_keep_every_character(front):
    existing = f"---\n{front}---\n\n# Mine\n"
    assert merge_cards(existing, ours()).startswith(f"---\n{front}---\n\n# Mine\n")


def test_of_metadata_that_change_the_rest_keeps_every_character():
    merged = merge_cards(
        f"---\n{THEIRS}---\n\n# Mine\n", ours(tags=[*TAGS, "new"], pipeline_tag="image-classification")
    )
    front = THEIRS.replace("- bayesian\n", "- bayesian\n- new\n") + "pipeline_tag: image-classification\n"
    assert merged.startswith(f"---\n{front}---\n")


@pytest.mark.parametrize(
    "front",
    [
        "{license: mit, tags: [vision],\n a: b}", "a: &x [1]\ntags: *x\nb: *x", "? a\n: b\ntags: [vision]",
        "a: {\nb: 1\n}\n", "a: 1\na: 2", "a: >\n x\n\n y\ntags: vision", "no: yes\n1: 2\n",
        "date: 2024-01-01\nnan: .nan", "a: '#'\n\n\n# b\n", "tags:\n  # why\n  - vision",
    ],
)  # fmt: skip
def test_however_metadata_are_written_none_are_lost(front):
    old = yaml.safe_load(front)
    merged = metadata_of(merge_cards(f"---\n{front}\n---\nMine.\n", ours()))
    tags = old.get("tags", [])
    assert merged["tags"] == (tags if isinstance(tags, list) else [tags]) + TAGS
    rest = {key: value for key, value in merged.items() if key not in ("tags", "library_name")}
    assert repr(rest) == repr({key: value for key, value in old.items() if key != "tags"})


def test_lists_are_united_and_what_is_set_stays():
    new = ours(license="mit", datasets=["user/data"], metrics=["nll"], base_model="user/base", language="en")
    merged = merge_cards(
        card(
            "Mine.",
            license="apache-2.0",
            datasets="me/data",
            tags=["vision", "bayesian"],
            metrics=["nll"],
            language="",
        ),
        new,
    )
    assert metadata_of(merged) == {
        "license": "apache-2.0",
        "datasets": ["me/data", "user/data"],
        "tags": ["vision", "bayesian", "hf_scorevi"],
        "metrics": ["nll"],
        "language": "en",
        "library_name": "transformers",
        "base_model": "user/base",
    }


def test_one_that_could_be_several_stays_one_if_none_is_added():
    merged = metadata_of(merge_cards(card("Mine.", datasets="user/data", tags=TAGS), ours(datasets=["user/data"])))
    assert merged["datasets"] == "user/data"


@pytest.mark.parametrize(
    ("base", "kept"),
    [
        ("google/vit", "google/vit"), ("bert", "bert"), (["a/b", "/home/me/base", "c/d"], ["a/b", "c/d"]),
        ("/home/me/base", None), ("./base", None), ("../base", None), ("~/base", None), (r"C:\base", None),
        ("outputs/run/base", None), ("", None), ({"a": 1}, None), (["/home/me"], None), (None, None),
    ],
)  # fmt: skip
def test_a_base_model_that_is_a_folder_of_somebody_s_machine_goes(base, kept):
    merged = metadata_of(merge_cards(card("Mine.", base_model=base, license="mit"), ours()))
    assert merged.get("base_model") == kept
    replaced = metadata_of(merge_cards(card("Mine.", base_model=base, license="mit"), ours(base_model="user/base")))
    assert replaced["base_model"] == (kept or "user/base")


def test_a_base_model_that_is_a_folder_here_goes_whatever_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "user" / "base").mkdir(parents=True)
    assert identifier("user/base") is None and identifier("user/other") == "user/other"
    merged = metadata_of(
        merge_cards(card("Mine.", base_model="user/base", tags=["base_model:adapter:user/base"]), ours())
    )
    assert "base_model" not in merged and merged["tags"] == TAGS


def test_tags_that_name_a_folder_go_and_others_stay():
    tags = ["base_model:adapter:/home/me/base", r"base_model:adapter:C:\base", "base_model:adapter:", "base_model:./a"]
    kept = ["base_model:adapter:user/base", "base_model:user/base", "lora", "arxiv:2602.05873", "base_model", 7]
    merged = metadata_of(merge_cards(card("Mine.", tags=[*tags, *kept]), ours()))
    assert merged["tags"] == [*kept, *TAGS]


@pytest.mark.parametrize("name", ["user/data", "user", "a.b-c_d/e", "x" * 96])
def test_names_of_the_hub(name):
    assert identifier(name) == name


@pytest.mark.parametrize(
    "name", ["", "a/b/c", "/a", "a/", ".", "..", "a/..", "a b", "a\n", "é/b", "x" * 97, "C:", "a\\b", None, 7, ["a"]]
)
def test_no_names_of_the_hub(name):
    assert identifier(name) is None


@pytest.mark.parametrize(
    "front",
    ["a: [", "a: b: c", "\tx: 1", "a: !!timestamp x", "a: !!python/name:os.system", "a: *b", "day: 2024-13-45"],
)
def test_metadata_that_are_no_yaml_are_named(front):
    existing = f"---\n{front}\n---\n# Mine\n"
    with pytest.raises(
        ValueError, match=r"metadata at the head of README\.md are no YAML: .*Mend them there"
    ) as caught:
        merge_cards(existing, ours())
    assert not isinstance(caught.value, yaml.YAMLError)


@pytest.mark.parametrize("front", ["- a", "text", "7"])
def test_metadata_that_are_no_mapping_are_named(front):
    with pytest.raises(ValueError, match=r"metadata at the head of README\.md are no mapping"):
        merge_cards(f"---\n{front}\n---\n# Mine\n", ours())


# Figures


def test_figures_of_others_stay_also_those_on_the_same_data_and_ours_are_replaced():
    theirs, elsewhere = result(0.7, ours=False), result(0.1, ours=False, dataset="user/other")
    both = result(0.6, ours=False)
    both["metrics"] = result(0.4)["metrics"] + both["metrics"]
    existing = card("Mine.", **{"model-index": index(result(0.2), theirs, both, elsewhere, name="named by hand")})
    merged = metadata_of(merge_cards(existing, ours(**{"model-index": index(result(0.9))})))
    assert merged["model-index"] == index(
        theirs, result(0.6, ours=False), elsewhere, result(0.9), name="named by hand"
    )


def test_a_second_model_s_figures_stay():
    other = index(result(0.7, ours=False), name="other")
    existing = card("Mine.", **{"model-index": index(result(0.2)) + other})
    merged = metadata_of(merge_cards(existing, ours(**{"model-index": index(result(0.9))})))
    assert merged["model-index"] == index(result(0.7, ours=False), result(0.9), name="other")
    first = index(result(0.1, ours=False)) + other
    merged = metadata_of(
        merge_cards(card("Mine.", **{"model-index": first}), ours(**{"model-index": index(result())}))
    )
    assert merged["model-index"] == index(result(0.1, ours=False), result()) + other


def test_figures_that_are_all_ours_come_under_our_name():
    existing = card("Mine.", **{"model-index": index(result(0.2), name="checkpoint-3")})
    merged = metadata_of(merge_cards(existing, ours(**{"model-index": index(result(0.9), name="vit")})))
    assert merged["model-index"] == index(result(0.9), name="vit")


def test_figures_that_no_longer_hold_go():
    existing = card("Mine.", **{"model-index": index(result(), result(0.7, ours=False))})
    assert metadata_of(merge_cards(existing, ours()))["model-index"] == index(result(0.7, ours=False))
    assert "model-index" not in metadata_of(merge_cards(card("Mine.", **{"model-index": index(result())}), ours()))


@pytest.mark.parametrize(
    "results", [[], ["?"], [{"metrics": None}], [{"metrics": []}], [{"metrics": ["?", {"args": 1}]}]]
)
def test_results_of_others_stay_whatever_they_are(results):
    existing = card("Mine.", **{"model-index": [{"name": "x", "results": results}]})
    assert metadata_of(merge_cards(existing, ours()))["model-index"] == [{"name": "x", "results": results}]


@pytest.mark.parametrize("value", ["x", 7, {"a": 1}, ["x"], [{"name": "x"}], [{"results": 5}]])
def test_an_index_that_is_none_is_named(value):
    with pytest.raises(
        ValueError, match=r"model-index in the metadata at the head of README\.md is no list of models"
    ):
        merge_cards(card("Mine.", **{"model-index": value}), ours())


# PEFT


def save_adapter(folder, model):
    model.save_pretrained(folder, save_embedding_layers=False)  # "auto" would ask the Hub for the base


def save(folder, model):
    """As `save_model` and a card after it."""
    save_adapter(folder, model)
    posterior = Posterior.initialise(select_parameters(model), PosteriorConfig())
    save_posterior(folder, model, posterior, StoredPosterior(PosteriorConfig(), num_data=50, temperature=0.1))
    figures = {"predictive": {"accuracy": 0.5, "nll": 0.7}, "mean": {"accuracy": 0.4, "nll": 0.8}}
    write_evaluations(folder, [Evaluation(name, 50, 4, 0, figures) for name in ("user/data", "photos", "scans")])
    return write_card(folder, repo_id="me/tiny", metadata=CardMetadata(name="tiny", datasets=["user/data"]))


def adapter(base_name):
    base = tiny_vit()
    base.name_or_path = base.config._name_or_path = base_name
    return get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["classifier"]))


def test_peft_s_questions_go_and_its_metadata_stay(tmp_path):
    model = adapter("user/base")
    save_adapter(tmp_path, model)
    assert "[More Information Needed]" in (tmp_path / "README.md").read_text()
    merged = ModelCard.load(save(tmp_path, model))
    assert "[More Information Needed]" not in merged.text and merged.text.startswith("\n# tiny\n")
    assert (merged.data.library_name, merged.data.base_model) == ("peft", "user/base")
    assert {"lora", "base_model:adapter:user/base", "hf_scorevi"} <= set(merged.data.tags)


@pytest.mark.parametrize("base", ["user/base", "/home/me/base", ""])
@pytest.mark.parametrize("own", ["", "\nMade for the *zoo*.\n"])
def test_saving_by_peft_and_again_gives_the_same_card(tmp_path, base, own):
    model = adapter(base)
    path = save(tmp_path, model)
    path.write_text(path.read_text() + own)
    first = path.read_text()
    assert "/home/me" not in first
    save_adapter(tmp_path, model)
    assert path.read_text() != first  # PEFT has written its tags and base anew
    assert save(tmp_path, model).read_text() == first


def test_what_people_wrote_into_an_adapter_s_card_outlives_peft(tmp_path):
    model = adapter("user/base")
    path = save(tmp_path, model)
    path.write_text(
        path.read_text().replace("# tiny\n", "# Tiny, by me\n\nMine.\n").replace("\n---\n\n#", "\nmine: 1\n---\n\n#")
    )
    save_adapter(tmp_path, model)
    merged = ModelCard.load(save(tmp_path, model))
    assert merged.text.startswith("\n# Tiny, by me\n\nMine.\n")
    assert merged.data.to_dict()["mine"] == 1
    assert {r.dataset_name for r in merged.data.eval_results} == {"user/data", "photos", "scans"}


# What may stand in a cell


HOSTILE = [
    "a | b", r"a \| b", r"a \\| b", "a `b` c", "<img src=x onerror=alert(1)>", "&lt;b&gt;", "<!-- hf_scorevi: end -->",
    "![x](https://evil.example/x.png)", "[x](javascript:alert(1))", "https://evil.example", "WWW.evil.example", "[^1]",
    "**bold**", "__bold__", "_it_", "~~struck~~", "a\n\n# Title", "a\n---\nb", "$x$", r"\\",
    "a\u2028b\0c\ud800d\u202ee",
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
def test_text_of_strangers_is_text_and_nothing_else(text):
    page = (
        MarkdownIt("commonmark")
        .enable(["table", "strikethrough"])
        .render(f"| a | b |\n|---|---|\n| {plain(text)} | end |\n")
    )
    cells = [part.split("</td>")[0] for part in page.split("<td>")[1:]]
    shown = "".join(c for c in " ".join(text.split()) if c.isprintable())
    escaped = shown.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")
    assert cells == [escaped, "end"]
    assert not re.search(r"://|www\.", plain(text), re.IGNORECASE)  # which the Hub would make a link of


@pytest.mark.parametrize(
    "text", ["adamw_torch_fused", "block_diagonal", "NVIDIA H200", "linear (warm-up)", "0.1.0+cu128"]
)
def test_harmless_text_is_left_alone(text):
    assert plain(text) == text


def test_settings_of_all_types_have_a_cell():
    values = [
        True,
        False,
        0,
        9999,
        10_000,
        -5,
        0.1,
        1e-5,
        3.0,
        1e300,
        "text",
        "",
        ["a", 1, None, []],
        {},
        {"a": 1},
        [],
    ]
    assert [cell(value) for value in values] == [
        "yes", "no", "0", "9999", "10,000", "-5", "0.1", "1e-05", "3", "1e+300", "text", "–", "a, 1", "–", "–", "–"
    ]  # fmt: skip
    assert len(cell("x" * 10_000)) == 200


# --- what is said by name


def test_what_is_said_replaces_what_is_there_and_the_rest_stays():
    existing = card("# out\n", license="mit", pipeline_tag="text-classification", language="en", mine=1)
    new = ours(license="apache-2.0", pipeline_tag="audio-classification", language="de")
    merged = merge_cards(existing, new, {"license": (), "pipeline_tag": ()})
    found = metadata_of(merged)
    assert (found["license"], found["pipeline_tag"]) == ("apache-2.0", "audio-classification")
    assert (found["language"], found["mine"]) == ("en", 1)


def test_of_a_list_only_our_own_guesses_are_replaced():
    existing = card("Mine.", datasets=["user/guess", "user/theirs"], tags=["vision"])
    merged = merge_cards(existing, ours(datasets=["user/said"]), {"datasets": ["user/guess"], "tags": ()})
    assert metadata_of(merged)["datasets"] == ["user/theirs", "user/said"]
    assert metadata_of(merged)["tags"] == ["vision", *TAGS]
    again = merge_cards(merged, ours(datasets=["user/guess"]), {"datasets": ["user/guess"]})
    assert metadata_of(again)["datasets"] == ["user/theirs", "user/said", "user/guess"]


@pytest.mark.parametrize(("text", "title"), [("# out\n", "# tiny"), ("# out\n\nBy me.\n", "# out")])
def test_a_name_replaces_a_title_under_which_nobody_has_written(text, title):
    merged = merge_cards(card(text), ours(), {"name": ()})
    assert ModelCard(merged).text.strip("\n").splitlines()[0] == title
