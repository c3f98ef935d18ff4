"""--as-published: one list sets it, README names it, and its rows are kept apart."""

import re

import pytest
import yaml
from conftest import HERE

import train
import train_bert
from core.options import InputError, outcome_options, parse_config, plain
from knn import KnnConfig
from recommenders.as_published import NOT_OFFERED, SETS
from recommenders.interactions import load_split

KINDS = {"knn": KnnConfig, "shallow": train.ShallowConfig, "bert4rec": train_bert.BertConfig}
README = (HERE / "README.md").read_text(encoding="utf-8")
DIFFERENCES = README[README.index("## Differences") : README.index("## The study's numbers")]


def parsed(name, *flags):
    return parse_config(KINDS[name], "", ["--embedding", "toy", *map(str, flags)])


@pytest.mark.parametrize("name", SETS)
def test_all_that_is_listed_is_set_and_nothing_else(name):
    found = outcome_options(parsed(name, "--as-published"))
    usual = outcome_options(parsed(name))
    changed = {key for key in found if found[key] != usual[key]}
    assert {key: found[key] for key in SETS[name]} == {k: plain(v) for k, v in SETS[name].items()}
    assert changed - set(SETS[name]) == {"as_published"}


def test_the_readme_names_every_option_that_is_set_and_what_is_not_offered():
    for options in SETS.values():
        for option, value in options.items():
            text = "" if value is True else f" {str(value).lower()}"
            assert f"--{option.replace('_', '-')}{text}" in DIFFERENCES, option
    refused = [line.split("|")[1].strip() for line in DIFFERENCES.splitlines() if "|" in line]
    assert all(any(each in line for line in refused) for each in NOT_OFFERED)
    for flag in re.findall(r"`(--[a-z-]+)", DIFFERENCES):
        known = {f"--{o.replace('_', '-')}" for k in KINDS.values() for o in k.__dataclass_fields__}
        assert flag in known, flag


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
