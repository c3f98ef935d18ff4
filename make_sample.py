"""Make a small Music4All: synthesised music, and a play log in which taste follows sound.

    python make_sample.py --root sample                          # 1,000 clips, 40,000 plays
    python make_sample.py --root tiny --tracks 40 --users 40 --plays 1500

Writes  ROOT/audio/TRACK_ID.mp3             8 s of stereo music at 22.05 kHz, in one of eight styles
        ROOT/userid_trackid_timestamp.tsv   user_id, track_id, timestamp; sorted by time
        ROOT/sample.json                    options, counts, every track's style, and the files'
                                            fingerprints; written last

The dates fit the default split. The clip of a seed and index is the same however many are made.
Measured beside much other work: 2 min of processor time in all, three quarters of it the mp3
encoder; 210 MB at most a process; 63 MB of audio.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import core.start  # noqa: F401  before what is heavy

from core.artifacts import atomic_path, exclusive, read_json, read_sealed, sha256, write_json
from core.late import options_are_read
from core.options import InputError, at_least, option, outcome_options, run

if options_are_read(__name__):
    import numpy as np

    from sample_data.clips import write_clips
    from sample_data.listening import listen
    from sample_data.styles import STYLES
    from sample_data.synthesis import SECONDS, Track, describe

MOST = {"tracks": 1_000_000, "users": 1_000_000, "plays": 100_000_000}  # that memory holds


@dataclass(frozen=True)
class SampleConfig:
    root: Path = option(Path("sample"), "folder of the sample", outcome=False)
    seed: int = option(0, "decides the music and who plays it")
    tracks: int = option(1000, "clips, at least 16: two of each style")
    users: int = option(400, "listeners, at least 20")
    plays: int = option(40_000, "rows of the log, at least 20 for each user")
    overwrite: bool = option(False, "make it again, also with other options", outcome=False)

    def __post_init__(self):
        from sample_data.styles import STYLES  # numpy, which --help does without

        at_least(self, seed=0, tracks=2 * len(STYLES), users=20, plays=20 * self.users)
        for name, most in MOST.items():
            if (value := getattr(self, name)) > most:
                raise InputError(f"--{name} must be at most {most:,}, got {value:,}")

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
        prepare(config, set(clips))
        if is_there(config, clips):
            print(f"{config.root} is finished; --overwrite makes it again")
        else:
            write_json(config.begun, {"options": outcome_options(config)})
            write_clips(clips)
            played = write_log(config, list(clips.values()))
            finish(config, clips, played)
        config.begun.unlink(missing_ok=True)


def is_finished(config: SampleConfig) -> bool:
    """Say whether the sample is there; one of other options is an InputError. Changes nothing."""
    clips = config.clips(config.seed, config.tracks)
    prepare(replace(config, overwrite=False), set(clips))
    return is_there(config, clips)


def is_there(config: SampleConfig, clips: Iterable[Path]) -> bool:
    """Say whether a finished sample is whole.

    Raises:
        InputError: one of its files is not the one that was written.
    """
    files = [config.log, *clips]
    if not (config.made.exists() and all(path.exists() for path in files)):
        return False
    told = read_json(config.made, again(config)).get("sha256", {})
    for path in files:
        read_sealed(path, told.get(path.name), f"make the sample again with {again(config)}")
    return True


def again(config: SampleConfig) -> str:
    return f"python make_sample.py --root {config.root} --overwrite"


def prepare(config: SampleConfig, clips: set[Path]) -> None:
    """Leave in the folder what this sample can go on from; clear another with --overwrite.

    Raises:
        InputError: the folder holds a sample of other options, or somebody else's log or audio.
    """
    record = next((path for path in (config.made, config.begun) if path.exists()), None)
    if record is None:
        refuse_strangers(config, clips)
        return
    remedy = f"python make_sample.py --root {config.root} once it is removed"
    earlier = read_json(record, remedy, ("options",))["options"]
    now = outcome_options(config)
    if not isinstance(earlier, dict) or earlier.keys() != now.keys():
        raise InputError(f"{record} is not of make_sample.py; move it, or choose another --root")
    before = {config.log, *config.clips(earlier["seed"], earlier["tracks"])}
    changed = [f"--{name} {earlier[name]}" for name in now if earlier[name] != now[name]]
    if changed and not config.overwrite:
        came = ", ".join(f"--{name} {now[name]}" for name in now if earlier[name] != now[name])
        raise InputError(
            f"{config.root} was made with {', '.join(changed)}, now came {came}; "
            "use --overwrite, or another --root"
        )
    refuse_strangers(config, before | clips)
    if changed or (config.overwrite and record == config.made):
        clear(config, earlier, before)


def refuse_strangers(config: SampleConfig, ours: set[Path]) -> None:
    """Raise InputError when the folder holds a log or audio that is not of make_sample.py."""
    there = [config.log] if config.log.exists() else []
    there += sorted((config.root / "audio").glob("[!.]*"))
    strangers = [path for path in there if path not in ours]
    if strangers:
        raise InputError(
            f"{strangers[0]} was not made by make_sample.py; move it, or choose another --root"
        )


def clear(config: SampleConfig, earlier: dict, files: set[Path]) -> None:
    """Remove the sample of earlier options.

    Their record goes last, so that a killed process leaves nothing whose origin is not known.
    """
    write_json(config.begun, {"options": earlier})
    config.made.unlink(missing_ok=True)
    for path in files:
        path.unlink(missing_ok=True)
    config.begun.unlink()


def write_log(config: SampleConfig, tracks: list[Track]) -> int:
    """Write the play log and return how many tracks were played."""
    names = list(STYLES)
    styles = np.array([names.index(track.style) for track in tracks])
    brightness = np.array([track.brightness for track in tracks])
    users, played, times = listen(styles, brightness, config.users, config.plays, config.seed)
    texts = (str(time).replace("T", " ") for time in times)
    with atomic_path(config.log) as temporary, open(temporary, "w", newline="\n") as file:
        file.write("user_id\ttrack_id\ttimestamp\n")
        for user, track, text in zip(users, played, texts, strict=True):
            file.write(f"{user}\t{tracks[track].track_id}\t{text}\n")
    return len(np.unique(played))


def finish(config: SampleConfig, clips: dict[Path, Track], played: int) -> None:
    """Write sample.json, which says that all is there, and print its counts."""
    counts = {
        "tracks": config.tracks,
        "played_tracks": played,
        "users": config.users,
        "plays": config.plays,
        "clip_seconds": SECONDS,
    }
    styles = {track.track_id: track.style for track in clips.values()}
    write_json(
        config.made,
        {
            "options": outcome_options(config),
            "counts": counts,
            "tracks": styles,
            "sha256": {path.name: sha256(path) for path in [config.log, *clips]},
        },
    )
    print(f"tracks {config.tracks:>9,} of {len(STYLES)} styles, {played:,} of them played")
    print(f"users  {config.users:>9,}")
    print(f"plays  {config.plays:>9,}")


if __name__ == "__main__":
    run(main, SampleConfig, __doc__)
