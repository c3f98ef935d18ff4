"""Tables of vectors of every kind become the same matrix; what is wrong in one is named by row."""

import bz2
import gzip
import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from core.artifacts import sha256
from core.options import InputError, WorkError
from open_data import binary_tables, text_tables
from open_data.placement import Matrix
from tests.conftest import make_root

TRACKS, WIDTH = 160, 5


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make_root(tmp_path_factory.mktemp("import") / "root", tracks=TRACKS)


@pytest.fixture(scope="module")
def rows():
    """Return (ids, vectors): the tracks in another order, some others among them."""
    rng = np.random.default_rng(0)
    ids = [f"T{i:015d}" for i in range(TRACKS)] + [f"other{i}" for i in range(40)]
    order = rng.permutation(len(ids))
    return [ids[at] for at in order], rng.normal(size=(len(ids), WIDTH)).astype(np.float32)


def expected(rows):
    ids, vectors = rows
    place = {track: at for at, track in enumerate(ids)}
    return vectors[[place[f"T{i:015d}"] for i in range(TRACKS)]]


def text_of(rows, separator="\t", names=None, end="\n"):
    names = names or ["id", *(f"max{i:04d}" for i in range(WIDTH))]
    lines = [separator.join(names)]
    lines += [separator.join([i, *map(repr, map(float, v))]) for i, v in zip(*rows, strict=True)]
    return (end.join(lines) + end).encode()


def zstd(text):
    return pa.Codec("zstd").compress(text, asbytes=True)


def write_parquet(path, rows, list_type=None, **more):
    ids, vectors = rows
    if list_type:
        columns = {"item": ids, "embed": pa.array(vectors.tolist(), list_type), **more}
    else:
        columns = {"item": ids} | {f"c{i}": vectors[:, i] for i in range(WIDTH)} | more
    pq.write_table(pa.table(columns), path, row_group_size=64)


def write(kind, folder, rows):
    """Write a table of a kind; return (path, flags)."""
    ids, vectors = rows
    path = folder / kind
    packed = {"tsv": bytes, "bz2": bz2.compress, "gz": gzip.compress, "zst": zstd}
    if kind in packed:
        path.write_bytes(packed[kind](text_of(rows)))
    elif kind == "csv":
        path.write_bytes(b"\xef\xbb\xbf" + text_of(rows, ",", end="\r\n"))
    elif kind == "late":  # the id stands last, after the numbers
        names = [*(f"n{i}" for i in range(WIDTH)), "track_id"]
        lines = [[*map(repr, map(float, v)), f'"{i}"'] for i, v in zip(*rows, strict=True)]
        path.write_text("\n".join(",".join(line) for line in [names, *lines]))
    elif kind == "parquet":
        write_parquet(path, rows)
    elif kind == "lists":
        write_parquet(path, rows, pa.list_(pa.float64()))
    elif kind == "fixed":
        write_parquet(path, rows, pa.list_(pa.float32(), WIDTH))
    elif kind == "npy":
        with open(path, "wb") as file:
            np.save(file, vectors)
        (folder / "ids.txt").write_text("\n".join(["id", *ids]))
        return path, ("--ids", folder / "ids.txt")
    elif kind == "folder":
        path.mkdir()
        for track, vector in zip(ids, vectors, strict=True):
            np.save(path / f"{track}.npy", vector[None] if track < "T" else vector)
    parquet = kind in ("parquet", "lists", "fixed")
    return path, ("--id-column", "item") if parquet else ()


