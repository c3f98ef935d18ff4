"""read_split and read_trackids: what they return, and what they refuse."""

import numpy as np
import pandas as pd
import pytest

from core.options import InputError
from core.splits import read_split
from core.trackids import audio_ids, read_trackids, write_trackids

IDS = ["A1", "B2", "a1", "b2", "é"]
PARTS = {
    "train": {"user_id": [1, 1, 2**40], "track_idx": [0, 3, 4], "count": [1, 7, 2]},
    "val": {"user_id": [1], "track_idx": [4], "count": [3]},
    "test": {"user_id": [2**40, 2**40], "track_idx": [0, 3], "count": [1, 1]},
}


@pytest.fixture
def root(tmp_path):
    """A small valid split."""
    write_trackids(tmp_path, IDS)
    (tmp_path / "data").mkdir()
    for part, columns in PARTS.items():
        save(tmp_path, part, pd.DataFrame(columns))
    return tmp_path


def save(root, part, frame, **changed):
    times = pd.date_range("2019-02-20", periods=len(frame), freq="h").as_unit("us")
    frame = frame.assign(timestamp=times).assign(**changed)
    frame.to_parquet(root / "data" / f"{part}.pqt")


def assert_is_the_split(found):
    assert list(found) == ["train", "val", "test"]
    for part, frame in found.items():
        kinds = ["int64", "int64", "datetime64[us]", "int64"]
        assert list(frame.columns) == ["user_id", "track_idx", "timestamp", "count"]
        assert list(map(str, frame.dtypes)) == kinds
        assert frame[["user_id", "track_idx"]].to_dict("list") == {
            name: PARTS[part][name] for name in ("user_id", "track_idx")
        }
        assert frame.timestamp.is_monotonic_increasing


def test_the_split_is_returned_with_its_types(root):
    found = read_split(root)
    assert_is_the_split(found)
    assert found["train"]["count"].tolist() == [1, 7, 2]


def test_published_files_with_the_index_as_track_id_are_read(root):
    for part, columns in PARTS.items():
        frame = (
            pd.DataFrame(columns).drop(columns="count").rename(columns={"track_idx": "track_id"})
        )
        save(root, part, frame)
    found = read_split(root)
    assert_is_the_split(found)
    assert all((frame["count"] == 1).all() for frame in found.values())


@pytest.mark.parametrize("kind", ["str", "object", "category"])
def test_published_files_with_ids_are_read(root, kind):
    for part, columns in PARTS.items():
        frame = pd.DataFrame(columns)
        frame["track_id"] = pd.Series([IDS[i] for i in frame.track_idx]).astype(kind)
        save(root, part, frame.drop(columns="track_idx"))
    assert_is_the_split(read_split(root))


def test_other_units_of_time_and_orders_of_rows_are_read(root):
    frame = pd.DataFrame(PARTS["train"])
    times = pd.date_range("2019-02-20", periods=3, freq="h").as_unit("ns")
    frame = frame.assign(timestamp=times).iloc[[2, 0, 1]]
    frame.astype({"track_idx": "int16"}).to_parquet(root / "data" / "train.pqt")
    assert_is_the_split(read_split(root))


def test_a_missing_file_names_the_stage_that_makes_it(root):
    (root / "data" / "val.pqt").unlink()
    with pytest.raises(InputError, match=r"val\.pqt is missing; .* 1_train_test_split\.py"):
        read_split(root)


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("train", {"track_idx": [0, 3, 5]}, r"1 rows .* outside .*\(0 to 4\), for example 5"),
        ("train", {"track_idx": [0, -1, -1]}, "2 rows have a track index outside"),
        ("train", {"track_idx": [0.5, 1.0, 2.0]}, "another type than expected"),
        ("train", {"user_id": [1, 1, None]}, "1 rows have no user_id"),
        ("train", {"user_id": np.array([1, 1, 2**63], np.uint64)}, "another type than expected"),
        ("train", {"track_idx": np.array([0, 1, 2**63], np.uint64)}, "another type than expected"),
        ("train", {"timestamp": ["x", "y", "z"]}, "another type than expected"),
        ("train", {"user_id": [1, 1, 1], "track_idx": [3, 3, 3]}, "2 rows repeat .* user 1, track"),
        ("train", {"count": [1, 0, 2]}, "1 rows have a count below 1, for example 0"),
        ("val", {"user_id": [5]}, "1 rows have a user_id that is not in train.pqt, for example 5"),
        ("test", {"track_idx": [0, 1]}, "1 rows have a track_idx that is not in train.*example 1"),
    ],
)
def test_wrong_content_is_an_error_with_a_count_and_an_example(root, part, change, message):
    save(root, part, pd.DataFrame(PARTS[part]), **change)
    with pytest.raises(InputError, match=rf"{part}\.pqt.*{message}"):
        read_split(root)


