"""The study's own records: a damaged one is named, and never taken for none."""

import pytest

from core.artifacts import read_json, write_json
from core.options import InputError
from extract_item_embeddings.engine.parts import Part, Parts
from study.on_disk import missing_shards, tracks_of_shard
from study.record import Record, study_file

SHAPES = [b"[]", b"null", b"{}", b"7", b"", b"{"]


@pytest.mark.parametrize("content", SHAPES)
def test_a_damaged_record_of_jobs_does_not_forget_them(tmp_path, content):
    Record(tmp_path, "0" * 12, "somebody", stages={"split": [{"id": 7}]}).write()
    assert Record.read(tmp_path).stages == {"split": [{"id": 7}]}
    study_file(tmp_path).write_bytes(content)
    with pytest.raises(InputError, match="study.json .*once it is removed"):
        Record.read(tmp_path)


@pytest.fixture
def half(tmp_path):
    """A root with an extraction in two shards that is not joined, and its parts."""
    (tmp_path / "trackid_sorted.csv").write_text("idx,trackid\n0,a\n1,b\n2,c\n3,d\n")
    parts = Parts(tmp_path / "embeddings" / "half.parts", 4, 2, 2, shards=2)
    parts.begin({"width": 2})
    for window in parts.windows():
        part = Part.empty(2, 2)
        part.vectors[:], part.reasons[:] = 1, ["", ""]
        parts.save(window, part)
    assert missing_shards(tmp_path, "half", 2) == [] and tracks_of_shard(
        tmp_path, "half", 2, 1
    ) == (2, 2)
    return tmp_path, parts


@pytest.mark.parametrize("content", SHAPES)
def test_a_damaged_plan_of_an_extraction_is_named_by_all_who_read_it(half, content):
    root, parts = half
    (root / "embeddings" / "half.parts" / "plan.json").write_bytes(content)
    for read in (
        lambda: missing_shards(root, "half", 2),
        lambda: tracks_of_shard(root, "half", 2, 1),
        lambda: parts.changed({"width": 2}),
    ):
        with pytest.raises(InputError, match="plan.json"):
            read()


def test_a_plan_of_another_width_is_noticed(half):
    root, _ = half
    path = root / "embeddings" / "half.parts" / "plan.json"
    write_json(path, read_json(path, "") | {"width": 3})
    assert missing_shards(root, "half", 2) == []  # reasons are read, and no vectors
    assert Parts(path.parent, 4, 2, 2, shards=2).changed({"width": 2}) == ["width was 3 and is 2"]


def test_no_bit_of_a_part_changes_a_vector_or_is_a_traceback(half):
    root, parts = half
    path = root / "embeddings" / "half.parts" / "00000000.npz"
    whole, window = path.read_bytes(), range(2)
    for at in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[at // 8] ^= 1 << at % 8
        path.write_bytes(damaged)
        part = parts.load(window)
        assert "not computed yet" in part.reasons or (part.vectors == 1).all(), at
        missing_shards(root, "half", 2)