KINDS = ["tsv", "bz2", "gz", "zst", "csv", "late", "parquet", "lists", "fixed", "npy", "folder"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_table_gives_the_same_matrix(tmp_path, root, rows, call, kind, monkeypatch):
    monkeypatch.setattr(text_tables, "BLOCK", 700)  # many blocks, cut anywhere
    path, flags = write(kind, tmp_path, rows)
    name = f"from_{kind}"
    call("import_embedding", "--root", root, "--table", path, "--name", name, *flags)
    matrix = np.load(root / "embeddings" / f"{name}.npy", mmap_mode="r")
    assert matrix.dtype == np.float32 and matrix.flags.c_contiguous
    np.testing.assert_array_equal(matrix, expected(rows))
    facts = json.loads((root / "embeddings" / f"{name}.json").read_text())
    assert facts["width"] == WIDTH and facts["rows"] == 200 and facts["failed"] == {}
    assert facts["rows_of_unknown_tracks"] == 40
    assert facts["coverage"] == {
        "tracks": TRACKS,
        "share_of_tracks": 1.0,
        "share_of_train_plays": 1.0,
    }


def load(call, root, folder, rows, *flags, name="made", text=None):
    """Import the rows as a tsv; return the matrix and its json."""
    path = folder / "table.tsv"
    path.write_bytes(text_of(rows) if text is None else text)
    call("import_embedding", "--root", root, "--table", path, "--name", name, *flags)
    return (
        np.load(root / "embeddings" / f"{name}.npy"),
        json.loads((root / "embeddings" / f"{name}.json").read_text()),
    )


def without(rows, gone):
    keep = [at for at, track in enumerate(rows[0]) if track not in gone]
    return [rows[0][at] for at in keep], rows[1][keep]


def test_missing_tracks_are_an_error_or_nan(tmp_path, root, rows, call):
    gone = {f"T{i:015d}" for i in (3, 7)}
    with pytest.raises(WorkError, match="lacks 2 of the 160 tracks, for example 'T000000000000003"):
        load(call, root, tmp_path, without(rows, gone), name="gone")
    assert not list((root / "embeddings").glob("gone.*"))
    flags = ("--missing", "nan")
    matrix, facts = load(call, root, tmp_path, without(rows, gone), *flags, name="gone")
    assert np.isnan(matrix[[3, 7]]).all() and np.isnan(matrix).any(axis=1).sum() == 2
    assert set(facts["failed"]) == gone and facts["coverage"]["tracks"] == 158
    assert 0.9 < facts["coverage"]["share_of_train_plays"] < 1


def test_columns_that_say_nothing_are_named(tmp_path, root, rows, call, capsys):
    vectors = rows[1].copy()
    vectors[:, 1], vectors[:, 2], vectors[:, 4] = 0, 2.5, np.nan
    vectors[rows[0].index("other3")] = 9  # of no track here
    facts = load(call, root, tmp_path, (rows[0], vectors), name="dull")[1]
    assert facts["columns_of_zeros"] == ["max0001"]
    assert facts["columns_of_one_number"] == ["max0002"]
    assert facts["columns_without_numbers"] == ["max0004"]
    assert facts["rows_with_missing_values"] == TRACKS
    assert "1 columns are always zero: max0001" in capsys.readouterr().out


def test_values_may_be_empty_or_nan(tmp_path, root, rows, call):
    lines = text_of(rows).decode().split("\n")
    at = next(n for n, line in enumerate(lines) if line.startswith("T000000000000005"))
    fields = lines[at].split("\t")
    lines[at] = "\t".join([fields[0], "", "nan", *fields[3:]])
    matrix, facts = load(call, root, tmp_path, rows, name="holes", text="\n".join(lines).encode())
    assert np.isnan(matrix[5]).tolist() == [True, True, False, False, False]
    assert facts["rows_with_missing_values"] == 1


def test_a_track_twice_is_an_error_unless_equal(tmp_path, root, rows, call):
    ids, vectors = rows
    track = next(i for i in ids if i.startswith("T"))
    again = ([*ids, track], np.vstack([vectors, vectors[ids.index(track)]]))
    assert load(call, root, tmp_path, again, name="again")[1]["rows_repeated"] == 1
    other = ([*ids, track], np.vstack([vectors, vectors[ids.index(track)] + 1]))
    with pytest.raises(InputError, match=f"line 202: '{track}' stands twice, with other numbers"):
        load(call, root, tmp_path, other, name="other")


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("T000000000000000\t1\t2\t3\t4", "expected 6 columns as in the header, got 5"),
        ("T000000000000000\t1\t2\t3\t4\t5\t6", "expected 6 columns as in the header, got 7"),
        ("T000000000000000\t1\tloud\t3\t4\t5", "column 'max0001' holds 'loud', no number"),
        ("T000000000000000\t1\t2\t3,5\t4\t5", "column 'max0002' holds '3,5', no number"),
        ("T000000000000000\t1\t2\t3\t1_0\t5", "column 'max0003' holds '1_0', no number"),
        ("", "expected 6 columns"),
        ("T000000000000000\t1\t2\t3\tinf\t5", "'T000000000000000' has an infinite value"),
        ("T000000000000000\t1\t2\t3\t1e39\t5", "'T000000000000000' has an infinite value"),
    ],
)
def test_a_row_that_is_none_is_named_by_its_line(
    tmp_path, root, rows, call, line, what, monkeypatch
):
    monkeypatch.setattr(text_tables, "BLOCK", 1500)
    lines = text_of(rows).decode().split("\n")
    lines.insert(120, line)
    with pytest.raises(InputError, match=f"table.tsv line 121: .*{what}"):
        load(call, root, tmp_path, rows, name="bad", text="\n".join(lines).encode())
    assert not list((root / "embeddings").glob("*bad.*np*"))