def test_an_unknown_track_id_is_an_error(root):
    frame = pd.DataFrame(PARTS["val"]).drop(columns="track_idx").assign(track_id="Z9")
    save(root, "val", frame)
    with pytest.raises(InputError, match="1 rows have a track_id that is not in .* example 'Z9'"):
        read_split(root)


@pytest.mark.parametrize("column", ["user_id", "track_idx", "timestamp"])
def test_a_missing_column_is_an_error_that_says_what_came(root, column):
    frame = pd.DataFrame(PARTS["val"]).assign(timestamp=pd.Timestamp("2019-01-01"))
    frame.drop(columns=column).to_parquet(root / "data" / "val.pqt")
    name = {"track_idx": "track_id"}.get(column, column)
    with pytest.raises(InputError, match=rf"val\.pqt lacks the column {name}; it holds .*count"):
        read_split(root)


def test_a_file_without_rows_or_of_another_kind_is_an_error(root):
    save(root, "val", pd.DataFrame(PARTS["val"]).iloc[:0])
    with pytest.raises(InputError, match="val.pqt holds no rows"):
        read_split(root)
    (root / "data" / "val.pqt").write_text("user_id,track_idx\n")
    with pytest.raises(InputError, match="val.pqt is not a parquet file"):
        read_split(root)


def test_track_ids_are_read_as_they_were_written(tmp_path):
    write_trackids(tmp_path, IDS)
    assert (tmp_path / "trackid_sorted.csv").read_bytes().startswith(b"idx,trackid\n0,A1\n1,B2\n")
    assert read_trackids(tmp_path) == IDS
    (tmp_path / "trackid_sorted.csv").write_bytes(b"idx,trackid\r\n0,A\r\n1,B\r\n")
    assert read_trackids(tmp_path) == ["A", "B"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "the first line must be 'idx,trackid', got ''"),
        ("trackid\nA\n", "the first line must be"),
        ("idx,trackid\n", "holds no track ids"),
        ("idx,trackid\n0,A\n2,B\n", "line 3: expected '1,TRACKID', got '2,B'"),
        ("idx,trackid\n0,A\n1,\n", "line 3: expected '1,TRACKID'"),
        ("idx,trackid\n0,A\n1,B,C\n", "line 3: expected '1,TRACKID'"),
        ("idx,trackid\n0,B\n1,A\n", "line 3: 'A' stands after 'B'"),
        ("idx,trackid\n0,a\n1,B\n", "line 3: 'B' stands after 'a'; ids must ascend by code point"),
        ("idx,trackid\n0,A\n1,A\n", "line 3: 'A' stands twice"),
        ("idx,trackid\n0,A\n\n1,B\n", "line 3: expected '1,TRACKID', got ''"),
    ],
)
def test_wrong_track_ids_are_errors_that_name_the_line(tmp_path, content, message):
    (tmp_path / "trackid_sorted.csv").write_bytes(content.encode())
    with pytest.raises(InputError, match=message):
        read_trackids(tmp_path)


def test_missing_track_ids_name_the_stage(tmp_path):
    with pytest.raises(InputError, match=r"is missing; make it with python 0_get_plays_pqt\.py"):
        read_trackids(tmp_path)


def test_track_ids_of_a_folder_of_audio(tmp_path):
    for name in ["b.mp3", "a.flac", "B.WAV", "é.opus", "cover.jpg", "._b.mp3", "00/x y.mp3"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "loop.mp3").symlink_to(tmp_path / "loop.mp3")
    assert audio_ids(tmp_path) == ["B", "a", "b", "loop", "x y", "é"]
    assert audio_ids(tmp_path, "*/*.mp3") == ["x y"]
    (tmp_path / "a,b.mp3").touch()
    with pytest.raises(InputError, match="1 file names cannot be track ids, for example 'a,b'"):
        audio_ids(tmp_path)
    with pytest.raises(InputError, match="is not a folder"):
        audio_ids(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "a.aac").touch()
    with pytest.raises(InputError, match="no file that ends in .mp3, .ogg, .*, but 1 .aac; --pat"):
        audio_ids(tmp_path / "empty")
    (tmp_path / "a,b.mp3").unlink()
    (tmp_path / "b.OGG").touch()
    with pytest.raises(InputError, match="b.OGG and b.mp3 are two files for the id 'b'; move one"):
        audio_ids(tmp_path)


def test_every_order_of_ids_but_the_right_one_is_refused(tmp_path):
    rng = np.random.default_rng(0)
    for _ in range(20):
        order = rng.permutation(len(IDS))
        ids = [IDS[i] for i in order]
        write_trackids(tmp_path, ids)
        if ids == IDS:
            assert read_trackids(tmp_path) == IDS
        else:
            with pytest.raises(InputError, match="must ascend"):
                read_trackids(tmp_path)
