"""The sample: clips that sound like their style, a log that follows taste, a folder that is whole.

Music and listening are tested without files; the script runs at the least size it allows.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from core.options import InputError
from sample_data.instruments import SAMPLE_RATE, Timbre, tone
from sample_data.listening import listen
from sample_data.styles import STYLES
from sample_data.synthesis import SECONDS, describe, synthesise

HERE = Path(__file__).resolve().parents[2]
LEAST = ("--tracks", "16", "--users", "20", "--plays", "400")
NAMES = list(STYLES)


# The log, at the default size, without audio


def play_log(n_tracks=1000, n_users=400, n_plays=40_000, seed=0):
    """Return the log and the tracks' styles and brightnesses."""
    tracks = [describe(seed, index) for index in range(n_tracks)]
    styles = np.array([NAMES.index(track.style) for track in tracks])
    brightness = np.array([track.brightness for track in tracks])
    users, played, times = listen(styles, brightness, n_users, n_plays, seed)
    log = pd.DataFrame({"user": users, "track": played, "time": times})
    return log, styles, brightness


def default_split(log):
    """Return first plays since 2019-02-20: those of train, and the held-out ones."""
    first = log[log.time >= "2019-02-20"].groupby(["user", "track"], as_index=False).time.min()
    train, late = first[first.time < "2020-02-20"], first[first.time >= "2020-02-20"]
    return train, late[late.user.isin(train.user) & late.track.isin(train.track)]


def as_matrices(train, held_out):
    """Return bool (n_users, n_candidates) of train and of held-out, and the candidates' tracks."""
    users, candidates = np.unique(train.user), np.unique(train.track)
    matrices = []
    for part in (train, held_out):
        matrix = np.zeros((len(users), len(candidates)), dtype=bool)
        matrix[np.searchsorted(users, part.user), np.searchsorted(candidates, part.track)] = True
        matrices.append(matrix)
    return *matrices, candidates


def hit_rate(scores, heard, truth, k=50):
    """Return the share of the users with held-out tracks whose k best unheard tracks hold one."""
    scores = np.where(heard, -np.inf, scores)
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(truth, best, axis=1).any(axis=1)[truth.any(axis=1)].mean()


def mean_and_cosine(vectors, heard):
    """Return the cosines of mean track vectors of users and all track vectors."""
    users = heard @ vectors / heard.sum(axis=1, keepdims=True)
    users = users / np.linalg.norm(users, axis=1, keepdims=True)
    return users @ (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).T


@pytest.fixture(scope="module")
def sample_log():
    return play_log()


@pytest.fixture(scope="module")
def sample_split(sample_log):
    return default_split(sample_log[0])


def test_the_log_has_the_rows_users_and_dates_asked_for(sample_log):
    log, _, _ = sample_log
    assert len(log) == 40_000 and log.user.nunique() == 400
    assert log.time.is_monotonic_increasing and log.track.between(0, 999).all()
    assert pd.Timestamp("2019-01-20") <= log.time.min() < pd.Timestamp("2019-01-22")
    assert pd.Timestamp("2020-04-18") < log.time.max() < pd.Timestamp("2020-04-22")
    assert not log.duplicated(["user", "time"]).any()


def test_a_seed_gives_one_log_and_another_seed_another(sample_log):
    again, other = play_log()[0], play_log(seed=1)[0]
    pd.testing.assert_frame_equal(sample_log[0], again)
    assert not sample_log[0].equals(other)


def test_users_have_a_history_and_most_of_them_something_new_later(sample_split):
    train, held_out = sample_split
    assert train.user.nunique() == 400
    assert train.groupby("user").size().min() >= 10
    assert held_out.user.nunique() >= 300
    assert 3 < len(held_out) / held_out.user.nunique() < 6


def test_plays_repeat_and_few_tracks_have_most_of_them(sample_log):
    log, _, _ = sample_log
    assert len(log.drop_duplicates(["user", "track"])) < 0.5 * len(log)
    plays = log.groupby("track").size().sort_values(ascending=False)
    assert plays[:100].sum() > 0.25 * len(log)