def test_a_blank_last_line_is_none(tmp_path, root, rows, call):
    load(call, root, tmp_path, rows, name="blank", text=text_of(rows) + b"\n\n")


def test_what_is_no_table(tmp_path, root, rows, call):
    def imported(path, *flags):
        call("import_embedding", "--root", root, "--table", path, "--name", "nothing", *flags)

    path = tmp_path / "t"
    for content, what in (
        (b"a\tb\nx\t1\n", "has no column 'id'; .*--id-column"),
        (b"id\nx\n", "no column of numbers"),
        (b"id\tb\n", "none of its 0 rows"),
        (b"id\tb\nx\t1\n", "none of its 1 rows"),
        (b"", "has no column 'id'"),
        (b"\xff\xfei\x00d\x00", "UTF-16"),
        (b"PK\x03\x04....", "a zip archive"),
        (bz2.compress(text_of(rows))[:900], "damaged or cut short"),
    ):
        path.write_bytes(content)
        with pytest.raises(InputError, match=f"--table .*{what}"):
            imported(path)
    with pytest.raises(InputError, match="is missing"):
        imported(tmp_path / "gone")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="without TRACKID.npy"):
        imported(tmp_path / "empty")
    np.save(tmp_path / "empty" / "T1.npy", np.zeros((3, 4)))
    with pytest.raises(InputError, match="expected one vector"):
        imported(tmp_path / "empty")
    np.save(tmp_path / "v.npy", np.zeros((3, 4)))
    with pytest.raises(InputError, match="--ids"):
        imported(tmp_path / "v.npy")
    (tmp_path / "two").write_text("a\nb\n")
    header = (tmp_path / "v.npy").read_bytes()
    (tmp_path / "bit.npy").write_bytes(header.replace(b"}", b"y", 1))  # numpy: a TokenError
    for table, ids in (("bit.npy", "two"), ("v.npy", "bit.npy")):
        with pytest.raises(InputError, match="bit.npy cannot be read as a numpy array"):
            imported(tmp_path / table, "--ids", tmp_path / ids)
    with pytest.raises(InputError, match="has 2 ids, --table .* 3 rows"):
        imported(tmp_path / "v.npy", "--ids", tmp_path / "two")
    path.write_bytes(text_of(rows))
    with pytest.raises(InputError, match="--ids is for a .npy"):
        imported(path, "--ids", tmp_path / "two")
    with pytest.raises(InputError, match="must be lower-case"):
        call("import_embedding", "--root", root, "--table", path, "--name", "A-b")


