"""Stages 0 and 1 as their user meets them: the commands, wrong input, kills and second runs."""

import bz2
import contextlib
import hashlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from core.artifacts import exclusive
from core.options import InputError, parse_config
from core.users import original_users

HERE = Path(__file__).resolve().parents[2]
SHARED = os.environ.get("MUSIC_SHARED")
STAGE_0, STAGE_1 = "0_get_plays_pqt.py", "1_train_test_split.py"
DATES = ("--train-from", "2019-02-01", "--test-from", "2019-02-15")
HEADER = "user_id\ttrack_id\ttimestamp\n"


def run(script, root, *flags, **options):
    """Run the command as a user does and return the finished process."""
    command = [sys.executable, HERE / script, "--root", root, *flags]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **options)


def call(script, root, *flags, **replaced):
    """Run the script's main in this process, which is faster and shows the exception."""
    spec = importlib.util.spec_from_file_location("stage", HERE / script)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where a dataclass looks its types up
    spec.loader.exec_module(module)
    vars(module).update(replaced)
    kind = module.PlaysConfig if script == STAGE_0 else module.SplitConfig
    return module.main(parse_config(kind, "", ["--root", str(root), *map(str, flags)]))


def make_log(path, n=2_000, users=40, tracks=60, seed=0):
    """Write a log of February 2019 in which both parts of the default dates have plays."""
    rng = np.random.default_rng(seed)
    ids = np.array([f"track{t:04d}" for t in range(tracks)])
    frame = pd.DataFrame(
        {
            "user_id": rng.integers(0, users, n),
            "track_id": ids[(rng.random(n) ** 2 * tracks).astype(int)],
            "timestamp": pd.Timestamp("2019-02-01")
            + pd.to_timedelta(rng.integers(0, 28 * 86_400, n), unit="s"),
        }
    )
    frame.to_csv(path, sep="\t", index=False)
    return path