def test_some_tracks_are_heard_first_after_the_test_date(sample_log):
    first = sample_log[0].groupby("track").time.min()
    assert 40 <= (first >= "2020-02-20").sum() <= 120


def test_lists_are_neither_hopeless_nor_easy(sample_split):
    heard, truth, _ = as_matrices(*sample_split)
    rng = np.random.default_rng(0)
    chance = np.mean([hit_rate(rng.random(heard.shape), heard, truth) for _ in range(5)])
    popular = hit_rate(np.broadcast_to(heard.sum(axis=0), heard.shape), heard, truth)
    assert 0.1 < chance < 0.3
    assert chance < popular < 0.45


def test_what_is_found_next_sounds_like_what_was_heard(sample_log, sample_split):
    _, styles, brightness = sample_log
    heard, truth, candidates = as_matrices(*sample_split)
    near = np.exp(-(((brightness[:, None] - np.linspace(0, 1, 6)) / 0.2) ** 2))  # (n_tracks, 6)
    sound = (np.eye(len(NAMES))[styles][:, :, None] * near[:, None]).reshape(len(styles), -1)
    real = hit_rate(mean_and_cosine(sound[candidates], heard), heard, truth)
    for seed in range(3):
        shuffled = np.random.default_rng(seed).permutation(candidates)
        assert real > 1.6 * hit_rate(mean_and_cosine(sound[shuffled], heard), heard, truth)
    assert real < 0.9


def test_users_like_few_styles(sample_log):
    log, styles, _ = sample_log
    shares = pd.crosstab(log.user, styles[log.track], normalize="index")
    assert shares.max(axis=1).mean() > 0.5


def test_inside_one_style_users_keep_to_their_brightness(sample_log, sample_split):
    _, styles, brightness = sample_log
    sides = []
    for part in sample_split:
        part = part.assign(style=styles[part.track], brightness=brightness[part.track])
        sides.append(part.groupby(["user", "style"]).brightness.mean())
    both = pd.concat(sides, axis=1, join="inner").to_numpy()
    assert np.corrcoef(both.T)[0, 1] > 0.6


@pytest.mark.parametrize("sizes", [(16, 20, 400), (40, 40, 1500), (1000, 20, 1000)])
def test_small_samples_have_users_to_validate_and_to_test(sizes):
    for seed in range(5):
        log, _, _ = play_log(*sizes, seed=seed)
        assert len(log) == sizes[2] and log.user.nunique() == sizes[1]
        assert default_split(log)[1].user.nunique() >= 2


# The music, without files