def test_parquet_files_that_do_not_fit(tmp_path, root, rows, call):
    def imported(*flags):
        flags = ("--name", "nothing", "--id-column", "item", *flags)
        call("import_embedding", "--root", root, "--table", tmp_path / "t.parquet", *flags)

    lists = pa.list_(pa.float32())
    both = pa.array(rows[1].tolist(), lists)
    write_parquet(tmp_path / "t.parquet", rows, lists, normalized=both)
    with pytest.raises(InputError, match="several columns of lists .embed, normalized"):
        imported()
    with pytest.raises(InputError, match="no column of lists 'embde'"):
        imported("--vector-column", "embde")
    imported("--vector-column", "normalized", "--overwrite")
    ragged = rows[1].tolist()
    ragged[100] = [1.0]
    columns = {"item": rows[0], "embed": pa.array(ragged, lists)}
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    with pytest.raises(InputError, match="row 100: embed holds 1 numbers, the rows before it 5"):
        imported("--overwrite")
    write_parquet(tmp_path / "t.parquet", rows, words=["x"] * 200)
    with pytest.raises(InputError, match="column 'words' is string, no number"):
        imported("--overwrite")


def test_lists_beside_lists_and_whole_numbers_as_ids_are_read_in_small_pieces(
    tmp_path, call, monkeypatch
):
    """As Yambda's file: two columns of lists, ids that are numbers, one row group for all."""
    rng = np.random.default_rng(0)
    items = rng.permutation(np.arange(0, 3_000, 3)).astype(np.uint32)
    vectors = rng.normal(size=(len(items), 128)).astype(np.float32)
    lists = pa.array(list(vectors), pa.list_(pa.float32()))
    halves = pa.array(list(vectors / 2), pa.list_(pa.float32()))
    table = pa.table({"item_id": items, "embed": halves, "normalized_embed": lists})
    pq.write_table(table, tmp_path / "embeddings.parquet", row_group_size=1 << 20)
    names = sorted(str(item) for item in range(0, 3_600, 6))
    lines = [f"{row},{name}" for row, name in enumerate(names)]
    (tmp_path / "trackid_sorted.csv").write_text("\n".join(["idx,trackid", *lines]) + "\n")
    sizes, place = [], Matrix.place
    monkeypatch.setattr(binary_tables, "BLOCK", 64 * 128 * 4)
    monkeypatch.setattr(
        Matrix, "place", lambda self, block: sizes.append(block.vectors.shape) or place(self, block)
    )
    flags = ("--root", tmp_path, "--table", tmp_path / "embeddings.parquet", "--name", "audio")
    with pytest.raises(InputError, match="several columns of lists .embed, normalized_embed."):
        call("import_embedding", *flags)
    flags = (*flags, "--vector-column", "normalized_embed")
    with pytest.raises(WorkError, match="lacks 100 of the 600 tracks"):
        call("import_embedding", *flags)
    sizes.clear()
    call("import_embedding", *flags, "--missing", "nan")
    assert len(sizes) == 16 and max(sizes) == (64, 128)
    matrix = np.load(tmp_path / "embeddings" / "audio.npy")
    of_item = dict(zip(items.tolist(), vectors, strict=True))
    for row, name in enumerate(names):
        expected = of_item.get(int(name), np.full(128, np.nan))
        np.testing.assert_array_equal(matrix[row], expected.astype(np.float32))
    told = json.loads((tmp_path / "embeddings" / "audio.json").read_text())
    assert told["coverage"]["tracks"] == 500 and len(told["failed"]) == 100


