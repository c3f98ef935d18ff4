"""The report's files: what it says of a study, what it escapes, links, copies and refuses."""

import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread
from studies import add_audio, add_comparisons, add_styles, make_study

import report
from core.options import InputError
from core.splits import read_split
from core.trackids import read_trackids
from reporting.answer import answer
from reporting.drawing import model_sizes
from reporting.figures import apart
from reporting.matrices import difference_matrix
from reporting.study import read_study
from reporting.tables import further_tables, results_table
from reporting.tracks import read_about, read_tracks

NASTY = ("<script>alert(1)<!--", "a&b#c?d%20e", "z'z<img src=x>")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return make_study(tmp_path_factory.mktemp("study") / "root", networks=False)


@pytest.fixture
def root(finished, tmp_path):
    """A study of its own for the test to change."""
    return shutil.copytree(finished, tmp_path / "root", copy_function=shutil.copy2)


@pytest.fixture
def undrawn(monkeypatch):
    """Pages without figures, for tests that are about something else: drawing takes seconds."""
    monkeypatch.setattr(report, "draw_all", lambda *_: {})


def data_of(root):
    page = (root / "report" / "listen.html").read_text(encoding="utf-8")
    return json.loads(
        re.search(r'<script type="application/json" id="data">(.*)</script>', page)[1]
    )


def study_of(root):
    return read_study(root, len(read_trackids(root)))


def verdict_of(root):
    return answer(study_of(root), "HitRate@50")["cards"][0]["verdict"]


def test_a_report_with_every_figure_is_written_and_named(tmp_path, call, capsys):
    root = make_study(tmp_path / "root")
    add_comparisons(root, {"toy": 0.9, "noise": 0.5}, [{"toy", "noise"}])
    add_styles(root)
    call("report", "--root", root)
    assert f"open    {root / 'report' / 'index.html'}" in capsys.readouterr().out
    names = {
        "metric-hitrate",
        "metric-ndcg",
        "significance-hitrate",
        "curves",
        "maps",
        "similarity",
    }
    figures = root / "report" / "figures"
    assert {path.stem for path in figures.glob("*.pdf")} == names
    page = (root / "report" / "index.html").read_text()
    for name in names:
        for variant in ("", "-dark", "-narrow", "-narrow-dark"):
            pixels = imread(figures / f"{name}{variant}.png")
            assert pixels.std() > 0.01, f"{name}{variant} is blank"
            assert f"figures/{name}{variant}.png" in page
    assert "Synthetic sample" in page and "was not tested" not in page
    assert "coloured by style" in page
    assert not re.search(r"https?://|@import|url\(", page)


def test_the_page_says_so_where_there_are_no_tests_or_clips(root, call, undrawn):
    call("report", "--root", root)
    page = (root / "report" / "index.html").read_text()
    assert "Which differences are more than chance was not tested." in page
    assert "tables/comparisons.csv" in page and "Synthetic" not in page
    listen = (root / "report" / "listen.html").read_text()
    assert "report.py was not told where the clips are" in listen
    assert {track[4] for track in data_of(root)["tracks"]} == {""}


def test_nothing_is_done_again_unless_something_changed(root, call, undrawn, capsys):
    call("report", "--root", root)
    page = root / "report" / "index.html"
    before = page.stat().st_mtime_ns
    capsys.readouterr()
    call("report", "--root", root)
    assert page.stat().st_mtime_ns == before
    assert "up to date; --overwrite makes it again" in capsys.readouterr().out
    for change in (
        lambda: add_comparisons(root, {"toy": 0.9, "noise": 0.5}, []),
        lambda: page.unlink(),
        lambda: np.save(root / "embeddings" / "more.npy", np.ones((160, 3), np.float32)),
    ):
        change()
        call("report", "--root", root)
        assert "up to date" not in capsys.readouterr().out
    call("report", "--root", root, "--listen-users", 3)
    assert "up to date" not in capsys.readouterr().out
    assert len(data_of(root)["users"]) == 3


def test_a_report_that_was_interrupted_is_made_again(root, call, monkeypatch):
    monkeypatch.setattr(report, "draw_all", lambda *_: {})
    call("report", "--root", root)

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(report, "write_index", stop)
    with pytest.raises(KeyboardInterrupt):
        call("report", "--root", root, "--overwrite")
    monkeypatch.undo()
    monkeypatch.setattr(report, "draw_all", lambda *_: {})
    (root / "report" / "index.html").unlink()
    call("report", "--root", root)
    assert (root / "report" / "index.html").exists()


