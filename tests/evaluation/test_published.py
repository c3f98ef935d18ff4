"""The published numbers are the reference's, and ours never pass for the study's."""

import re

import pandas as pd
import pytest
from test_table import write_run

from core.artifacts import write_json
from core.options import InputError
from evaluation.published import beside_published, describe_data, read_published
from listening_log.published_split import COUNTS


def test_the_data_is_what_the_reference_table_says(shared):
    text = (shared / "PUBLISHED.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([\w ]+) \| [\w-]+ \| (\S+) \| (\S+) \| (\S+) \|$", text, re.M)
    known = read_published()["HitRate@50"]
    assert len(rows) == 8
    for backbone, *cells in rows:
        for recommender, cell in zip(known, cells, strict=True):
            value = known[recommender].get(backbone)
            assert (value is None) == (cell in "-?")
            assert value is None or value == float(cell)
    ndcg = re.search(r"NDCG@50 of BERT4Rec: (.*)\.\n", text)[1]
    expected = {name: float(value) for name, value in re.findall(r"(\w+) (\.\d+)", ndcg)}
    assert read_published()["NDCG@50"]["bert4rec"] == expected


def table_of(**more):
    row = {"recommender": "knn", "embedding": "musicnn", "tag": "", "seeds": 1, **more}
    return pd.DataFrame([{**row, "HitRate@50": 0.5, "HitRate@50_ci95": 0.1}])


def test_every_published_number_stands_once_and_beside_each_row_of_ours():
    alone = beside_published(table_of(embedding="mine"))
    assert len(alone) == 7 + 8 + 8 + 5 and alone.ours.isna().all()
    both = pd.concat([table_of(), table_of(tag="published"), table_of(tag="shuffled")])
    found = beside_published(both).dropna(subset="ours")
    assert found.tag.tolist() == ["", "published"], "a control is not the study's row"
    assert found.published.tolist() == [0.089, 0.089] and found.backbone.eq("MusiCNN").all()


def counts(**changed):
    known = read_published()
    return {"counts": {part: {**known[part], **changed, "plays": 1} for part in ("train", "test")}}


def test_only_the_published_split_is_called_so(tmp_path):
    assert "without data/split.json" in describe_data(tmp_path)[0]
    (tmp_path / "data").mkdir()
    record = tmp_path / "data" / "split.json"
    write_json(record, counts())
    data, same = describe_data(tmp_path)
    assert same and data.startswith("Music4All") and data.endswith("the published split")
    write_json(record, counts(users=17_052))
    data, same = describe_data(tmp_path)
    assert not same and "not the study's (17,052 users, " in data
    record.write_text(record.read_text().replace("17052", "17053"))  # damaged in one figure
    with pytest.raises(InputError, match="split.json is not what was written"):
        describe_data(tmp_path)
    write_json(record, {"counts": COUNTS})
    data, same = describe_data(tmp_path)
    assert not same and data.endswith("the extended study's published split")
    write_json(record, counts())
    write_json(tmp_path / "sample.json", {})
    data, same = describe_data(tmp_path)
    assert not same and "synthetic sample" in data


@pytest.mark.parametrize("sample", [True, False])
def test_the_page_names_both_data_sets_and_gives_differences_only_on_the_same(
    tmp_path, call, sample
):
    write_run(tmp_path, "knn", "musicnn", 1, [0, 1])
    write_json(tmp_path / "data" / "split.json", counts()) if not sample else None
    if sample:
        write_json(tmp_path / "sample.json", {})
    call("table", "--root", tmp_path)
    page = (tmp_path / "tables" / "compare_published.md").read_text()
    (row,) = [line for line in page.splitlines() if re.match(r"\| KNN +\| +MusiCNN", line)]
    cells = [cell.strip() for cell in row.split("|")[1:-1]]
    assert cells[2] == "0.089" and cells[3].startswith("0.500") and cells[5] == "musicnn"
    assert "published, Music4All" in page
    if sample:
        assert "synthetic sample" in page and "cannot be compared" in page and cells[4] == "-"
        assert "ours, other data" in page
        assert "synthetic sample" in (tmp_path / "tables" / "results.md").read_text()
        assert "synthetic sample" in (tmp_path / "tables" / "results.tex").read_text()
    else:
        assert "cannot be compared" not in page and cells[4] == "+0.411"