def test_a_list_that_is_null_is_a_missing_vector(tmp_path, root, rows, call):
    lists = rows[1].tolist()
    lists[rows[0].index("T000000000000009")] = None
    table = pa.table({"id": rows[0], "embed": pa.array(lists, pa.list_(pa.float32()))})
    pq.write_table(table, tmp_path / "t")
    call("import_embedding", "--root", root, "--table", tmp_path / "t", "--name", "nulls")
    assert np.isnan(np.load(root / "embeddings" / "nulls.npy")).any(axis=1).nonzero()[0] == [9]


def test_finished_is_not_done_again_and_another_table_is_refused(
    tmp_path, root, rows, call, capsys
):
    load(call, root, tmp_path, rows, name="once")
    load(call, root, tmp_path, rows, name="once")
    assert "once.npy is finished; --overwrite" in capsys.readouterr().out
    changed = (rows[0], rows[1] + 1)
    with pytest.raises(InputError, match="other than now were: --table"):
        load(call, root, tmp_path, changed, name="once")
    load(call, root, tmp_path, changed, "--overwrite", name="once")


def test_the_licence_is_what_get_data_recorded(tmp_path, root, rows, call):
    load(call, root, tmp_path, rows, name="unlicensed")
    told = tmp_path / "table.tsv.json"
    digest = sha256(tmp_path / "table.tsv")
    told.write_text(json.dumps({"licence": "CC BY 4.0", "sha256": digest}))
    facts = load(call, root, tmp_path, rows, name="free")[1]
    assert facts["source"]["licence"] == "CC BY 4.0" and len(facts["source"]["sha256"]) == 64


def test_an_imported_embedding_is_an_embedding(tmp_path, rows, call):
    root = make_root(tmp_path / "root", tracks=TRACKS)
    gone = without(rows, {"T000000000000003"})
    load(call, root, tmp_path, gone, "--missing", "nan", name="maest_onion")
    call("knn", "--root", root, "--embedding", "maest_onion", "--missing", "mean")
    assert (root / "runs" / "knn-maest_onion-s1" / "metrics.json").exists()


def test_the_advice_for_a_missing_embedding_fits_it(tmp_path, call):
    root = make_root(tmp_path / "root")
    with pytest.raises(InputError, match=r"python -m extract_item_embeddings\.mfcc"):
        call("knn", "--root", root, "--embedding", "mfcc")
    advice = "python import_embedding.py .*--table FILE --name maest_onion"
    with pytest.raises(InputError, match=advice) as error:
        call("knn", "--root", root, "--embedding", "maest_onion")
    assert "extract" not in str(error.value)
    shutil.copy(root / "embeddings" / "toy.npy", root / "embeddings" / "mine.npy")
    (root / "embeddings" / "mine.json").write_text(json.dumps({"sha256": "0" * 64}))
    with pytest.raises(InputError, match="is not the file mine.json .*import_embedding.py"):
        call("knn", "--root", root, "--embedding", "mine")
    np.save(root / "embeddings" / "few.npy", np.zeros((3, 4), np.float32))
    with pytest.raises(InputError, match="has 3 rows.*import_embedding.py"):
        call("knn", "--root", root, "--embedding", "few")


def test_lists_of_text_are_no_vectors(call, tmp_path):
    (tmp_path / "trackid_sorted.csv").write_text("idx,trackid\n0,A\n1,B\n")
    tags = pa.array([["calm"], ["loud", "fast"]])
    table = {"track_id": ["A", "B"], "tags": tags}
    flags = ("--root", tmp_path, "--table", tmp_path / "vectors.parquet", "--name", "mine")
    pq.write_table(pa.table(table), tmp_path / "vectors.parquet")
    with pytest.raises(InputError, match="column 'tags' is list<element: string>, no number"):
        call("import_embedding", *flags)
    vectors = pa.array([[1.0, 2.0], [3.0, 4.0]])
    pq.write_table(pa.table(table | {"vector": vectors}), tmp_path / "vectors.parquet")
    call("import_embedding", *flags)
    assert np.load(tmp_path / "embeddings" / "mine.npy").tolist() == [[1, 2], [3, 4]]