def test_ids_and_titles_are_text_in_every_place_they_stand(tmp_path, call, undrawn):
    ids = sorted([*NASTY, *(f"T{i:03}" for i in range(157))])
    root = make_study(tmp_path / "root", ids=ids, networks=False)
    add_styles(root)
    about = tmp_path / "about.tsv"
    about.write_text("id\tartist\tsong\n" + "".join(f"{i}\t<b>x</b>\t</script>\n" for i in ids))
    call("report", "--root", root, "--about", about)
    for name in ("index.html", "listen.html"):
        page = (root / "report" / name).read_text()
        assert "<script>alert" not in page
        assert page.count("</script>") == page.count("<script")
        assert "<b>x</b>" not in page
    tracks = {track[0]: track[1] for track in data_of(root)["tracks"]}
    assert set(tracks.values()) == {"<b>x</b>: </script>"}
    assert set(tracks) & set(NASTY)


def test_audio_is_linked_where_it_lies_and_copied_only_when_told(root, call, undrawn, capsys):
    ids = read_trackids(root)
    add_audio(root / "a b#", ids[:40], ".wav")
    call("report", "--root", root, "--audio", root / "a b#")
    data = data_of(root)
    assert data["audio"] == "../a%20b%23/"
    assert not (root / "report" / "audio").exists()
    suffixes = {track[0]: track[4] for track in data["tracks"]}
    assert suffixes[ids[1]] == ".wav" and suffixes.get(ids[50], "") == ""
    chosen = {data["tracks"][place][0] for place in data["queries"]}
    played = set(read_split(root)["train"].track_idx)
    assert chosen == {ids[row] for row in played if row < 40}  # those that can be heard

    capsys.readouterr()
    call("report", "--root", root, "--audio", root / "a b#", "--copy-audio")
    copies = list((root / "report" / "audio").iterdir())
    heard = [track for track in data_of(root)["tracks"] if track[4]]
    assert f"copying {len(heard)} audio files" in capsys.readouterr().out
    assert {copy.name for copy in copies} == {f"{track[0]}.wav" for track in heard}
    assert copies[0].read_bytes() == (root / "a b#" / copies[0].name).read_bytes()
    assert data_of(root)["audio"] == "audio/"

    call("report", "--root", root, "--audio", root / "a b#")
    assert list((root / "report" / "audio").iterdir()) == []  # what may not be passed on is gone


def test_the_listening_page_holds_the_nearest_tracks_and_the_hits_of_the_lists(root, call, undrawn):
    call("report", "--root", root)
    data, split, ids = data_of(root), read_split(root), read_trackids(root)
    names = [track[0] for track in data["tracks"]]
    vectors = np.load(root / "embeddings" / "toy.npy").astype(float)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    candidates = set(split["train"].track_idx)
    for row, place in list(enumerate(data["queries"]))[:10]:
        track = ids.index(names[place])
        cosines = vectors @ vectors[track]
        best = sorted(candidates - {track}, key=lambda other: -cosines[other])[:8]
        assert [names[i] for i in data["neighbours"]["toy"][row]] == [ids[i] for i in best]

    assert [each["name"] for each in data["lists"]][:2] == ["toy", "noise"]
    test = split["test"]
    assert [user["id"] for user in data["users"]] == sorted(set(test.user_id))
    for at, run in enumerate(each["run"] for each in data["lists"]):
        recs = pd.read_parquet(root / "runs" / run / "recs.pqt")
        for user in data["users"]:
            own = recs[recs.user_id == user["id"]].sort_values("rank").track_idx.tolist()
            truth = set(test[test.user_id == user["id"]].track_idx)
            assert [names[i] for i in user["lists"][at]] == [ids[i] for i in own[:20]]
            assert user["hits"][at] == len(truth & set(own[:50]))
            assert {names[i] for i in user["truth"]} == {ids[i] for i in truth}
    user, plays = data["users"][0], split["train"]
    own = plays[plays.user_id == user["id"]].sort_values(["timestamp", "track_idx"])
    assert [days for _, _, days in user["history"]] == sorted(
        own.timestamp.dt.strftime("%Y-%m-%d"), reverse=True
    )
    counts = dict(zip(own.track_idx, own["count"], strict=True))
    assert all(counts[ids.index(names[i])] == n for i, n, _ in user["history"])


