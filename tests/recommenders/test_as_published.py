"""--as-published: one list sets it, README names it, and its rows are kept apart."""

import re

import pytest
import yaml
from conftest import HERE

import train
import train_bert
import train_bimodal
import train_hybrid
from core.options import InputError, outcome_options, parse_config, plain
from core.registry import ALL
from evaluation.results import average_seeds, read_runs
from knn import KnnConfig
from recommenders.as_published import AUDIO, DIFFERENCES, SETS, readme_table
from recommenders.interactions import load_split
from recommenders.run_options import EmbeddingOptions
from training.elsa import ElsaConfig

KINDS = {
    "knn": KnnConfig,
    "shallow": train.ShallowConfig,
    "bert4rec": train_bert.BertConfig,
    "bimodal_average": train_bimodal.BimodalConfig,
    "hybrid": train_hybrid.HybridConfig,
    "elsa": ElsaConfig,
}


def parsed(name, *flags):
    heard = ["--embedding", "toy"] if ALL[name].hears else []
    return parse_config(KINDS[name], "", [*heard, *map(str, flags)])


@pytest.mark.parametrize("name", SETS)
def test_all_that_is_listed_is_set_and_nothing_else(name):
    found = outcome_options(parsed(name, "--as-published"))
    usual = outcome_options(parsed(name))
    changed = {key for key in found if found[key] != usual[key]}
    assert {key: found[key] for key in SETS[name]} == {k: plain(v) for k, v in SETS[name].items()}
    assert changed - set(SETS[name]) == {"as_published"}


def test_every_recommender_over_vectors_is_listed():
    studied = {"knn", "shallow", "bert4rec", "bimodal_average", "hybrid"}
    assert {each for each in SETS if ALL[each].hears} == studied


def test_what_the_study_does_not_have_has_no_published_form():
    class Own(EmbeddingOptions):
        section = "own"

    with pytest.raises(InputError, match="--as-published: the study's code has no own; leave it"):
        Own(embedding="toy", as_published=True)


def test_the_readmes_table_is_the_list():
    readme = (HERE / "README.md").read_text(encoding="utf-8")
    there = readme[readme.index("## Differences") : readme.index("## The study's numbers")]
    assert [line for line in there.splitlines() if line.startswith("|")] == readme_table()
    for each in DIFFERENCES:
        assert each.keys() <= {"what", "published", "here", "sets", "audio", "also"}, each["what"]
        assert each.keys() & {"sets", "audio", "also"}, f"{each['what']}: how is it had?"
    for flag in re.findall(r"`(--[a-z-]+)", there):
        known = {f"--{o.replace('_', '-')}" for k in KINDS.values() for o in k.__dataclass_fields__}
        assert flag in known, flag


def test_the_extractions_listed_are_those_that_have_the_option():
    folder = HERE / "extract_item_embeddings"
    having = {
        p.stem for p in folder.glob("*.py") if "    as_published: bool = option(" in p.read_text()
    }
    assert having == set(AUDIO)


def test_the_tag_and_contradictions():
    assert parsed("knn", "--as-published").tag == "published"
    assert parsed("knn", "--as-published", "--shuffle").tag == "published_shuffled"
    assert parsed("knn", "--as-published", "--tag", "mine").tag == "mine_published"
    with pytest.raises(InputError, match="--tag published is for runs made by --as-published"):
        parsed("knn", "--tag", "published")
    with pytest.raises(InputError, match="sets --scale to none, got whiten"):
        parsed("knn", "--as-published", "--scale", "whiten")
    with pytest.raises(InputError, match="sets --predict-length to 50, got 20"):
        parsed("bert4rec", "--as-published", "--predict-length", 20)
    with pytest.raises(InputError, match="sets --epochs to 10, got 20"):
        parsed("elsa", "--as-published", "--epochs", 20)


def test_it_runs_and_negatives_are_of_the_first_users_alone(toy_root, call, monkeypatch):
    root = toy_root()
    monkeypatch.setattr(train, "PUBLISHED_RANGE", 5)
    fit = ("--device", "cpu", "--epochs", 2)
    call("train", "--root", root, "--embedding", "toy", "--as-published", *fit)
    run = root / "runs" / "shallow-toy-published-s1"
    known = yaml.safe_load((run / "config.yaml").read_text())
    assert known["options"]["negatives"] == "published" and known["tag"] == "published"
    config = parsed("shallow", "--root", root, "--as-published")
    batches, _, _ = train.batches(config, load_split(root), "cpu")
    drawn = {int(user) for batch in batches(1) for user in batch.negatives.flatten()}
    assert drawn == {0, 1, 2, 3, 4}


def test_a_blend_of_a_row_as_published_is_one(toy_root, call):
    root = toy_root()
    call("baselines", "--root", root, "--only", "ease", "--l2", 50)
    for flags in ((), ("--as-published",), ("--as-published", "--shuffle")):
        call("knn", "--root", root, "--embedding", "toy", *flags)
    for name in ("knn-toy", "knn-toy-published", "knn-toy-published_shuffled"):
        call("blend", "--root", root, "--runs", f"{name}-s1,ease-none-s1")
    rows = average_seeds(read_runs(root, "blend-*"))
    tags = {"knn_ease", "knn_ease_published", "knn_ease_published_shuffled"}
    assert {row.tag for row in rows} == tags