def band_levels(clip):
    """Return mean and deviation over time of the dB in 24 bands from 40 Hz to 10 kHz."""
    mono = clip.mean(axis=1)[: SECONDS * SAMPLE_RATE // 1024 * 1024]
    power = np.abs(np.fft.rfft(mono.reshape(-1, 1024) * np.hanning(1024))) ** 2
    frequencies = np.fft.rfftfreq(1024, 1 / SAMPLE_RATE)
    edges = np.geomspace(40, 10_000, 25)
    bands = [
        power[:, np.abs(frequencies - low).argmin() :][:, : 1 + int((high - low) / 21.5)].mean(1)
        for low, high in zip(edges[:-1], edges[1:], strict=True)
    ]
    decibels = 10 * np.log10(np.stack(bands) + 1e-7)
    return np.concatenate([decibels.mean(axis=1), decibels.std(axis=1)])


@pytest.fixture(scope="module")
def music():
    """Return 10 tracks of each style and their clips."""
    tracks = [describe(0, index) for index in range(10 * len(NAMES))]
    return tracks, [synthesise(track) for track in tracks]


def test_clips_are_loud_enough_and_never_clip(music):
    levels = []
    for track, clip in zip(*music, strict=True):
        assert clip.shape == (SECONDS * SAMPLE_RATE, 2) and clip.dtype == np.float32
        assert np.abs(clip).max() == pytest.approx(track.level, rel=1e-4) and track.level < 0.9
        seconds = np.sqrt((clip.reshape(SECONDS, -1) ** 2).mean(axis=1))
        assert seconds.min() > 0.01, "a silent second"
        levels.append(seconds.mean())
    assert 1.5 < max(levels) / min(levels) < 10


def test_styles_can_be_told_apart_by_ear(music):
    """Nearest mean of the other tracks of each style, by the levels of 24 bands."""
    tracks, clips = music
    features = np.stack([band_levels(clip) for clip in clips])
    features = (features - features.mean(axis=0)) / features.std(axis=0)
    styles = np.array([NAMES.index(track.style) for track in tracks])
    right = 0
    for i, style in enumerate(styles):
        others = np.arange(len(styles)) != i
        means = [features[others & (styles == s)].mean(axis=0) for s in range(len(NAMES))]
        right += np.linalg.norm(means - features[i], axis=1).argmin() == style
    assert right / len(styles) > 0.85


def test_bright_tracks_of_a_style_are_brighter(music):
    tracks, clips = music
    treble = np.array([band_levels(clip)[14:24].mean() for clip in clips])
    brightness = np.array([track.brightness for track in tracks])
    for style in NAMES:
        rows = [track.style == style for track in tracks]
        assert np.corrcoef(treble[rows], brightness[rows])[0, 1] > 0.5, style


def test_styles_differ_in_stereo_width(music):
    width = {}
    for track, clip in zip(*music, strict=True):
        side, middle = clip[:, 0] - clip[:, 1], clip.sum(axis=1)
        width.setdefault(track.style, []).append(np.linalg.norm(side) / np.linalg.norm(middle))
    assert np.mean(width["chiptune"]) < 0.15 < 0.4 < np.mean(width["ambient"])
    assert min(min(values) for values in width.values()) > 0, "two equal channels are mono"


def test_a_track_depends_on_seed_and_index_alone():
    assert describe(3, 12) == describe(3, 12)
    np.testing.assert_array_equal(synthesise(describe(3, 12)), synthesise(describe(3, 12)))
    same_but_seed = replace(describe(3, 12), seed=4)
    assert not np.array_equal(synthesise(describe(3, 12)), synthesise(same_but_seed))
    ids = {describe(seed, index).track_id for seed in (3, 4) for index in range(500)}
    assert len(ids) == 1000
    assert all(re.fullmatch(r"[0-9A-Za-z]{16}", track_id) for track_id in ids)


@pytest.mark.parametrize("style", ["ambient", "chiptune", "folk", "waltz", "blues"])
def test_another_key_turns_the_pitch_classes(style):
    """Of three tracks together: a room favours some frequencies, and so some notes of a track."""
    likeness = np.zeros(12)
    for index in range(NAMES.index(style), 3 * len(NAMES), len(NAMES)):
        track = replace(describe(0, index), register=0, brightness=0.5)
        one, other = (pitch_classes(synthesise(replace(track, key=key))) for key in (1, 4))
        likeness += [np.corrcoef(np.roll(one, turn), other)[0, 1] for turn in range(12)]
    assert np.argmax(likeness) == 3


def pitch_classes(clip):
    """Return the power of each of the 12 semitones over all octaves from 100 to 2000 Hz."""
    power = np.abs(np.fft.rfft(clip.mean(axis=1))[: 2000 * SECONDS]) ** 2
    frequencies = np.arange(len(power)) / SECONDS
    low = 100 * SECONDS
    semitones = np.round(12 * np.log2(frequencies[low:] / 440)).astype(int) % 12
    return np.bincount(semitones, power[low:], minlength=12)


@pytest.mark.parametrize("odd", [False, True])
def test_harmonics_of_a_note_fall_geometrically(odd):
    timbre = Timbre(attack=1e-6, decay=1e6, harmonics=0.6, odd=odd)
    spectrum = np.abs(np.fft.rfft(tone(timbre, 441.0, 1.0, brightness=1.0)))
    harmonics = spectrum[441 : 441 * 7 : 441] / spectrum[441]
    expected = 0.6 ** np.arange(6) * ([1, 0, 1, 0, 1, 0] if odd else 1)
    np.testing.assert_allclose(harmonics, expected, atol=0.02)


# The script


def start(root, *flags):
    command = [sys.executable, HERE / "make_sample.py", "--root", root, *LEAST, *flags]
    return subprocess.Popen(
        list(map(str, command)), cwd=HERE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(process):
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def contents(root):
    return {p.relative_to(root): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    root = tmp_path_factory.mktemp("sample")
    code, out, err = finish(start(root))
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == "tracks        16 of 8 styles, 16 of them played"
    return root


def test_clips_are_stereo_mp3_of_eight_seconds(sample):
    clips = sorted((sample / "audio").iterdir())
    assert len(clips) == 16
    for clip in clips:
        assert re.fullmatch(r"[0-9A-Za-z]{16}\.mp3", clip.name)
        facts = soundfile.info(clip)
        assert (facts.format, facts.samplerate, facts.channels) == ("MP3", 22_050, 2)
        assert facts.frames == 8 * 22_050
        sound, _ = soundfile.read(clip)
        assert 0.05 < np.abs(sound).max() < 0.95


def test_a_clip_holds_the_music_of_its_track(sample):
    for index in range(16):
        track = describe(0, index)
        heard, _ = soundfile.read(sample / "audio" / f"{track.track_id}.mp3")
        likeness = np.corrcoef(heard.ravel(), synthesise(track).ravel())[0, 1]
        assert likeness > 0.98, f"{track.style} {index}"


def test_the_log_has_the_format_of_music4all(sample):
    lines = (sample / "userid_trackid_timestamp.tsv").read_text().splitlines()
    assert lines[0] == "user_id\ttrack_id\ttimestamp" and len(lines) == 401
    form = r"\d+\t[0-9A-Za-z]{16}\t20(19|20)-\d\d-\d\d \d\d:\d\d:\d\d"
    assert all(re.fullmatch(form, line) for line in lines[1:])
    times = [line.split("\t")[2] for line in lines[1:]]
    assert times == sorted(times)
    clips = {clip.stem for clip in (sample / "audio").iterdir()}
    assert {line.split("\t")[1] for line in lines[1:]} <= clips


def test_the_json_tells_styles_options_and_counts(sample):
    made = json.loads((sample / "sample.json").read_text())
    assert made["options"] == {"seed": 0, "tracks": 16, "users": 20, "plays": 400}
    assert made["counts"]["plays"] == 400 and made["counts"]["tracks"] == 16
    assert made["tracks"] == {describe(0, i).track_id: NAMES[i % 8] for i in range(16)}


def test_a_finished_sample_is_left_alone(sample, call, capsys):
    before = {path: path.stat().st_mtime_ns for path in sample.rglob("*.*")}
    call("make_sample", "--root", sample, *LEAST)
    assert "--overwrite" in capsys.readouterr().out
    after = {path: path.stat().st_mtime_ns for path in sample.rglob("*.*")}
    assert {k: v for k, v in after.items() if k.name != ".sample.lock"} == {
        k: v for k, v in before.items() if k.name != ".sample.lock"
    }


@pytest.mark.parametrize("damage", ["cut", "one bit"])
@pytest.mark.parametrize(
    "name", ["userid_trackid_timestamp.tsv", f"audio/{describe(0, 0).track_id}.mp3"]
)
def test_a_damaged_file_is_not_called_finished(sample, tmp_path, call, name, damage):
    root = tmp_path / "copy"
    subprocess.run(["cp", "-r", sample, root], check=True)
    whole = (root / name).read_bytes()
    changed = whole[:-1] + bytes([whole[-1] ^ 1])
    (root / name).write_bytes(whole[:-100] if damage == "cut" else changed)
    with pytest.raises(InputError, match=f"{name} is not the file that was written.*--overwrite"):
        call("make_sample", "--root", root, *LEAST)
    (root / "sample.json").write_text("{}")
    with pytest.raises(InputError, match="sample.json does not hold options"):
        call("make_sample", "--root", root, *LEAST)


def test_other_options_are_refused_by_name_and_overwrite_obeys(sample, tmp_path, call):
    root = tmp_path / "copy"
    subprocess.run(["cp", "-r", sample, root], check=True)
    (root / "data").mkdir()
    (root / "data/plays.pqt").write_bytes(b"not ours")
    with pytest.raises(InputError, match="--seed 0, --plays 400, now came --seed 1, --plays 401"):
        call("make_sample", "--root", root, *LEAST[:4], "--plays", 401, "--seed", 1)
    assert (root / "sample.json").read_bytes() == (sample / "sample.json").read_bytes()

    call("make_sample", "--root", root, *LEAST[:4], "--plays", 401, "--seed", 1, "--overwrite")
    made = json.loads((root / "sample.json").read_text())
    assert made["options"]["seed"] == 1 and made["options"]["plays"] == 401
    assert {clip.stem for clip in (root / "audio").iterdir()} == set(made["tracks"])
    assert not set(made["tracks"]) & {describe(0, index).track_id for index in range(16)}
    assert (root / "data/plays.pqt").read_bytes() == b"not ours"


@pytest.mark.parametrize("name", ["userid_trackid_timestamp.tsv", "audio/0010xmHR6UICBOYT.mp3"])
def test_files_of_others_are_never_mixed_in_or_removed(name, tmp_path, call):
    (tmp_path / "audio").mkdir()
    (tmp_path / name).write_text("precious")
    for flags in ((), ("--overwrite",)):
        with pytest.raises(InputError, match=f"{name} was not made by make_sample.py"):
            call("make_sample", "--root", tmp_path, *LEAST, *flags)
    assert (tmp_path / name).read_text() == "precious"


def test_a_killed_run_is_resumed_and_ends_like_an_undisturbed_one(sample, tmp_path):
    root = tmp_path / "killed"
    process = start(root)
    deadline = time.monotonic() + 60
    while len(clips := list(root.glob("audio/*.mp3"))) < 3:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    finish(process)
    assert not (root / "sample.json").exists()
    kept = {clip: clip.stat().st_mtime_ns for clip in clips}

    with pytest.raises(InputError, match="--seed 0, now came --seed 1"):
        call_main(root, "--seed", "1")
    assert finish(start(root))[0] == 0
    assert contents(root) == contents(sample)
    assert all(clip.stat().st_mtime_ns == when for clip, when in kept.items())


def call_main(root, *flags):
    import make_sample
    from core.options import parse_config

    make_sample.main(
        parse_config(make_sample.SampleConfig, "", ["--root", str(root), *LEAST, *flags])
    )


def test_a_lost_clip_is_made_again(sample, tmp_path, call):
    root = tmp_path / "copy"
    subprocess.run(["cp", "-r", sample, root], check=True)
    lost = next((root / "audio").iterdir())
    lost.unlink()
    call("make_sample", "--root", root, *LEAST)
    assert contents(root) == contents(sample)


def test_a_killed_worker_is_reported_and_what_it_wrote_stays(sample, tmp_path):
    process = start(tmp_path / "root")
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("root/audio/*.mp3")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    workers = [c for c in children if b"spawn_main" in Path(f"/proc/{c}/cmdline").read_bytes()]
    os.kill(int(workers[-1]), signal.SIGKILL)
    code, _, err = finish(process)
    assert code == 1
    assert err.splitlines()[-1].startswith("make_sample.py: a worker was killed")
    assert finish(start(tmp_path / "root"))[0] == 0
    assert contents(tmp_path / "root") == contents(sample)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--tracks", 3), "--tracks must be at least 16, got 3"),
        (("--users", 0), "--users must be at least 20, got 0"),
        (("--plays", 100), "--plays must be at least 8,000, got 100"),
        (("--seed", -1), "--seed must be at least 0, got -1"),
    ],
)
def test_sizes_without_sense_are_refused_with_the_minimum(flags, message, tmp_path, call):
    with pytest.raises(InputError, match=message):
        call("make_sample", "--root", tmp_path / "new", *flags)
    assert not (tmp_path / "new").exists()


def test_a_root_that_is_a_file_is_refused(tmp_path, call):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is no folder; expected one"):
        call("make_sample", "--root", tmp_path / "file", *LEAST)
