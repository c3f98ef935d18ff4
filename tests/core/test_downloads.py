"""What get_data.py fetched is read as it was fetched, by every stage that reads it."""

import pytest
from conftest import make_root

from core.artifacts import sha256, write_json
from core.downloads import read_download, record_of
from core.options import InputError


@pytest.fixture
def root(tmp_path):
    """A root with a table of vectors in downloads/ and its record."""
    root = make_root(tmp_path / "root")
    (root / "downloads").mkdir()
    rows = [f"T{i:015d},{i % 7},{i % 5}" for i in range(160)]
    fetched(root / "downloads" / "table.csv", "\n".join(["id,a,b", *rows]) + "\n")
    return root


def fetched(path, text):
    path.write_text(text)
    write_json(record_of(path), {"sha256": sha256(path), "licence": "CC0"})


def spoil(path):
    """Change a digit, which no format notices."""
    path.write_text(path.read_text().replace(":00:00", ":00:01", 1).replace(",6,", ",7,", 1))


def test_a_table_that_changed_since_it_was_fetched_is_not_imported(root, call):
    path = root / "downloads" / "table.csv"
    flags = ("--root", root, "--table", path)
    call("import_embedding", *flags, "--name", "whole")
    spoil(path)
    with pytest.raises(InputError, match="table.csv is not what was fetched.*get_data.py"):
        call("import_embedding", *flags, "--name", "other")
    record_of(path).unlink()
    call("import_embedding", *flags, "--name", "other")


@pytest.mark.parametrize("content", ["{}", "[]", "null", ""])
def test_a_damaged_record_is_named(root, call, content):
    path = root / "downloads" / "table.csv"
    record_of(path).write_text(content)
    with pytest.raises(InputError, match="table.csv.json"):
        call("import_embedding", "--root", root, "--table", path, "--name", "other")


def test_a_log_that_changed_since_it_was_fetched_is_not_read(tmp_path, call):
    path = tmp_path / "downloads" / "log.tsv"
    path.parent.mkdir()
    lines = [f"{user}\tt{user % 3}\t2019-03-0{user % 9 + 1} 00:00:00" for user in range(30)]
    fetched(path, "\n".join(["user_id\ttrack_id\ttimestamp", *lines]) + "\n")
    call("0_get_plays_pqt", "--root", tmp_path / "one", "--log", path)
    spoil(path)
    with pytest.raises(InputError, match="log.tsv is not what was fetched"):
        call("0_get_plays_pqt", "--root", tmp_path / "two", "--log", path)
    assert not (tmp_path / "two" / "data" / "plays.pqt").exists()


def test_what_nobody_fetched_has_no_record(tmp_path):
    assert read_download(tmp_path / "own.csv", "0" * 64) == {}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{}", "imported.json does not hold"),
        ("[]", "imported.json does not hold"),
        ("", "imported.json cannot be read"),
    ],
)
def test_a_damaged_json_of_an_imported_embedding_is_named(root, call, content, message):
    flags = ("--root", root, "--table", root / "downloads" / "table.csv", "--name", "imported")
    call("import_embedding", *flags)
    (root / "embeddings" / "imported.json").write_text(content)
    with pytest.raises(InputError, match=message):
        call("import_embedding", *flags)


@pytest.mark.parametrize("name", ["noise", "random", "none"])
def test_a_name_that_stands_for_no_file_is_no_name_of_one(root, call, name):
    flags = ("--root", root, "--table", root / "downloads" / "table.csv", "--name", name)
    with pytest.raises(InputError, match=f"'{name}' is the name of one that has no file"):
        call("import_embedding", *flags)
    (root / "embeddings" / "toy.npy").rename(root / "embeddings" / f"{name}.npy")
    with pytest.raises(InputError, match=f"{name}.npy is of no use: '{name}' has a meaning"):
        call("train", "--root", root, "--embedding", name)


@pytest.mark.parametrize("flag", ["--vector-column", "--ids"])
def test_an_option_that_the_table_has_no_use_for_is_refused(root, call, flag):
    flags = ("--root", root, "--table", root / "downloads" / "table.csv", "--name", "own")
    with pytest.raises(InputError, match=f"{flag} is for a"):
        call("import_embedding", *flags, flag, root / "trackid_sorted.csv")
