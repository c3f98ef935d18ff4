"""The report's files: what it says of a study, what it escapes, links, copies and refuses."""

import base64
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from matplotlib.image import imread
from studies import add_audio, add_comparisons, add_styles, make_study

import report
from core.days import days_in_words
from core.options import InputError
from core.splits import read_split
from core.trackids import read_trackids
from core.users import write_users
from reporting.alternatives import metric_text, rank_text, significance_text, similarity_text
from reporting.answer import answer
from reporting.drawing import model_sizes
from reporting.figures import rank_rows
from reporting.findings import number
from reporting.labels import apart
from reporting.matrices import difference_matrix
from reporting.study import read_study
from reporting.tables import cell, column, further_tables, results_table
from reporting.tracks import read_about, read_tracks
from reporting.users import user_rows

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


def near_of(root, name):
    """Return the places (n, k) and cosines of every track's neighbours, as the page reads them."""
    data, parts = data_of(root), []
    k, size = data["near"]["k"], data["near"]["block"]
    for block in range(-(-data["candidates"] // size)):
        text = (root / "report" / "data" / f"near-{name}-{block}.js").read_text()
        content = base64.b64decode(
            re.fullmatch(rf'take\("near-{name}-{block}","(.*)"\)\n', text)[1]
        )
        rows = min(size, data["candidates"] - block * size)
        places = np.frombuffer(content, "<u4", rows * k).reshape(rows, k)
        cosines = np.frombuffer(content, np.int8, offset=rows * k * 4).reshape(rows, k)
        parts.append((places, cosines / 100))
    return tuple(np.concatenate(each) for each in zip(*parts, strict=True))


def lists_of(root):
    """Return the places (users, lists, k) of every user's lists, as the page reads them."""
    data = data_of(root)
    text = (root / "report" / "data" / "lists.js").read_text()
    content = base64.b64decode(text.removeprefix('take("lists","').removesuffix('")\n'))
    shape = len(data["users"]), len(data["lists"]), data["k"]
    return np.frombuffer(content, "<u4").reshape(shape)


def study_of(root):
    return read_study(root, len(read_trackids(root)))


def text_of(root):
    return answer(study_of(root), "HitRate@50")["cards"][0]["text"]


def test_a_report_with_every_figure_is_written_and_named(tmp_path, call, capsys):
    root = make_study(tmp_path / "root")
    add_comparisons(root, {"toy": 0.9, "noise": 0.5}, [{"toy", "noise"}])
    add_styles(root)
    call("report", "--root", root)
    assert f"open    {root / 'report' / 'index.html'}" in capsys.readouterr().out
    names = {
        "forest",
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


def test_audio_is_found_where_extraction_finds_it(root, call, undrawn):
    ids = read_trackids(root)
    add_audio(root / "clips" / "a b", ids[:30], ".WAV")
    add_audio(root / "clips" / "c" / "d", ids[30:40], ".wav")
    call("report", "--root", root, "--audio", root / "clips", "--copy-audio")
    endings = {track[0]: track[4] for track in data_of(root)["tracks"]}
    assert endings[ids[1]] == "a b/.WAV" and endings.get(ids[35], "") == ""
    copy = root / "report" / "audio" / "a b" / f"{ids[1]}.WAV"
    assert copy.read_bytes() == (root / "clips" / "a b" / copy.name).read_bytes()

    call("report", "--root", root, "--audio", root / "clips", "--pattern", "**/*.wav")
    endings = {track[0]: track[4] for track in data_of(root)["tracks"]}
    assert endings[ids[35]] == "c/d/.wav" and endings.get(ids[1], "") == ""

    (root / "clips" / f"{ids[1]}.ogg").touch()
    with pytest.raises(InputError, match=f"{ids[1]}.ogg and .*{ids[1]}.WAV are two files for"):
        call("report", "--root", root, "--audio", root / "clips")


def test_the_listening_page_holds_the_nearest_tracks_and_the_hits_of_the_lists(root, call, undrawn):
    call("report", "--root", root)
    data, split, ids = data_of(root), read_split(root), read_trackids(root)
    names = [track[0] for track in data["tracks"]]
    vectors = np.load(root / "embeddings" / "toy.npy").astype(float)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    candidates = set(split["train"].track_idx)
    assert names[: data["candidates"]] == [ids[row] for row in sorted(candidates)]
    places, cosines = near_of(root, "toy")
    for place in range(data["candidates"]):  # of every track, not only of those drawn
        track = ids.index(names[place])
        known = vectors @ vectors[track]
        best = sorted(candidates - {track}, key=lambda other: -known[other])[:8]
        assert [names[i] for i in places[place]] == [ids[i] for i in best]
        assert cosines[place] == pytest.approx(known[best], abs=0.006)

    assert [each["name"] for each in data["lists"]][:2] == ["toy", "noise"]
    test = split["test"]
    assert [user["id"] for user in data["users"]] == list(map(str, sorted(set(test.user_id))))
    for at, run in enumerate(each["run"] for each in data["lists"]):
        numbers = json.loads((root / "runs" / run / "metrics.json").read_text())["test"]
        told = data["lists"][at]["mean"]
        assert told["HitRate"] == pytest.approx(numbers["HitRate@50"]["mean"], abs=1e-4)
        assert told["hits"] == pytest.approx(50 * numbers["Precision@50"]["mean"], abs=0.01)
        recs = pd.read_parquet(root / "runs" / run / "recs.pqt")
        for user, lists in zip(data["users"], lists_of(root), strict=True):
            own = recs[recs.user_id == int(user["id"])].sort_values("rank").track_idx.tolist()
            truth = set(test[test.user_id == int(user["id"])].track_idx)
            assert [names[i] for i in lists[at] if i < len(names)] == [ids[i] for i in own[:50]]
            assert user["hits"][at] == len(truth & set(own[:50]))
            assert {names[i] for i in user["truth"]} == {ids[i] for i in truth}
    user, plays = data["users"][0], split["train"]
    own = plays[plays.user_id == int(user["id"])].sort_values(["timestamp", "track_idx"])
    assert [days for _, _, days in user["history"]] == sorted(
        own.timestamp.dt.strftime("%Y-%m-%d"), reverse=True
    )
    counts = dict(zip(own.track_idx, own["count"], strict=True))
    assert all(counts[ids.index(names[i])] == n for i, n, _ in user["history"])


def test_the_first_track_and_user_are_drawn_by_the_seed_whatever_they_hit(root, call, undrawn):
    firsts = []
    for seed in range(4):
        call("report", "--root", root, "--seed", seed, "--overwrite")
        data = data_of(root)
        firsts.append((data["first"]["track"], data["first"]["user"]))
        assert firsts[-1][0] < len(data["queries"]) and firsts[-1][1] < len(data["users"])
    assert len(set(firsts)) > 1


def test_no_page_tells_where_things_lie_on_the_machine_that_made_it(root, call, undrawn):
    facts = {"weights": {"source": "/home/somebody/their/w.bin"}, "audio": "/home/somebody/clips"}
    (root / "embeddings" / "toy.json").write_text(json.dumps(facts))
    call("report", "--root", root)
    for name in ("index.html", "listen.html"):
        page = (root / "report" / name).read_text()
        assert "somebody" not in page and str(root) not in page
    assert "w.bin" in (root / "report" / "index.html").read_text()


def test_what_moved_beyond_its_interval_since_an_earlier_report_is_told(
    root, call, undrawn, tmp_path, capsys
):
    call("report", "--root", root)
    old = shutil.copytree(root / "report", tmp_path / "old report")
    results = pd.read_csv(root / "tables" / "results.csv", keep_default_na=False)
    toy = (results.recommender == "knn") & (results.embedding == "toy")
    results.loc[toy, "HitRate@50"] = 0.05
    results.loc[toy, "HitRate@50_ci95"] = 0.01
    gone = results.recommender == "popular"
    pd.concat([results[~gone], results[toy].assign(tag="b")]).to_csv(
        root / "tables" / "results.csv", index=False
    )
    capsys.readouterr()
    call("report", "--root", root, "--against", old)
    assert "rows in both studies 1 moved beyond their intervals" in capsys.readouterr().out
    page = (root / "report" / "index.html").read_text()
    assert "Against old report: of" in page and "KNN: toy: HitRate@50" in page
    assert "became .050 (± .010)" in page
    assert "KNN: toy (b) is new" in page and "most popular tracks is there no more" in page
    assert str(tmp_path) not in page
    with pytest.raises(InputError, match="is no root with tables/results.csv and no report"):
        call("report", "--root", root, "--against", tmp_path)


def test_every_users_gains_lie_beside_the_page(root, call, undrawn):
    add_styles(root)
    call("report", "--root", root)
    page = (root / "report" / "index.html").read_text()
    told = json.loads(re.search(r'id="gains-data">(.*?)</script>', page)[1])
    text = (root / "report" / "data" / "users.js").read_text()
    content = base64.b64decode(text.removeprefix('take("users","').removesuffix('")\n'))
    shape = len(told["metrics"]), len(told["rows"]), told["users"]
    values = np.frombuffer(content, "<u2", np.prod(shape)).reshape(shape) / 65535
    results = study_of(root).results
    knn = results[(results.recommender == "knn") & (results.embedding == "toy")]
    own = values[:, told["rows"].index("KNN: toy")].mean(axis=1)
    assert own == pytest.approx(knn[told["metrics"]].to_numpy()[0], abs=1e-4)
    assert [group["name"] for group in told["groups"]] == ["activity", "popularity", "style"]
    groups = np.frombuffer(content, np.uint8, offset=values.size * 2).reshape(3, told["users"])
    for at, group in enumerate(told["groups"]):
        assert set(groups[at]) <= set(range(len(group["groups"]))) | {255}
    assert told["first"][0] == told["rows"].index("KNN: toy")


def test_network_by_data_stands_on_the_page_where_one_ran_on_all_four(
    root, call, undrawn, monkeypatch
):
    call("report", "--root", root)
    page = root / "report" / "index.html"
    assert "Network or data" not in page.read_text(encoding="utf-8")
    table = {"id": "factors", "columns": [column("recommender")], "rows": [[cell("KNN")]]}
    monkeypatch.setattr(report, "factor_table", lambda rows, metric: table)
    call("report", "--root", root, "--overwrite")
    assert "Network or data" in page.read_text(encoding="utf-8")
    assert 'id="table-factors"' in page.read_text(encoding="utf-8")


def test_neighbours_may_be_left_to_those_that_are_drawn(root, call, undrawn):
    call("report", "--root", root, "--neighbours", "drawn", "--listen-tracks", 7)
    places, _ = near_of(root, "toy")
    sought = np.flatnonzero((places != 2**32 - 2).all(axis=1))
    assert sought.tolist() == data_of(root)["queries"] and len(sought) == 7
    call("report", "--root", root, "--listen-tracks", 7)
    every, _ = near_of(root, "toy")
    assert (every[sought] == places[sought]).all() and (every < len(every)).all()


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
    assert text_of(root) == "one has the highest mean, which was not tested."

    add_comparisons(root, values, [{"one", "toy"}, {"two", "toy"}])
    assert text_of(root) == "one has the highest mean, and no test tells it from two."
    told = answer(study_of(root), "HitRate@50")
    assert told["leads"].startswith("Under KNN one has the highest mean")

    add_comparisons(root, values, [{"one", "toy"}, {"one", "two"}])
    assert text_of(root) == "one leads, significantly above every other."

    add_comparisons(root, {"noise": 0.97, **values}, [{"one", "noise"}])
    told = answer(study_of(root), "HitRate@50")
    assert "though noise lies significantly above it" in told["leads"]
    assert told["helps"].startswith("Under KNN one does not help")


def test_the_listening_page_calls_users_and_days_as_the_log_does(root, call, undrawn):
    users = read_split(root)["test"].user_id
    write_users(root, [f"joe <{n:04d}>" for n in range(users.max() + 1)])
    seal = root / "data" / "split.json"
    made = json.loads(seal.read_text()) if seal.exists() else {}
    assert not made  # the toy has none: its times are dates
    call("report", "--root", root)
    shown = data_of(root)["users"]
    assert [user["id"] for user in shown] == [f"joe <{n:04d}>" for n in sorted(set(users))]
    assert shown[0]["history"][0][2].startswith("2019-03-")
    days = pd.Series(pd.to_datetime(["1970-01-01 05:00:00", "1970-08-01 23:59:59"]))
    assert days_in_words(days, dates=False).tolist() == ["day 0", "day 212"]


def test_the_leaders_are_compared_with_listening_alone_user_by_user(root):
    study = study_of(root)
    told = answer(study, "HitRate@50", user_rows(study))
    best = max(told["lines"][name] for name in ("ease", "popular"))
    assert told["adds"].startswith("Beside listening alone (")
    assert f"{number(best)})" in told["adds"]
    field = told["cards"][0]["field"]
    assert set(field.listening) == {"toy"}
    results = study.results.set_index("embedding")["HitRate@50"]
    assert field.listening["toy"].difference == pytest.approx(results["toy"] - best, abs=1e-6)


def test_the_matrix_of_differences_is_antisymmetric_and_ordered_by_mean(root):
    add_comparisons(root, {"a": 0.2, "b": 0.5, "c": 0.3}, [{"a", "b"}])
    names, differences, p_values = difference_matrix(study_of(root).tables["comparisons"])
    assert names == ["b", "c", "a"]
    assert differences[0, 2] == pytest.approx(0.3) and differences[2, 0] == pytest.approx(-0.3)
    assert np.isnan(np.diag(differences)).all()
    assert p_values[0, 2] == p_values[2, 0] == 0.001 and p_values[0, 1] == 0.4


def test_best_and_second_are_marked_in_every_column_and_never_a_control(root):
    results = pd.read_csv(root / "tables" / "results.csv", keep_default_na=False)
    toy = results[(results.recommender == "knn") & (results.embedding == "toy")]
    more = [
        toy.assign(tag="shuffled", **{"HitRate@50": 1.0, "NDCG@10": 1.0}),
        toy.assign(embedding="b", **{"HitRate@50": 0.9, "NDCG@10": 0.1}),
        toy.assign(embedding="c", **{"HitRate@50": 0.8, "NDCG@10": 0.2}),
        toy.assign(embedding="d", **{"HitRate@50": 0.0, "NDCG@10": 0.0}),
    ]
    results.loc[toy.index, ["HitRate@50", "NDCG@10"]] = 0.05
    pd.concat([results, *more]).to_csv(root / "tables" / "results.csv", index=False)
    group = {"recommender": "knn", "tag": "", "metric": "NDCG@10", "mean": 0.1}
    pd.DataFrame([{**group, "embedding": "b", "letters": "ab"}]).to_csv(
        root / "tables" / "groups.csv", index=False
    )
    table = results_table(study_of(root))
    labels = [column["label"] for column in table["columns"]]
    for metric, best, second in (("HitRate@50", "b", "c"), ("NDCG@10", "c", "b")):
        cells = {
            row["cells"][1]["text"]: row["cells"][labels.index(metric)] for row in table["rows"]
        }
        assert [name for name, cell in cells.items() if cell["strong"]] == [best]
        assert [name for name, cell in cells.items() if cell["second"]] == [second]
        # Letters are of the metric and k that were tested, and of no other.
        assert cells["b"]["letters"] == ("ab" if metric == "NDCG@10" else "")
    kinds = {row["cells"][1]["text"]: row["cells"][2]["text"] for row in table["controls"]}
    assert kinds["toy (shuffled)"] == "shuffled control" and kinds["noise"] == "random control"
    assert not any(cell["strong"] for row in table["controls"] for cell in row["cells"])


def test_cold_tracks_are_a_ranking_of_their_own_on_the_leaderboard(root):
    results = pd.read_csv(root / "tables" / "results.csv", keep_default_na=False)
    cold = results[results.recommender == "knn"].drop(columns=["NDCG@10", "NDCG@10_ci95"])
    cold.assign(**{"HitRate@50": 0.123}).to_csv(root / "tables" / "cold.csv", index=False)
    table = results_table(study_of(root))
    assert table["cold"]
    rows = [row for row in table["rows"] if row["ranking"] == "cold"]
    assert [row["cells"][1]["text"] for row in rows] == ["toy"]
    at = {column["label"]: place for place, column in enumerate(table["columns"])}
    assert rows[0]["cells"][at["HitRate@50"]]["text"] == ".123"
    assert rows[0]["cells"][at["NDCG@10"]]["text"] == "–"
    assert len(rows[0]["cells"]) == len(table["columns"])


def test_the_seeds_of_a_control_do_not_stand_for_those_of_what_is_compared(root):
    study = study_of(root)
    study.results.loc[study.results.embedding == "noise", "seeds"] = 5
    assert results_table(study)["seeds"] == 1
    study.results.loc[study.results.embedding == "toy", "seeds"] = 2
    assert results_table(study)["seeds"] == 2


def test_a_missing_width_is_a_dash_and_sorts_last(root):
    table = results_table(study_of(root))
    widths = {row["cells"][0]["text"]: row["cells"][3] for row in table["controls"]}
    assert widths["most popular tracks"]["text"] == "–"
    assert widths["most popular tracks"]["sort"] == ""


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


def test_every_backbone_has_a_model_size():
    folder = Path(report.__file__).parent / "extract_item_embeddings"
    names = [path.stem for path in folder.glob("*.py") if path.stem[0] != "_"]
    known = set(yaml.safe_load((folder.parent / "reporting" / "model_sizes.yaml").read_text()))
    assert len(names) > 8 and set(model_sizes(names)) == known  # test_list.py: of all with weights


def test_the_texts_of_figures_hold_every_row_that_is_drawn(root):
    add_comparisons(root, {"toy": 0.9, "noise": 0.5}, [{"toy", "noise"}])
    results = pd.read_csv(root / "tables" / "results.csv", keep_default_na=False)
    toy = results[(results.recommender == "knn") & (results.embedding == "toy")]
    more = [toy.assign(tag="shuffled"), toy.assign(tag="trained", **{"HitRate@50": 0.987})]
    pd.concat([results, *more]).to_csv(root / "tables" / "results.csv", index=False)
    study = study_of(root)
    text = metric_text(study, "HitRate@50")
    assert "KNN: highest first toy 1.000 ± .000, toy (trained) .987 ± .000" in text
    assert "; controls " in text and "noise ." in text and "toy (shuffled) 1." in text
    assert "most popular ." in text and "EASE 1.000" in text
    assert significance_text(study, "HitRate@50") == (
        "Significant differences in HitRate@50. KNN: toy above noise; 0 of 1 pairs are not told "
        "apart."
    )
    ranks = rank_rows(study, "HitRate@50", {"toy": 5.0})
    assert "KNN: 1 toy (width 8, size 5)" in rank_text(ranks)
    alike = np.array([[1.0, 0.4, 0.1], [0.4, 1.0, 0.2], [0.1, 0.2, 1.0]])
    assert similarity_text(["a", "b", "noise"], {"Linear CKA": alike}) == (
        "Linear CKA: most alike a and b, .40; with noise at most .20."
    )


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
    assert moved == pytest.approx({"a": -0.45, "b": 0.55, "c": 5.0})
    assert apart({"a": 0.0, "b": 0.1}, 1.0, 0.0, 9.0) == pytest.approx({"a": 0.0, "b": 1.0})
    assert apart({"a": 9.0, "b": 9.0}, 1.0, 0.0, 9.0) == pytest.approx({"a": 8.0, "b": 9.0})
    assert apart({}, 1.0) == {}


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


def test_a_report_of_baselines_alone_is_made(toy_root, call):
    root = toy_root()
    call("baselines", "--root", root, "--only", "popular,random_lists")
    call("table", "--root", root, "--resamples", 100)
    call("report", "--root", root)
    assert (root / "report" / "index.html").exists() and (root / "report" / "listen.html").exists()