def files_of(folder):
    """Return {name: sha256} of everything below the folder, hidden files included."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def log(tmp_path):
    return make_log(tmp_path / "log.tsv")


def test_the_commands_write_what_the_contract_names_and_do_nothing_twice(tmp_path, log):
    root = tmp_path / "root"
    first = run(STAGE_0, root, "--log", log)
    assert (first.returncode, first.stderr) == (0, "")
    assert [line.split()[0] for line in first.stdout.splitlines()] == ["plays", "rejected", "from"]
    second = run(STAGE_1, root, *DATES)
    assert (second.returncode, second.stderr) == (0, "")
    parts = ["train", "val", "test"]
    assert [line.split()[0] for line in second.stdout.splitlines()] == ["rows", *parts, "a", *parts]
    names = ["plays.json", "plays.pqt", "rejected.json", "split.json"]
    names += ["train.pqt", "val.pqt", "test.pqt", ".lock"]
    made = files_of(root)
    assert set(made) == {"trackid_sorted.csv", *(f"data/{name}" for name in names)}

    plays, split = (
        json.loads((root / "data" / f"{n}.json").read_text()) for n in ("plays", "split")
    )
    assert (plays["rows"], plays["users"], plays["tracks"]) == (2_000, 40, 60)
    assert plays["log"]["sha256"] == hashlib.sha256(log.read_bytes()).hexdigest()
    assert plays["sha256"] == split["plays_sha256"] == made["data/plays.pqt"]
    for part in ("train", "val", "test"):
        frame = pq.read_table(root / "data" / f"{part}.pqt").to_pandas()
        assert split["sha256"][part] == made[f"data/{part}.pqt"]
        assert split["counts"][part]["plays"] == frame["count"].sum()

    for script, flags in ((STAGE_0, ("--log", log)), (STAGE_1, DATES)):
        again = run(script, root, *flags)
        assert again.returncode == 0 and "--overwrite" in again.stdout
        assert files_of(root) == made
        assert run(script, root, *flags, "--overwrite").returncode == 0
        assert files_of(root) == made


def test_memory_and_threads_and_a_repeated_run_change_no_byte(tmp_path):
    """The log is many blocks long and holds new track ids, and unusable lines, in most of them."""
    log = make_log(tmp_path / "log.tsv", n=20_000, users=300, tracks=5_000)
    lines = log.read_text().splitlines(keepends=True)
    for at in range(300, len(lines), 300):
        lines[at] = "no play\n"
    log.write_text("".join(lines))
    packed = tmp_path / "log.tsv.bz2"
    packed.write_bytes(bz2.compress(log.read_bytes(), 1))
    made = []
    for name, source, memory, threads, block in (
        ("first", log, "300MB", "1", 1 << 12),
        ("again", log, "300MB", "1", 1 << 12),
        ("large", log, "3GB", "4", 1 << 21),
        ("packed", packed, "2GB", "3", 1 << 14),
    ):
        root = tmp_path / name
        limits = ("--memory", memory, "--threads", threads)
        call(STAGE_0, root, "--log", source, *limits, BLOCK=block)
        call(STAGE_1, root, *DATES, *limits)
        made.append(files_of(root))
    assert made[0] == made[1] == made[2]
    del made[0]["data/plays.json"], made[3]["data/plays.json"]  # they name the log
    assert made[0] == made[3]


def test_a_cut_or_stopped_bz2_ends_as_the_contract_says(tmp_path):
    """Its blocks are unpacked by threads of a library, which must end before the interpreter."""
    log = make_log(tmp_path / "log.tsv", n=300_000, users=4_000, tracks=3_000)
    packed, root = tmp_path / "log.tsv.bz2", tmp_path / "root"
    whole = bz2.compress(log.read_bytes(), 1)  # some hundred blocks
    packed.write_bytes(whole[: len(whole) // 2])
    cut = run(STAGE_0, root, "--log", packed)
    assert (cut.returncode, cut.stdout) == (2, "")
    assert "log.tsv.bz2 is damaged or cut short: " in cut.stderr and cut.stderr.count("\n") == 1

    packed.write_bytes(whole)
    command = [sys.executable, HERE / STAGE_0, "--root", root, "--log", packed, "--threads", "2"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not list((root / "data").glob(".plays.pqt.*.tmp")):
        time.sleep(0.001)
    process.terminate()
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 143, said
    assert set(files_of(root)) <= {"data/.lock", "data/rejected.json"}


@pytest.mark.skipif(not SHARED, reason="MUSIC_SHARED names no folder with the real log")
def test_the_real_log_by_the_real_commands(tmp_path):
    shared = Path(SHARED) / "music4all"
    shutil.copy(shared / "trackid_sorted.csv", tmp_path)
    (tmp_path / "trackid_sorted.csv").chmod(0o644)
    log = shared / "userid_trackid_timestamp.tsv"
    assert (
        "48,787 rows      2,459 users     23,625 tracks"
        in run(STAGE_0, tmp_path, "--log", log).stdout
    )
    assert "train              25,030          2,095" in run(STAGE_1, tmp_path, *DATES).stdout
    counts = json.loads((tmp_path / "data" / "split.json").read_text())["counts"]
    expected = {"rows": 25_030, "users": 2_095, "tracks": 15_610, "plays": 25_030}
    assert {name: counts["train"][name] for name in expected} == expected
    assert counts["val"]["rows"] + counts["test"]["rows"] == 12_069
    assert (counts["val"]["users"], counts["test"]["users"]) == (764, 765)


def test_track_ids_come_from_the_audio_and_are_never_rewritten(tmp_path, log):
    root, audio = tmp_path / "root", tmp_path / "audio"
    audio.mkdir()
    for name in ["track0003.mp3", "track0001.ogg", "other.wav"]:
        (audio / name).touch()
    with pytest.raises(InputError, match="unknown track"):
        call(STAGE_0, root, "--log", log, "--audio", audio)
    assert not (root / "trackid_sorted.csv").exists()  # nothing is kept of a refused log
    call(STAGE_0, root, "--log", log, "--audio", audio, "--max-rejected", "1")
    ids = root / "trackid_sorted.csv"
    assert ids.read_text() == "idx,trackid\n0,other\n1,track0001\n2,track0003\n"
    plays = pq.read_table(root / "data" / "plays.pqt").to_pandas()
    expected = pd.read_csv(log, sep="\t")
    expected = expected[expected.track_id.isin(["track0001", "track0003"])]
    assert (plays.user_id.to_numpy() == expected.user_id).all()
    assert (
        plays.track_idx.to_numpy() == expected.track_id.map({"track0001": 1, "track0003": 2})
    ).all()
    rejected = json.loads((root / "data" / "rejected.json").read_text())
    assert (
        rejected["rejected"] == rejected["reasons"]["unknown track"]["rows"] == 2_000 - len(plays)
    )

    before, written = ids.read_bytes(), ids.stat().st_mtime_ns
    (audio / "track0000.mp3").touch()
    call(STAGE_0, root, "--log", log, "--audio", audio, "--max-rejected", "1", "--overwrite")
    assert (ids.read_bytes(), ids.stat().st_mtime_ns) == (before, written)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty; expected a header and a play a line"),
        (HEADER, "has a header and no rows"),
        (HEADER.strip(), "has a header and no rows"),
        (HEADER + "\n\n", "has a header and no rows"),
        ("user_id\ttrack_id\n1\tA\n", "timestamp stands nowhere in it; got 'user_id"),
        (
            HEADER + "1\tA\n",
            r"1 of the 1 rows .*1 malformed \(line 2\); expected as .*got '1\\tA'; see .*reject",
        ),
        (HEADER + "1\tA\tyesterday\n", r"1 bad timestamp \(line 2\)"),
        (HEADER + "me\tA\t2019-02-01 00:00:00\n", r"1 bad user id \(line 2\)"),
        (
            HEADER + "1\tA\t2019-02-01 00:00:00\n" * 98 + "1\tA\n" * 2,
            r"2 malformed \(line 100, 101\)",
        ),
    ],
)
def test_a_log_that_cannot_be_used_is_an_error_and_leaves_no_plays(tmp_path, content, message):
    (tmp_path / "log.tsv").write_text(content)
    with pytest.raises(InputError, match=message):
        call(STAGE_0, tmp_path, "--log", tmp_path / "log.tsv")
    left = set(files_of(tmp_path))
    assert left <= {"log.tsv", "data/.lock", "data/rejected.json"}


def test_few_rejected_rows_are_allowed_and_reported(tmp_path, capsys):
    rows = "1\tA\t2019-02-01 00:00:00\n" * 99
    (tmp_path / "log.tsv").write_text(HEADER + rows + "1\tA\n")
    call(STAGE_0, tmp_path, "--log", tmp_path / "log.tsv")
    assert "1 malformed (line 101)" in capsys.readouterr().out
    told = json.loads((tmp_path / "data" / "rejected.json").read_text())
    assert len(told.pop("sealed")) == 64
    assert told == {
        "lines": 100,
        "rejected": 1,
        "reasons": {
            "malformed": {"rows": 1, "first_lines": [101]},
            "bad user id": {"rows": 0, "first_lines": []},
            "bad timestamp": {"rows": 0, "first_lines": []},
            "unknown track": {"rows": 0, "first_lines": []},
        },
    }
    (tmp_path / "log.tsv").write_text(HEADER + "1\tA\n" * 3)
    with pytest.raises(InputError, match="3 of the 3 rows read cannot be used"):
        call(STAGE_0, tmp_path, "--log", tmp_path / "log.tsv", "--overwrite", "--max-rejected", "1")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "user_000018\tA\t2019-02-01 00:00:00",
            "'user_000018' is no integer; read .* with --users text",
        ),
        (
            "001\tA\t2019-02-01 00:00:00",
            "'001' would be taken for user 1; .* --users text",
        ),
        (
            "9223372036854775808\tA\t2019-02-01 00:00:00",
            "is beyond 64 bits; keep .* --users text",
        ),
        ("1\tA\t1549000000", "got '1549000000', which looks like seconds .*--time-format s;"),
        ("1\tA\t1549000000000", "like milliseconds since 1970; .* --time-format ms"),
        ("1\tA\t2019-02-01 00:00", "expected YYYY-MM-DD hh:mm:ss, .* which has no seconds; write"),
        ("1\tA\t2019-02-01", "which has no time of day; append one"),
        ("1\tA\t2019-02-01 00:00:00.123456789", "which has 9 digits of fraction; keep 6 at most"),
        ("1\tA\t2019-02-01 00:00:00\t5", "expected as many fields as the first line has, all on"),
        ("1\tB\t2019-02-01 00:00:00", "'B' is not in trackid_sorted.csv; is it the log of these"),
    ],
)
def test_a_rejected_row_is_told_what_was_expected_what_came_and_what_to_do(tmp_path, line, message):
    (tmp_path / "trackid_sorted.csv").write_text("idx,trackid\n0,A\n")
    (tmp_path / "log.tsv").write_text(HEADER + f"{line}\n" * 2 + "1\tA\t2019-02-01 00:00:00\n" * 3)
    with pytest.raises(InputError, match=message):
        call(STAGE_0, tmp_path, "--log", tmp_path / "log.tsv")


def test_a_zst_log_without_checksum_is_told_that_it_has_none(tmp_path, log, capsys):
    """A lost bit of such a file unpacks to other text without an error."""
    import pyarrow as pa

    packed = tmp_path / "log.tsv.zst"
    packed.write_bytes(pa.compress(log.read_bytes(), codec="zstd", asbytes=True))
    call(STAGE_0, tmp_path / "root", "--log", packed)
    said = "the zst file has no checksum (zstd --check): what it lost, nobody can notice"
    assert said in capsys.readouterr().out
    packed.write_bytes(
        pa.compress(b"user_id\ttrack_id\ttimestamp\n1\n", codec="zstd", asbytes=True)
    )
    with pytest.raises(InputError, match="1 malformed .*the zst file has no checksum"):
        call(STAGE_0, tmp_path / "other", "--log", packed)
    header = bytearray(packed.read_bytes())
    assert not header[4] & 4
    from listening_log.log_blocks import LogStream

    header[4] |= 4
    packed.write_bytes(header)
    with LogStream(packed, 1) as stream:
        assert not stream.unchecked


@pytest.mark.parametrize(
    ("script", "flags", "message"),
    [
        (STAGE_0, ["--log", "nowhere.tsv"], "nowhere.tsv is missing"),
        (STAGE_0, ["--log", str(HERE)], "is a folder; expected a file"),
        (STAGE_0, [], "--log is required"),
        (STAGE_0, ["--log", "log.tsv", "--max-rejected", "2"], "--max-rejected must be between"),
        (STAGE_0, ["--log", "log.tsv", "--memory", "lots"], "--memory must be a size"),
        (STAGE_0, ["--log", "log.tsv", "--threads", "0"], "--threads must be at least 1"),
        (STAGE_1, ["--val-share", "1"], "--val-share must be between 0 and 1"),
        (STAGE_1, ["--val-share", "nan"], "--val-share must be a finite number"),
        (STAGE_1, ["--seed", "-1"], "--seed must be between"),
        (STAGE_1, ["--train-from", "2019-2-1"], "--train-from must be a date"),
        (STAGE_1, ["--test-form", "2019-02-01"], "unknown flag '--test-form'; did you mean"),
        (STAGE_1, [], r"plays\.pqt is missing; make it with python 0_get_plays_pqt\.py"),
    ],
)
def test_wrong_arguments_are_one_line_and_exit_2(tmp_path, script, flags, message):
    with pytest.raises(InputError, match=message):
        call(script, tmp_path, *flags)
    if flags in ([], ["--log", "nowhere.tsv"]):
        process = run(script, tmp_path, *flags)
        assert process.returncode == 2 and process.stdout == ""
        assert process.stderr.startswith(f"{script}: ") and process.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("dates", "message"),
    [
        (("2020-01-01", "2020-02-01"), "train and val and test would be empty"),
        (("2019-01-01", "2019-02-01"), "train and val and test would be empty"),
        (("2019-02-01", "2019-03-01"), "^val and test would be empty"),
    ],
)
def test_dates_beside_the_log_are_an_error_that_names_its_first_and_last_play(
    tmp_path, log, dates, message
):
    call(STAGE_0, tmp_path, "--log", log)
    with pytest.raises(InputError, match=message) as error:
        call(STAGE_1, tmp_path, "--train-from", dates[0], "--test-from", dates[1])
    times = pd.read_csv(log, sep="\t").timestamp
    assert all(said in str(error.value) for said in (times.min(), times.max(), *dates))
    assert not any((tmp_path / "data" / f"{p}.pqt").exists() for p in ("train", "val", "test"))


def test_other_dates_are_advised_only_where_they_help(tmp_path):
    """One user has held-out tracks: whatever the dates, there is none for val."""
    rows = [("1", "A", 1), ("1", "B", 20), ("2", "B", 1), ("2", "C", 2), ("3", "A", 3)]
    text = "".join(f"{user}\t{track}\t2019-02-{day:02d} 00:00:00\n" for user, track, day in rows)
    (tmp_path / "log.tsv").write_text(HEADER + text)
    call(STAGE_0, tmp_path, "--log", tmp_path / "log.tsv")
    with pytest.raises(InputError, match="^val would be empty: .*1 users have held-out.*--val-sha"):
        call(STAGE_1, tmp_path, *DATES)
    (tmp_path / "log.tsv").write_text(HEADER + text.replace("1\tB\t2019-02-20", "9\tB\t2019-02-20"))
    call(STAGE_0, tmp_path, "--log", tmp_path / "log.tsv", "--overwrite")
    with pytest.raises(InputError, match="no user of train first plays a track of train later; "):
        call(STAGE_1, tmp_path, *DATES)


def test_finished_work_of_other_inputs_is_an_error_that_names_them(tmp_path, log):
    root, other = tmp_path / "root", tmp_path / "other.tsv"
    call(STAGE_0, root, "--log", log)
    call(STAGE_1, root, *DATES)
    made = files_of(root)

    shutil.copy(log, other)  # the same content under another name and time is the same log
    call(STAGE_0, root, "--log", other)
    make_log(other, seed=1)
    with pytest.raises(InputError, match="other.tsv is not the log it was made from .*--overwrite"):
        call(STAGE_0, root, "--log", other)
    with pytest.raises(InputError, match="--seed was 42 and is 7; --overwrite"):
        call(STAGE_1, root, *DATES, "--seed", "7")
    with pytest.raises(InputError, match="--test-from was 2019-02-15 and is 2019-02-16"):
        call(STAGE_1, root, *DATES[:3], "2019-02-16")
    assert files_of(root) == made

    call(STAGE_0, root, "--log", other, "--overwrite")
    with pytest.raises(InputError, match="plays.pqt has changed"):
        call(STAGE_1, root, *DATES)
    call(STAGE_1, root, *DATES, "--overwrite")
    (root / "data" / "val.pqt").write_bytes((root / "data" / "test.pqt").read_bytes())
    with pytest.raises(InputError, match="val.pqt has changed"):
        call(STAGE_1, root, *DATES)
    (root / "data" / "val.pqt").unlink()
    call(STAGE_1, root, *DATES)  # what is missing is made again
    with open(root / "trackid_sorted.csv", "a") as file:
        file.write("60,zzz\n")
    with pytest.raises(InputError, match="trackid_sorted.csv has changed"):
        call(STAGE_0, root, "--log", other)


def test_a_split_is_audited_by_the_command(tmp_path, log, capsys):
    with pytest.raises(InputError, match="split.json is missing"):
        call(STAGE_1, tmp_path, "--check")
    call(STAGE_0, tmp_path, "--log", log)
    call(STAGE_1, tmp_path, *DATES)
    made = files_of(tmp_path)
    capsys.readouterr()
    call(STAGE_1, tmp_path, "--check")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) >= 30 and all(line.startswith("ok ") for line in lines)
    assert files_of(tmp_path) == made

    train = tmp_path / "data" / "train.pqt"
    pq.write_table(pq.read_table(train).slice(1), train)
    with pytest.raises(InputError, match="2 of [0-9]+ checks found faults"):
        call(STAGE_1, tmp_path, "--check")
    # Its fingerprint has changed, and a pair is missing.
    assert "FAULT  1 pairs played in the time of train" in capsys.readouterr().out


def test_the_journal_keeps_cold_tracks_apart(tmp_path, log):
    new = pd.DataFrame({"user_id": range(5), "track_id": "track0060", "timestamp": "2019-02-20"})
    new["timestamp"] += " 00:00:00"
    new.to_csv(log, mode="a", header=False, index=False, sep="\t")
    call(STAGE_0, tmp_path, "--log", log)
    call(STAGE_1, tmp_path, "--protocol", "journal", *DATES)
    record = json.loads((tmp_path / "data" / "split.json").read_text())
    assert record["config"]["test_until"] == "2019-03-01" and record["config"]["val_share"] == 0.3
    cold = pq.read_table(tmp_path / "data" / "cold_test.pqt").to_pandas()
    assert cold.user_id.tolist() == list(range(5)) and set(cold.track_idx) == {60}
    assert not set(cold.user_id) & set(
        pq.read_table(tmp_path / "data" / "val.pqt")["user_id"].to_pylist()
    )
    with pytest.raises(InputError, match="--protocol was journal and is recsys"):
        call(STAGE_1, tmp_path, *DATES)
    call(STAGE_1, tmp_path, *DATES, "--overwrite")
    assert not (tmp_path / "data" / "cold_test.pqt").exists()


def test_two_stages_never_work_on_one_root_at_a_time(tmp_path, log):
    import fcntl

    (tmp_path / "data").mkdir()
    with open(tmp_path / "data" / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="another process is working on"):
            call(STAGE_0, tmp_path, "--log", log)


@pytest.mark.parametrize("script", [STAGE_0, STAGE_1])
def test_stopped_just_before_the_record_the_old_record_does_not_stand_for_new_files(
    tmp_path, log, script
):
    """The record is written last, so without it the work is not finished, whatever was before."""
    call(STAGE_0, tmp_path, "--log", log)
    call(STAGE_1, tmp_path, *DATES)
    other = make_log(tmp_path / "other.tsv", seed=1)
    again = ["--log", other] if script == STAGE_0 else [*DATES, "--seed", "7"]
    records = []

    def stop_at_the_record(path, content):
        records.append(path.name)
        if path.name in ("plays.json", "split.json"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        call(script, tmp_path, *again, "--overwrite", write_json=stop_at_the_record)
    assert not (tmp_path / "data" / records[-1]).exists()
    call(script, tmp_path, *again)
    whole = tmp_path / "whole"
    call(STAGE_0, whole, "--log", other if script == STAGE_0 else log)
    if script == STAGE_1:
        call(STAGE_1, whole, *again)
    for name in ["plays"] if script == STAGE_0 else ["train", "val", "test"]:
        path = Path("data") / f"{name}.pqt"
        assert (tmp_path / path).read_bytes() == (whole / path).read_bytes()


def kill_when(process, reached, after=0.0):
    """Kill -9 the process once `reached()` holds; return whether it was still at work."""
    while process.poll() is None and not reached():
        time.sleep(0.001)
    time.sleep(after)
    if process.poll() is None:
        process.send_signal(signal.SIGKILL)
    process.communicate()
    return process.returncode == -signal.SIGKILL


@pytest.mark.parametrize("ids", ["from the log", "given"])
def test_kill_9_during_either_stage_and_the_same_command_ends_as_if_undisturbed(tmp_path, ids):
    log = make_log(tmp_path / "log.tsv", n=300_000, users=4_000, tracks=3_000)
    whole, root = tmp_path / "whole", tmp_path / "root"
    commands = [
        [STAGE_0, "--log", log, "--memory", "300MB", "--threads", "1"],
        [STAGE_1, *DATES, "--threads", "1"],
    ]
    for script, *flags in commands:
        assert run(script, whole, *flags).returncode == 0
    root.mkdir()
    if ids == "given":
        shutil.copy(whole / "trackid_sorted.csv", root)

    scratch = root / "data" / ".scratch.tmp"
    for script, *flags in commands:
        killed = 0
        for after in (0, 0.02, 0.05, 0.1):
            process = subprocess.Popen(
                [sys.executable, HERE / script, "--root", root, *flags],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            killed += kill_when(process, scratch.exists, after)
        assert killed, "no kill came in time; the log is too short for this machine"
        assert run(script, root, *flags).returncode == 0
    assert files_of(root) == files_of(whole)
    assert not list(root.rglob("*tmp*"))


def test_what_a_killed_stage_spilled_is_cleared_by_whichever_stage_comes_next(tmp_path, log):
    call(STAGE_0, tmp_path, "--log", log)
    for script, *flags in ([STAGE_1, *DATES], [STAGE_0, "--log", log], [STAGE_1, "--check"]):
        spilled = tmp_path / "data" / ".scratch.tmp" / "ranges" / "range=0"
        spilled.mkdir(parents=True)
        (spilled / "data_0.parquet").write_text("half of it")
        call(script, tmp_path, *flags)
        assert not list(tmp_path.rglob("*.tmp"))


def test_sigterm_ends_with_143_and_leaves_nothing_half_written(tmp_path):
    log = make_log(tmp_path / "log.tsv", n=300_000, users=4_000, tracks=3_000)
    root = tmp_path / "root"
    process = subprocess.Popen(
        [sys.executable, HERE / STAGE_0, "--root", root, "--log", log, "--memory", "300MB"],
        stderr=subprocess.PIPE,
        text=True,
    )
    while process.poll() is None and not (root / "data" / ".scratch.tmp").exists():
        time.sleep(0.001)
    process.terminate()
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 143, said
    assert "terminated by SIGTERM" in said
    assert set(files_of(root)) <= {"data/.lock"}


def test_a_root_starts_from_the_ids_it_is_given_and_keeps_them(tmp_path, command):
    log, given = tmp_path / "log.tsv", tmp_path / "given.csv"
    log.write_text("user_id\ttrack_id\ttimestamp\n1\tb\t2020-01-01 00:00:00\n")
    given.write_text("idx,trackid\n0,a\n1,b\n2,c\n")
    flags = ("--root", tmp_path / "root", "--log", log, "--tracks", given)
    done = command(STAGE_0, *flags)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "root" / "trackid_sorted.csv").read_text() == given.read_text()
    assert pd.read_parquet(tmp_path / "root" / "data" / "plays.pqt").track_idx.tolist() == [1]
    given.write_text("idx,trackid\n0,b\n")
    other = command(STAGE_0, *flags, "--overwrite")
    assert other.returncode == 2 and "holds other ids than --tracks" in other.stderr
    absent = command(STAGE_0, "--root", tmp_path / "new", "--log", log, "--tracks", "nowhere.csv")
    assert absent.returncode == 2 and "nowhere.csv cannot be read" in absent.stderr


def test_the_studys_own_ids_stand_at_the_top_of_the_project(shared):
    theirs = (shared / "music4all" / "trackid_sorted.csv").read_bytes()
    assert (HERE / "trackid_sorted.csv").read_bytes() == theirs


def test_the_rule_is_of_the_plays_that_are_split_though_others_came_before_the_lock(tmp_path):
    root, later = tmp_path / "root", tmp_path / "later.tsv"
    root.mkdir()
    make_log(later, seed=1)
    frame = pd.read_csv(later, sep="\t", parse_dates=["timestamp"])
    frame.timestamp += pd.Timedelta(days=200)
    frame.to_csv(later, sep="\t", index=False)
    call(STAGE_0, root, "--log", make_log(tmp_path / "log.tsv"))
    last = ("--test-last", "10%", "--train-last", "14d")

    @contextlib.contextmanager
    def taken(path, name):
        call(STAGE_0, root, "--log", later, "--overwrite")  # as another process would
        with exclusive(path, name):
            yield

    call(STAGE_1, root, *last, exclusive=taken)
    parts = ("train", "val", "test", "split")
    files = [root / "data" / f"{p}.{'json' if p == 'split' else 'pqt'}" for p in parts]
    found = [path.read_bytes() for path in files]
    call(STAGE_1, root, *last, "--overwrite")
    assert found == [path.read_bytes() for path in files]


@pytest.mark.parametrize("removed", [[], ["plays.json", "plays.pqt"]], ids=["users", "plays too"])
def test_users_whose_ids_are_gone_are_not_called_by_their_numbers(tmp_path, log, removed):
    call(STAGE_0, tmp_path, "--log", log, "--users", "text")
    call(STAGE_1, tmp_path, *DATES)
    split = pd.read_parquet(tmp_path / "data" / "test.pqt")
    assert original_users(tmp_path, split.user_id).tolist() != split.user_id.tolist()
    for name in ("users.pqt", *removed):  # as a stage 0 leaves it that is stopped in --overwrite
        (tmp_path / "data" / name).unlink()
    with pytest.raises(InputError, match="users.pqt, which has the ids .* is missing; put it back"):
        original_users(tmp_path, split.user_id)
    if not removed:
        (tmp_path / "data" / "split.json").unlink()
        with pytest.raises(InputError, match="users.pqt, which has the ids .* is missing"):
            original_users(tmp_path, split.user_id)