def test_samples_are_drawn_by_the_seed(root, call, undrawn):
    drawn = []
    for seed in (0, 0, 1):
        options = ("--listen-tracks", 10, "--listen-users", 4, "--seed", seed, "--overwrite")
        call("report", "--root", root, *options)
        data = data_of(root)
        drawn.append([data["tracks"][place][0] for place in data["queries"]])
        assert len(drawn[-1]) == 10 and len(data["users"]) == 4
    assert drawn[0] == drawn[1] != drawn[2]


def test_the_leader_is_told_with_those_it_cannot_be_told_apart_from(root):
    results = pd.read_csv(root / "tables" / "results.csv", keep_default_na=False)
    knn = results[(results.recommender == "knn") & (results.embedding == "toy")]
    more = pd.concat([knn.assign(embedding=name) for name in ("one", "two")])
    values = {"one": 0.95, "two": 0.94, "toy": 0.7}
    table = pd.concat([results, more])
    table.loc[table.embedding == "none", "HitRate@50"] = 0.1
    for name, value in values.items():
        table.loc[table.embedding == name, "HitRate@50"] = value
    table.to_csv(root / "tables" / "results.csv", index=False)
    verdict = verdict_of(root)
    assert verdict["lead"] == "one" and verdict["text"] == "has the highest mean, .950."

    add_comparisons(root, values, [{"one", "toy"}, {"two", "toy"}])
    verdict = verdict_of(root)
    assert verdict["tied"] == ["two"]
    headline = answer(study_of(root), "HitRate@50")["headline"]
    assert headline == "one and two cannot be told apart under KNN."
    assert verdict["text"] == "has the highest mean, .950, but cannot be told apart from two."

    add_comparisons(root, values, [{"one", "toy"}, {"one", "two"}])
    assert verdict_of(root)["text"] == "leads with .950, significantly above every other embedding."

    table.loc[table.recommender == "popular", "HitRate@50"] = 0.96
    table.to_csv(root / "tables" / "results.csv", index=False)
    add_comparisons(root, {**values, "noise": 0.9}, [{"one", "toy"}, {"one", "two"}])
    shuffled = {"recommender": "knn", "embedding": "two", "tag": "", "metric": "HitRate@50"}
    pd.DataFrame([{**shuffled, "beats_shuffled": False}]).to_csv(
        root / "tables" / "shuffled.csv", index=False
    )
    text = verdict_of(root)["text"]
    assert "Its mean is not above that of most popular tracks (.960)." in text
    assert "It is not above noise, a control." in text
    assert "Not above the same vectors shuffled, so nothing is shown of: two." in text


def test_the_matrix_of_differences_is_antisymmetric_and_ordered_by_mean(root):
    add_comparisons(root, {"a": 0.2, "b": 0.5, "c": 0.3}, [{"a", "b"}])
    names, differences, p_values = difference_matrix(study_of(root).tables["comparisons"])
    assert names == ["b", "c", "a"]
    assert differences[0, 2] == pytest.approx(0.3) and differences[2, 0] == pytest.approx(-0.3)
    assert np.isnan(np.diag(differences)).all()
    assert p_values[0, 2] == p_values[2, 0] == 0.001 and p_values[0, 1] == 0.4


def test_the_best_of_a_recommender_is_bold_and_never_a_shuffled_one(root):
    results = pd.read_csv(root / "tables" / "results.csv", keep_default_na=False)
    shuffled = results[results.embedding == "toy"].assign(tag="shuffled", **{"HitRate@50": 1.0})
    pd.concat([results, shuffled]).to_csv(root / "tables" / "results.csv", index=False)
    table = results_table(study_of(root))
    at = [column["label"] for column in table["columns"]].index("HitRate@50")
    strong = [row[1]["text"] for row in table["rows"] if row[at]["strong"]]
    own = results[results.recommender == "knn"]
    best = own[own["HitRate@50"] == own["HitRate@50"].max()].embedding.tolist()
    assert strong == best


