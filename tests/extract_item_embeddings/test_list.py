"""backbones.py --list: complete, of this machine, and the table of the documentation."""

from pathlib import Path

import pytest

import backbones
from core.options import InputError
from extract_item_embeddings.engine.found import backbone_class, backbone_names
from extract_item_embeddings.networks.tensor_bundle import read_tensors

HERE = Path(__file__).resolve().parents[2]


def test_parameters_and_costs_are_known_of_every_backbone_with_weights_and_of_nothing_else():
    known = set(backbones.costs())
    assert known == set(backbones.sizes()) and known <= set(backbone_names())
    assert not [n for n in backbone_names() if backbone_class(n).licence and n not in known]
    assert "mfcc" in known  # nothing else is without weights, but what is added by its users
    for name, cost in backbones.costs().items():
        assert set(cost) <= {"core_seconds", "megabytes", "source", "gpu"}
        kind = backbone_class(name)
        assert ("megabytes" in cost) == bool(kind.licence)
        assert "source" in cost or hasattr(kind, "repository") or not kind.licence


def test_the_table_of_the_documentation_is_the_one_that_is_printed(capsys):
    backbones.main(backbones.BackbonesConfig(list=True, markdown=True))
    lines = capsys.readouterr().out.strip().splitlines()
    known = {f"| `{name}` |" for name in backbones.costs()}
    own = [line for line in lines[2:] if line.partition("` |")[0] + "` |" not in known]
    table = "\n".join(line for line in lines if line not in own)  # of the project alone
    assert table in (HERE / "docs" / "extraction.md").read_text(encoding="utf-8")
    rows = table.splitlines()
    assert len(rows) == 2 + len(known) and len(lines) == 2 + len(backbone_names())
    (musicnn,) = (row for row in rows if row.startswith("| `musicnn` |"))
    assert musicnn.split(" | ")[1:6] == [
        "200", "16 kHz", "0.8 M", "ISC", "9 MB, musicnn's wheel"
    ]  # fmt: skip


def test_the_list_says_what_is_lacking_here(capsys, monkeypatch):
    monkeypatch.setattr(backbones, "has_gpu", lambda: False)
    monkeypatch.setattr(backbones, "memory_gigabytes", lambda: 8.0)
    monkeypatch.setattr(backbones, "cores", lambda: 64)
    monkeypatch.setattr(backbones, "is_cached", lambda repository, revision: "MERT" in repository)
    backbones.main(backbones.BackbonesConfig(list=True))
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert lines["mfcc"].endswith(" yes") and lines["musicnn"].endswith(" yes")
    assert lines["mert"].endswith(" yes") and lines["jukemir"].endswith(" needs a GPU")
    for name in ("music2vec", "mule", "matpac"):
        assert lines[name].endswith(" yes, once the weights are fetched")
    hours = backbones.STUDY * backbones.costs()["mert"]["core_seconds"] / 64 / 3600
    assert f" {hours:,.1f} " in lines["mert"]


def test_what_is_not_known_of_a_backbone_is_a_dash(capsys, monkeypatch):
    costs, sizes = backbones.costs(), backbones.sizes()
    monkeypatch.setattr(backbones, "costs", lambda: {n: c for n, c in costs.items() if n != "mfcc"})
    monkeypatch.setattr(backbones, "sizes", lambda: {n: s for n, s in sizes.items() if n != "mfcc"})
    backbones.main(backbones.BackbonesConfig(list=True))
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("mfcc "))
    assert line.split()[1:] == ["104", "22.05", "kHz", *"----", "yes"]


def test_a_repository_is_looked_for_in_the_cache_alone(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert not backbones.is_cached("m-a-p/MERT-v1-95M", "12af15fef9d0ac838c3f475bfbbf26d2060dd4f5")


def test_without_list_it_says_so():
    with pytest.raises(InputError, match="--list prints the table"):
        backbones.main(backbones.BackbonesConfig())


def test_sizes_counted_in_shapes_here_are_those_of_the_checkpoints():
    """Of the four taggers, whose weights are here."""
    for name in ("musicnn", "musicnn_mtt", "vgg_msd", "vgg_mtt"):
        tensors = read_tensors(*backbone_class(name)().files())
        trained = [
            array.size
            for key, array in tensors.items()
            if "moving_" not in key and "_power" not in key and "Adam" not in key
        ]
        assert sum(trained) == backbones.sizes()[name]
