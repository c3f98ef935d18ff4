"""What is read of a finished run is what was written, or one line that says what to do."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from core.artifacts import SEALED, read_json, write_json
from core.options import InputError
from evaluation.finished import check_whole, read_finished, read_table

SHAPES = ["", "[]", "null", "{}", "7", "{", '{"val": 1}', "\x00" * 40, "[" * 100_000]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A root with two finished runs."""
    from conftest import call_main, make_root

    root = make_root(tmp_path_factory.mktemp("finished") / "root")
    call_main("knn", "--root", root, "--embedding", "toy")
    call_main("knn", "--root", root, "--embedding", "noise")
    return root


@pytest.fixture
def root(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "root")
    return tmp_path / "root"


def flipped(content: bytes, rng, n=40):
    """Yield the content with one bit turned round, n times."""
    for at in rng.integers(0, 8 * len(content), n):
        damaged = bytearray(content)
        damaged[at // 8] ^= 1 << at % 8
        yield bytes(damaged)


FILES = ["recs.pqt", "per_user_test.pqt", "segments_test.pqt", "config.yaml", "metrics.json"]


@pytest.mark.parametrize("name", FILES)
def test_no_bit_of_a_finished_run_changes_without_an_error(root, name):
    folder = root / "runs" / "knn-toy-s1"
    whole = (folder / name).read_bytes()
    before = read_finished(folder)
    rng = np.random.default_rng(0)
    cuts = [b"", whole[: len(whole) // 2], bytes(len(whole))]
    for content in [*flipped(whole, rng), *cuts]:
        (folder / name).write_bytes(content)
        try:
            check_whole(folder)
        except InputError as error:
            assert name in str(error) and "--overwrite" in str(error)
        else:  # a space that became a line's end, or a name that nobody asks for
            assert name == "metrics.json" and read_finished(folder).items() >= before.items()


@pytest.mark.parametrize("content", SHAPES)
def test_a_metrics_json_of_another_shape_gets_one_advice_from_everybody(root, call, content):
    path = root / "runs" / "knn-toy-s1" / "metrics.json"
    path.write_text(content)
    for script, *flags in (
        ("knn", "--embedding", "toy"),
        ("metrics", "--run", "knn-toy-s1"),
        ("table",),
    ):
        with pytest.raises(InputError, match=r"metrics\.json .*--overwrite"):
            call(script, "--root", root, *flags)
    call("knn", "--root", root, "--embedding", "toy", "--overwrite")
    call("metrics", "--root", root, "--run", "knn-toy-s1")


def test_a_table_of_a_run_that_is_gone_does_not_leave_the_study_without_a_word(root, call):
    (root / "runs" / "knn-toy-s1" / "per_user_test.pqt").unlink()
    with pytest.raises(InputError, match="per_user_test.pqt is missing; run python metrics.py"):
        call("table", "--root", root)
    call("metrics", "--root", root, "--run", "knn-toy-s1")
    call("table", "--root", root, "--resamples", 100)


def test_numbers_of_other_lists_are_no_numbers_of_this_run(root, call):
    """Tables of one run beside the record of another: what a kill of a copy leaves."""
    one, other = (root / "runs" / f"knn-{name}-s1" for name in ("toy", "noise"))
    shutil.copy(other / "per_user_test.pqt", one)
    with pytest.raises(InputError, match="per_user_test.pqt is not the file that was written"):
        call("table", "--root", root)
    shutil.copy(other / "recs.pqt", one)
    with pytest.raises(InputError, match="recs.pqt is not the file that was written"):
        call("metrics", "--root", root, "--run", "knn-toy-s1")


def test_a_run_from_before_fingerprints_is_still_read(root):
    folder = root / "runs" / "knn-toy-s1"
    content = json.loads((folder / "metrics.json").read_text())
    del content["files"], content[SEALED]
    (folder / "metrics.json").write_text(json.dumps(content))
    check_whole(folder)
    recs = read_table(folder, "recs.pqt", read_finished(folder))
    pd.testing.assert_frame_equal(recs, pd.read_parquet(folder / "recs.pqt"))
    (folder / "recs.pqt").write_bytes(b"PAR1 and no more")
    with pytest.raises(InputError, match=r"recs\.pqt cannot be read"):
        read_table(folder, "recs.pqt", read_finished(folder))


@pytest.mark.parametrize("value", [0.1 + 0.2, 1e300, 5e-324, 2**70, "é\u2028", None, [1, [2.5]]])
def test_a_json_is_read_as_it_was_written_and_an_edit_is_noticed(tmp_path, value):
    path = tmp_path / "a.json"
    write_json(path, {"a": value, "b": {1: (1, 2)}})
    assert read_json(path, "x.py") == {"a": value, "b": {"1": [1, 2]}}
    path.write_text(path.read_text().replace('"b"', '"c"'))
    with pytest.raises(InputError, match=r"a\.json is not what was written, .* make it with x\.py"):
        read_json(path, "x.py")


def test_lengths_of_lists_that_were_measured_before_are_measured_again(root, call):
    folder = root / "runs" / "knn-toy-s1"
    before = read_finished(folder)
    call("metrics", "--root", root, "--run", "knn-toy-s1", "--k", "7")
    after = read_finished(folder)
    assert set(after["test"]) == {*before["test"]} | {
        f"{name}@7" for name in ("HitRate", "MRR", "Precision", "Recall", "NDCG")
    }
    assert {k: after["test"][k] for k in before["test"]} == before["test"]
    assert set(after["lists"]["test"]) > set(before["lists"]["test"])


def test_a_seal_whose_name_was_damaged_is_still_one(tmp_path):
    """Else one bit takes the seal away, and the file is read as one that never had any."""
    path = tmp_path / "made.json"
    write_json(path, {"window": 16, "origin": {}})
    whole = path.read_bytes()
    at = whole.index(SEALED.encode())
    for bit in range(8 * at, 8 * (at + len(SEALED))):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"made\.json .*make it with the command"):
            read_json(path, "the command")
    own = {"window": 16, "digest": "0" * 64}
    path.write_text(json.dumps(own))
    assert read_json(path, "the command") == own  # of somebody's own, which has no seal
