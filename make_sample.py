"""Make a small Music4All: synthesised music, and a play log in which taste follows sound.

    python make_sample.py --root sample                          # 1,000 clips, 40,000 plays
    python make_sample.py --root tiny --tracks 40 --users 40 --plays 1500

Writes  ROOT/audio/TRACK_ID.mp3             8 s of stereo music at 44.1 kHz, in one of eight styles
        ROOT/userid_trackid_timestamp.tsv   user_id, track_id, timestamp; sorted by time
        ROOT/sample.json                    options, counts and every track's style; written last

The dates fit the default split. The clip of a seed and index is the same however many are made.
TIME
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from tqdm import tqdm

from artifacts import atomic_path, exclusive, read_json, write_json
from config import InputError, WorkError, option, outcome_options, run
from listening import listen
from styles import STYLES
from synthesis import SAMPLE_RATE, SECONDS, Track, describe, synthesise

COMPRESSION = 0.8  # of libsndfile's 0 to 1: about 80 kbit/s, which keep 15 kHz


@dataclass(frozen=True)
class SampleConfig:
    root: Path = option(Path("sample"), "folder of the sample", outcome=False)
    seed: int = option(0, "decides the music and who plays it")
    tracks: int = option(1000, "clips, at least 16: two of each style")
    users: int = option(400, "listeners, at least 8")
    plays: int = option(40_000, "rows of the log, at least 20 for each user")
    overwrite: bool = option(False, "make it again, also with other options", outcome=False)

    def __post_init__(self):
        least = {"seed": 0, "tracks": 2 * len(STYLES), "users": 8, "plays": 20 * self.users}
        for name, minimum in least.items():
            if getattr(self, name) < minimum:
                came = f"{getattr(self, name):,}"
                raise InputError(f"--{name} must be at least {minimum:,}, got {came}; see --help")

    @property
    def made(self) -> Path:
        """Options and counts of the finished sample."""
        return self.root / "sample.json"

    @property
    def begun(self) -> Path:
        """Options of the sample that is being made: whose files the folder holds."""
        return self.root / ".sample.begun.json"

    @property
    def log(self) -> Path:
        return self.root / "userid_trackid_timestamp.tsv"

    def clips(self, seed: int, n: int) -> dict[Path, Track]:
        """Return file and description of the first n tracks of a seed."""
        tracks = [describe(seed, index) for index in range(n)]
        return {self.root / "audio" / f"{track.track_id}.mp3": track for track in tracks}


def main(config: SampleConfig) -> None:
    clips = config.clips(config.seed, config.tracks)
    with exclusive(config.root / ".sample.lock", f"the sample in {config.root}"):
        prepare(config)
        refuse_strangers(config, clips)
        if config.made.exists() and all(path.exists() for path in [config.log, *clips]):
            print(f"{config.root} is finished; --overwrite makes it again")
            return
        write_json(config.begun, {"options": outcome_options(config)})
        write_clips(clips)
        n_played = write_log(config, list(clips.values()))
        counts = {"tracks": config.tracks, "users": config.users, "plays": config.plays}
        counts = {**counts, "played_tracks": n_played, "seconds": config.tracks * SECONDS}
        styles = {track.track_id: track.style for track in clips.values()}
        content = {"options": outcome_options(config), "counts": counts, "tracks": styles}
        write_json(config.made, content)
        config.begun.unlink()
    print(f"tracks {config.tracks:>12,}   {n_played:,} of them played, in {len(STYLES)} styles")
    print(f"users  {config.users:>12,}")
    print(f"plays  {config.plays:>12,}")


def prepare(config: SampleConfig) -> None:
    """Clear what --overwrite allows to clear, and refuse what was made from other options."""
    record = next((path for path in (config.begun, config.made) if path.exists()), None)
    if record is None:
        return
    earlier = read_json(record, f"python make_sample.py --root {config.root}").get("options", {})
    now = outcome_options(config)
    changed = [f"{k} {earlier.get(k)} (now {v})" for k, v in now.items() if earlier.get(k) != v]
    if changed and not config.overwrite:
        raise InputError(
            f"{config.root} was made with another {', '.join(changed)}; "
            "use --overwrite, or another --root"
        )
    if changed or (config.overwrite and record == config.made):
        clear(config, earlier)


def clear(config: SampleConfig, earlier: dict) -> None:
    """Remove the sample of earlier options, and nothing else that may lie there.

    Their record goes last, so that a killed process leaves nothing whose origin is not known.
    """
    write_json(config.begun, {"options": earlier})
    config.made.unlink(missing_ok=True)
    for path in [config.log, *config.clips(earlier["seed"], earlier["tracks"])]:
        path.unlink(missing_ok=True)
    config.begun.unlink()


def refuse_strangers(config: SampleConfig, clips: dict[Path, Track]) -> None:
    """Raise InputError when the folder holds a log or clips that are not this sample's."""
    ours = config.made.exists() or config.begun.exists()
    strangers = [config.log] if config.log.exists() and not ours else []
    strangers += sorted(set((config.root / "audio").glob("[!.]*")) - set(clips))
    if strangers:
        raise InputError(
            f"{strangers[0]} was not made by make_sample.py; move it, or choose another --root"
        )


def write_clips(clips: dict[Path, Track]) -> None:
    """Write the clips that are missing, on all cores."""
    missing = {path: track for path, track in clips.items() if not path.exists()}
    if not missing:
        return
    n_workers = min(len(os.sched_getaffinity(0)), len(missing))
    # Spawned, because a forked worker would hold the lock of `exclusive` on behalf of a parent
    # that was killed.
    pool = ProcessPoolExecutor(
        n_workers, multiprocessing.get_context("spawn"), start_worker, (os.getpid(),)
    )
    try:
        jobs = [pool.submit(write_clip, path, track) for path, track in missing.items()]
        done, total = len(clips) - len(missing), len(clips)
        with tqdm(desc="clips", initial=done, total=total, unit=" clips", disable=None) as bar:
            for job in as_completed(jobs):
                job.result()
                bar.update()
    except BrokenProcessPool as error:
        raise WorkError("a worker process was killed; run the same command again") from error
    finally:
        pool.shutdown(cancel_futures=True)


def start_worker(parent: int) -> None:
    """Let the parent decide when a worker ends; one whose parent is gone ends by itself."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)

    def watch():
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def write_clip(path: Path, track: Track) -> None:
    """Synthesise the track and write it as mp3, 44.1 kHz stereo."""
    with atomic_path(path) as temporary:
        soundfile.write(
            temporary, synthesise(track), SAMPLE_RATE, format="MP3", compression_level=COMPRESSION
        )


def write_log(config: SampleConfig, tracks: list[Track]) -> int:
    """Write the play log and return how many tracks were played."""
    names = list(STYLES)
    styles = np.array([names.index(track.style) for track in tracks])
    brightness = np.array([track.brightness for track in tracks])
    log = listen(styles, brightness, config.users, config.plays, config.seed)
    n_played = log.track.nunique()
    track_ids = np.array([track.track_id for track in tracks])
    log.insert(1, "track_id", track_ids[log.pop("track")])
    with atomic_path(config.log) as temporary:
        log.to_csv(
            temporary, sep="\t", index=False, lineterminator="\n", date_format="%Y-%m-%d %H:%M:%S"
        )
    return n_played


if __name__ == "__main__":
    run(main, SampleConfig, __doc__)
