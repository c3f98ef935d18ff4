"""The report's own files, and those of an earlier study, are read as they were written."""

import shutil

import pytest
from conftest import call_main, flip
from studies import make_study

import report
import reporting.compared
from core.artifacts import read_json, sha256, write_json
from core.options import InputError
from evaluation.tables import seal_tables
from reporting.against import read_old
from reporting.study import read_study
from reporting.tracks import read_tracks

EMBEDDINGS = ["shuffled", "toy", "noise"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A root with its report."""
    root = make_study(tmp_path_factory.mktemp("study") / "root", networks=False)
    seal_tables(root / "tables", {})
    call_main("report", "--root", root, "--neighbours", "drawn")
    return root


@pytest.fixture
def root(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "root", copy_function=shutil.copy2)


@pytest.mark.parametrize("table", ["tables/results.csv", "report/data/results.csv"])
def test_a_study_to_compare_with_is_the_one_that_was_made(root, table):
    path, folder = root / table, root / table.rpartition("/")[0].rpartition("/")[0]
    assert len(read_old(folder)) > 3
    whole = path.read_bytes()
    for at in range(0, len(whole), 37):
        flip(path, at)
        with pytest.raises(InputError, match="results.csv is not the file that was written"):
            read_old(folder)
        path.write_bytes(whole)


def test_a_report_from_before_there_were_fingerprints_is_compared_with(root):
    told = read_json(root / "report" / "report.json", "")
    del told["sha256"]
    write_json(root / "report" / "report.json", told)
    flip(root / "report" / "data" / "results.csv", -3)
    assert len(read_old(root / "report")) > 3


@pytest.mark.parametrize("name", ["index.html", "listen.html", "data/results.csv"])
@pytest.mark.parametrize("damage", ["cut", "one bit", "gone"])
def test_a_damaged_page_is_not_up_to_date(root, name, damage):
    folder = root / "report"
    earlier = read_json(folder / "report.json", "")
    assert report._whole(earlier, folder) and name in earlier["sha256"]
    path = folder / name
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:100])
    elif damage == "gone":
        path.unlink()
    else:
        flip(path, 50)
    assert not report._whole(earlier, folder)


@pytest.mark.parametrize("content", ["{}", "[]", "null"])
def test_a_record_of_another_shape_is_no_traceback(root, content):
    (root / "report" / "report.json").write_text(content)
    try:
        assert report._whole(report._earlier(root / "report"), root / "report") in (True, False)
    except InputError as error:
        assert "report.json" in str(error)


@pytest.fixture
def compared(monkeypatch):
    """The embeddings whose tracks were compared, in order."""
    names, write = [], reporting.compared.write_neighbours

    def counted(folder, name, *rest):
        names.append(name)
        return write(folder, name, *rest)

    monkeypatch.setattr(reporting.compared, "write_neighbours", counted)
    monkeypatch.setattr(report, "draw_all", lambda *_: {})
    return names


def contents(root):
    folder = root / "report"
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*.*") if p.is_file()}


def test_what_a_report_says_of_an_embedding_is_kept_when_it_is_made_again(root, compared):
    call_main("report", "--root", root, "--overwrite")
    assert compared == EMBEDDINGS
    compared.clear()
    call_main("report", "--root", root, "--listen-users", 3)
    assert compared == []
    kept = contents(root)
    call_main("report", "--root", root, "--listen-users", 3, "--overwrite")
    assert compared == EMBEDDINGS and contents(root) == kept


@pytest.mark.parametrize("damage", ["one bit", "gone", "another embedding", "not told", "of few"])
def test_what_is_not_what_was_written_of_an_embedding_is_made_again(root, compared, damage):
    call_main("report", "--root", root, "--overwrite")
    expected = contents(root)
    compared.clear()
    told = root / "report" / "report.json"
    record, path = read_json(told, ""), root / "report" / "data" / "near-toy-0.js"
    if damage == "one bit":
        flip(path, 50)
    elif damage == "gone":
        path.unlink()
    elif damage == "another embedding":
        of = record["embeddings"]["toy"]["made_from"]
        record["embeddings"]["toy"]["made_from"] = of.translate(str.maketrans("a0", "0a"))
    elif damage == "not told":
        del record["sha256"]["data/near-toy-0.js"]
    else:
        call_main("report", "--root", root, "--neighbours", "drawn", "--listen-tracks", 5)
        record = read_json(told, "")
        compared.clear()
    record["made_from"] = "something else"
    write_json(told, record)
    call_main("report", "--root", root)
    assert compared == (EMBEDDINGS if damage == "of few" else ["toy"])
    assert contents(root) == expected


def test_lists_that_are_gone_are_told_before_what_takes_long(root, compared):
    next((root / "runs").glob("*/recs.pqt")).unlink()
    with pytest.raises(InputError, match="recs.pqt is missing"):
        call_main("report", "--root", root, "--overwrite")
    assert compared == []


def test_what_is_known_of_the_tracks_is_what_was_written(root):
    about, train = root / "about.tsv", report.read_split(root)["train"]
    ids = report.read_trackids(root)
    about.write_text("id\tartist\n" + "".join(f"{track}\tsomebody\n" for track in ids))
    write_json(root / "about.json", {"sha256": sha256(about)})
    assert read_tracks(root, ids, train, ()).titles[ids[0]] == "somebody"
    flip(about, 40)
    with pytest.raises(InputError, match="about.tsv is not the file .* get_data.py --about"):
        read_tracks(root, ids, train, ())


def test_a_table_that_is_replaced_meanwhile_is_not_kept_as_the_reports_own(root):
    study = read_study(root, len(report.read_trackids(root)))
    config = report.ReportConfig(root=root)
    assert report.keep_table(config, study, root / "report").exists()
    table = root / "tables" / "results.csv"
    table.write_text(table.read_text().replace("0.", "0.9", 1))
    with pytest.raises(InputError, match="results.csv was replaced while the report was made"):
        report.keep_table(config, study, root / "report")
