"""get_data.py as a user runs it: lists, mirrors, files brought by hand, interruptions."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

from core.options import InputError, WorkError
from open_data.sources import choose, read_sources
from tests.open_data.unreliable_server import cutting, serve, serving

HERE = Path(__file__).resolve().parents[2]
BODIES = {name: np.random.default_rng(i).bytes(200_000) for i, name in enumerate("abcd")}


def list_of(folder, address, names="abcd", **changed):
    """Write a list of sources whose tables a to d lie at an address; return its path."""
    entries = {}
    for name in names:
        entries[name] = {
            **{"group": "table", "file": f"id_{name}.tsv.bz2", "licence": "CC BY 4.0"},
            **{"addresses": [f"{address}/id_{name}.tsv.bz2"], "what": f"table {name}"},
            **{"bytes": 200_000, "md5": hashlib.md5(BODIES[name]).hexdigest()},
            **changed,
        }
    path = folder / "sources.yaml"
    path.write_text(yaml.safe_dump({"sources": entries}))
    return path


def files_of(names="abcd"):
    return {f"/id_{name}.tsv.bz2": BODIES[name] for name in names}


def get(call, root, listed, *flags, tables="a,b,c,d"):
    flags = ("--tables", tables, "--base-wait", "0.001", "--tries", "3", *flags)
    call("get_data", "--root", root, "--sources", listed, *flags)


def test_several_at_a_time_and_nothing_twice(tmp_path, call, capsys):
    def slow(handler, body):
        time.sleep(0.1)
        serve(handler, body)

    with serving(files_of(), dict.fromkeys(files_of(), slow)) as server:
        listed = list_of(tmp_path, server.address)
        get(call, tmp_path, listed, "--at-once", "2")
        assert server.busiest == 2
        get(call, tmp_path, listed)
        assert len(server.requests) == 4
    said = capsys.readouterr().out
    assert "fetching 4 files, 800,000 bytes" in said and said.count("is here") == 4
    for name, body in BODIES.items():
        path = tmp_path / "downloads" / f"id_{name}.tsv.bz2"
        told = json.loads(path.with_name(path.name + ".json").read_text())
        assert path.read_bytes() == body and told["checked"] == ["md5"]
        assert told["licence"] == "CC BY 4.0"


def test_what_one_lacks_does_not_keep_the_others_back(tmp_path, call):
    with serving(files_of("abd")) as server:
        with pytest.raises(WorkError, match=r"^c .*status 404"):
            get(call, tmp_path, list_of(tmp_path, server.address))
    assert len(list((tmp_path / "downloads").glob("id_?.tsv.bz2"))) == 3


def test_a_mirror_of_either_kind(tmp_path, call):
    listed = list_of(tmp_path, "http://127.0.0.1:9")
    with serving(files_of("ab")) as server:
        get(call, tmp_path / "one", listed, "--mirror", f"{server.address}/", tables="a,b")
    get(call, tmp_path / "two", listed, "--mirror", tmp_path / "one" / "downloads", tables="a,b")
    assert (tmp_path / "two" / "downloads" / "id_b.tsv.bz2").read_bytes() == BODIES["b"]


def test_without_a_network_it_says_what_to_fetch_and_takes_what_is_brought(tmp_path, call, capsys):
    listed = list_of(tmp_path, "http://127.0.0.1:9", "ab")
    with pytest.raises(WorkError, match="no address answers"):
        get(call, tmp_path, listed, tables="a,b")
    said = capsys.readouterr().out
    md5 = hashlib.md5(BODIES["b"]).hexdigest()
    assert "http://127.0.0.1:9/id_a.tsv.bz2" in said
    assert f"-> {tmp_path}/downloads/id_b.tsv.bz2   (200,000 bytes, md5 {md5})" in said
    for name in "ab":
        (tmp_path / "downloads" / f"id_{name}.tsv.bz2").write_bytes(BODIES[name])
    get(call, tmp_path, listed, tables="a,b")
    told = json.loads((tmp_path / "downloads" / "id_a.tsv.bz2.json").read_text())
    assert told["address"] == "brought by hand" and told["checked"] == ["md5"]


def test_another_file_in_its_place_is_refused_and_left(tmp_path, call):
    path = tmp_path / "downloads" / "id_a.tsv.bz2"
    path.parent.mkdir()
    path.write_bytes(BODIES["b"])
    with pytest.raises(InputError, match="is there, but its md5 is .*move it away"):
        get(call, tmp_path, list_of(tmp_path, "http://127.0.0.1:9"), tables="a")
    assert path.read_bytes() == BODIES["b"]


def test_a_file_that_changed_after_it_was_verified_is_noticed(tmp_path, call):
    with serving(files_of("a")) as server:
        listed = list_of(tmp_path, server.address)
        get(call, tmp_path, listed, tables="a")
        path = tmp_path / "downloads" / "id_a.tsv.bz2"
        path.write_bytes(BODIES["b"])
        os.utime(path, ns=(time.time_ns() + 10**9,) * 2)
        with pytest.raises(InputError, match="its md5"):
            get(call, tmp_path, listed, tables="a")


def test_a_checksum_that_the_list_learns_later_is_compared(tmp_path, call):
    with serving(files_of("a")) as server:
        get(call, tmp_path, list_of(tmp_path, server.address, "a", md5=None), tables="a")
        listed = list_of(tmp_path, server.address, "a", md5="0" * 32)
        with pytest.raises(InputError, match="its md5 is"):
            get(call, tmp_path, listed, tables="a")


def test_an_unknown_checksum_is_recorded_and_said(tmp_path, call, capsys):
    with serving(files_of("a")) as server:
        listed = list_of(tmp_path, server.address, "a", md5=None, bytes=None)
        get(call, tmp_path, listed, tables="a")
    digest = hashlib.sha256(BODIES["a"]).hexdigest()
    assert f"no checksum is known; sha256 {digest} is recorded" in capsys.readouterr().out
    told = json.loads((tmp_path / "downloads" / "id_a.tsv.bz2.json").read_text())
    assert told["sha256"] == digest and told["checked"] == []


def test_no_room_is_said_before_anything_is_fetched(tmp_path, call):
    listed = list_of(tmp_path, "http://127.0.0.1:9", "a", bytes=10**16)
    with pytest.raises(WorkError, match="bytes free, and 10,000,000,000,000,000 are still"):
        get(call, tmp_path, listed, tables="a")


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_after_an_interruption_the_same_command_goes_on(tmp_path, signum):
    with serving(files_of("a")) as server:
        listed = list_of(tmp_path, server.address, "a")
        words = [sys.executable, "get_data.py", "--root", tmp_path, "--sources", listed]
        words += ["--tables", "a"]
        slow = [*words, "--limit-rate", "200kB"]
        with subprocess.Popen(slow, cwd=HERE, stderr=subprocess.PIPE, text=True) as process:
            part = tmp_path / "downloads" / ".id_a.tsv.bz2.part"
            for _ in range(3000):
                if part.exists() and part.stat().st_size > 60_000:
                    break
                time.sleep(0.02)
            process.send_signal(signum)
            said = process.communicate(timeout=60)[1]
        code = {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: 130}[signum]
        assert process.returncode == code and "Traceback" not in said
        subprocess.run(words, cwd=HERE, check=True, capture_output=True)

        assert server.requests[-1][1] != "bytes=0-"
    assert (tmp_path / "downloads" / "id_a.tsv.bz2").read_bytes() == BODIES["a"]


def test_a_cut_is_told_and_survived(tmp_path, command):
    with serving(files_of("a"), {"/id_a.tsv.bz2": cutting(90_000)}) as server:
        listed = list_of(tmp_path, server.address)
        flags = ("--root", tmp_path, "--sources", listed, "--tables", "a", "--base-wait", "0.01")
        done = command("get_data.py", *flags)
    assert done.returncode == 0, done.stderr
    assert "a: the connection was cut; again in 0 s, 90,000 bytes kept" in done.stdout
    assert "200,000 bytes, md5 as listed; licence CC BY 4.0" in done.stdout


def test_the_list_for_people(call, capsys):
    call("get_data", "--list")
    said = capsys.readouterr().out
    for words in ("2,211,449,511 bytes", "CC BY 4.0", "checksum unknown", "4,800 wide", "-> "):
        assert words in said


def test_the_list_has_the_study_and_its_groups():
    sources = read_sources(HERE / "data_sources.yaml")
    chosen = choose(sources, log=True, tables=("maest",), split="journal", about=True)
    files = [source.file for source in chosen]
    assert len(files) == 9 and "journal/hot_test.pqt" in files and "id_maest.tsv.bz2" in files
    tables = choose(sources, log=False, tables=("all",), split=None, about=False)
    assert all(source.width for source in tables)


def test_nothing_asked_for_and_unknown_names(tmp_path, call):
    with pytest.raises(InputError, match="nothing is asked for"):
        call("get_data", "--root", tmp_path)
    with pytest.raises(InputError, match="did you mean 'maest'"):
        call("get_data", "--root", tmp_path, "--tables", "maset")
    with pytest.raises(InputError, match="--split 'recsys' has no entries"):
        call("get_data", "--root", tmp_path, "--split", "recsys")


GOOD = {"group": "log", "file": "f", "addresses": ["http://h/f"]}


@pytest.mark.parametrize(
    ("entry", "what"),
    [
        ({**GOOD, "adresses": 1}, "unknown key 'adresses'; did you mean 'addresses'"),
        ({**GOOD, "group": "logs"}, "group must be one of"),
        ({**GOOD, "file": "../f"}, "path below the folder"),
        ({**GOOD, "file": "/f"}, "path below the folder"),
        ({**GOOD, "addresses": "http://h/f"}, "must be a list"),
        ({**GOOD, "addresses": ["h/f"]}, "begins with http"),
        ({**GOOD, "bytes": "2 GB"}, "bytes must be a whole number"),
        ({**GOOD, "md5": "12"}, "md5 must be 32 hex digits"),
        ("text", "expected 'key: value' lines"),
    ],
)
def test_a_wrong_entry_is_named(tmp_path, entry, what):
    path = tmp_path / "s.yaml"
    path.write_text(yaml.safe_dump({"sources": {"one": entry}}))
    with pytest.raises(InputError, match=f"entry 'one': .*{what}"):
        read_sources(path)


def test_a_list_that_is_none(tmp_path):
    for content in ("", "[]", "sources: {}", "a: ["):
        (tmp_path / "s.yaml").write_text(content)
        with pytest.raises(InputError, match="--sources"):
            read_sources(tmp_path / "s.yaml")
    with pytest.raises(InputError, match="cannot be read"):
        read_sources(tmp_path / "gone.yaml")