def test_every_table_of_the_study_is_shown_with_numbers_to_sort_by(root):
    frames = {
        "beyond": {"k": 50, "Coverage": 0.4, "Gini": 0.7, "Popularity": 31.5, "Novelty": 8.2},
        "segments": {"by": "activity", "group": "head", "users": 4, "HitRate@50": 0.5,
                     "HitRate@50_ci95": 0.1},
    }  # fmt: skip
    for name, values in frames.items():
        row = {"recommender": "knn", "embedding": "toy", "tag": "", **values}
        pd.DataFrame([row]).to_csv(root / "tables" / f"{name}.csv", index=False)
    pd.DataFrame(
        [{"recommender": "knn", "backbone": "musicnn", "metric": "HitRate@50", "published": 0.089,
          "ours": np.nan, "ours_ci95": np.nan}]
    ).to_csv(root / "tables" / "published.csv", index=False)  # fmt: skip
    add_comparisons(root, {"toy": 0.9, "noise": 0.5}, [{"toy", "noise"}])
    tables = {table["id"]: table for table in further_tables(study_of(root))}
    assert set(tables) == {"comparisons", "beyond", "segments", "published"}
    assert [c["text"] for c in tables["beyond"]["rows"][0]][2:] == [
        "50", ".400", ".700", "31.500", "8.200"
    ]  # fmt: skip
    assert [c["text"] for c in tables["segments"]["rows"][0]][2:] == [
        "activity", "head", "4", ".500"
    ]  # fmt: skip
    assert [c["text"] for c in tables["published"]["rows"][0]][3:5] == [".089", "–"]
    difference = tables["comparisons"]["rows"][0][4]
    assert difference["text"] == ".400" and difference["sort"] == pytest.approx(0.4)
    assert difference["strong"] and difference["note"] == ".350 to .450"


def test_genres_and_titles_come_from_music4alls_own_tables(root, tmp_path):
    ids = read_trackids(root)
    names, genres = tmp_path / "id_information.csv", tmp_path / "id_genres.csv"
    names.write_text(f'id\tartist\tsong\n{ids[1]}\tA "quoted\tB\n', encoding="utf-8")
    listed = [f"{track}\tgenre{i % 12:02},rare\n" for i, track in enumerate(ids)]
    genres.write_text("id\tgenres\n" + "".join(listed), encoding="utf-8")
    tracks = read_tracks(root, ids, read_split(root)["train"], (names, genres))
    assert tracks.titles == {ids[1]: 'A "quoted: B'}
    assert tracks.what == "genre"
    assert tracks.kinds == [*(f"genre{i:02}" for i in range(7)), "other"]
    assert tracks.kind[[0, 6, 7, 11]].tolist() == [0, 6, 7, 7]
    train = read_split(root)["train"]
    assert tracks.plays[5] == train["count"][train.track_idx == 5].sum()


def test_model_sizes_follow_the_backbones_name_and_unknown_ones_have_none(tmp_path):
    known = tmp_path / "sizes.yaml"
    known.write_text("mert: 5\nmert_small: 2\nmfcc: 0\n")
    sizes = model_sizes(["mert_l6", "mert_small_l2", "mfcc", "mertens"], known)
    assert sizes == {"mert_l6": 5, "mert_small_l2": 2, "mfcc": 0}
    known.write_text("mert: large\n")
    with pytest.raises(InputError, match="mert must be a number of parameters, got 'large'"):
        model_sizes(["mert"], known)


def test_labels_keep_apart():
    moved = apart({"a": 0.0, "b": 0.1, "c": 5.0}, 1.0)
    assert moved == {"a": 0.0, "b": 1.0, "c": 5.0}


def test_what_is_missing_or_wrong_is_named(root, call, tmp_path):
    with pytest.raises(InputError, match="--copy-audio needs --audio DIR"):
        call("report", "--root", root, "--copy-audio")
    with pytest.raises(InputError, match="nowhere is not a folder"):
        call("report", "--root", root, "--audio", tmp_path / "nowhere")
    with pytest.raises(InputError, match="holds no audio of the 160 track ids"):
        call("report", "--root", root, "--audio", root / "data")
    with pytest.raises(InputError, match="--map-tracks must be at least 20, got 3"):
        call("report", "--root", root, "--map-tracks", 3)
    strange = tmp_path / "strange.csv"
    strange.write_text("track,name\n1,2\n")
    with pytest.raises(InputError, match="must have a column 'id' and one of artist, song, genres"):
        read_about((strange,))
    with pytest.raises(InputError, match="gone.csv cannot be read"):
        read_about((tmp_path / "gone.csv",))
    metrics = root / "runs" / "knn-toy-s1" / "metrics.json"
    metrics.write_text(metrics.read_text())
    with pytest.raises(InputError, match="knn-toy-s1 is newer than tables/results.csv; run python"):
        call("report", "--root", root)
    (root / "tables" / "results.csv").unlink()
    with pytest.raises(InputError, match="results.csv is missing; make it with python table.py"):
        call("report", "--root", root)
