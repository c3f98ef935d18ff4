"""Split the plays by date into train, validation and test interactions.

    python 1_train_test_split.py                                # the published dates
    python 1_train_test_split.py --root study --test-from 2020-01-20 --seed 7

Reads   data/plays.pqt    user_id, track_idx, timestamp; one row a play (written by stage 0)
Writes  data/train.pqt    user_id int64, track_idx int32, timestamp timestamp[us] (first play),
                          count int64 (plays before --test-from); by user_id, track_idx
        data/val.pqt      the same columns: tracks that train knows, but not of this user, first
                          played from --test-from on; --val-share of the users with such tracks
        data/test.pqt     the same for the other users
        data/split.json   configuration, counts and fingerprints; written last
"""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from artifacts import atomic_path, exclusive, read_json, sha256, write_json
from config import InputError, option, outcome_options, run
from preprocess import Window, connect, split_plays
from streaming import check_threads, memory_bytes, scratch_folder

PARTS = ("train", "val", "test")


@dataclass(frozen=True)
class SplitConfig:
    root: Path = option(Path("."), "folder of data/", outcome=False)
    train_from: str = option("2019-02-20", "first day of train")
    test_from: str = option("2020-02-20", "first day of val and test; train ends the day before")
    test_until: str | None = option(None, "first day after val and test; none: to the log's end")
    val_share: float = option(0.5, "share of the held-out users who validate; the others test")
    seed: int = option(42, "decides which users validate")
    memory: str = option("2GB", "memory of the database; what needs more spills", outcome=False)
    threads: int | None = option(None, "threads to use; auto: one a core", outcome=False)
    overwrite: bool = option(False, "split again", outcome=False)


def main(config: SplitConfig) -> None:
    window = Window.parse(config.train_from, config.test_from, config.test_until)
    if not 0 < config.val_share < 1:
        raise InputError(f"--val-share must be between 0 and 1, got {config.val_share}")
    if not 0 <= config.seed < 2**32:
        raise InputError(f"--seed must be between 0 and 2^32 - 1, got {config.seed}")
    check_threads(config.threads)
    data, memory = config.root / "data", memory_bytes(config.memory)
    with exclusive(data / ".lock", f"{data}"):
        plays_hash = fingerprint_of_plays(data)
        if not config.overwrite and is_finished(config, plays_hash):
            print(f"{data}/split.json is finished; --overwrite makes it again")
            return
        with scratch_folder(data / ".stage1.tmp") as scratch, ExitStack() as files:
            targets = {p: files.enter_context(atomic_path(data / f"{p}.pqt")) for p in PARTS}
            database = files.enter_context(connect(scratch, memory, config.threads))
            counts = split_plays(
                database,
                data / "plays.pqt",
                window,
                targets,
                scratch,
                val_share=config.val_share,
                seed=config.seed,
            )
            (data / "split.json").unlink(missing_ok=True)
        record = {
            "config": outcome_options(config),
            "counts": counts,
            "sha256": {part: sha256(data / f"{part}.pqt") for part in PARTS},
            "plays_sha256": plays_hash,
        }
        write_json(data / "split.json", record)
    for part, n in counts.items():
        print(
            f"{part:<6}{n['rows']:>12,} pairs {n['users']:>9,} users {n['tracks']:>9,} tracks "
            f"{n['plays']:>13,} plays"
        )


def fingerprint_of_plays(data: Path) -> str:
    """Return the sha256 of plays.pqt; the one stage 0 recorded where the file is still that one."""
    plays, record = data / "plays.pqt", data / "plays.json"
    if not plays.exists():
        raise InputError(f"{plays} is missing; make it with python 0_get_plays_pqt.py")
    if record.exists():
        made = read_json(record, "python 0_get_plays_pqt.py --overwrite")
        if made["bytes"] == plays.stat().st_size:
            return made["sha256"]
    return sha256(plays)


def is_finished(config: SplitConfig, plays_hash: str) -> bool:
    """Say whether the split is there; one of other options or plays is an InputError."""
    data = config.root / "data"
    files = {part: data / f"{part}.pqt" for part in PARTS}
    if not (data / "split.json").exists() or not all(path.exists() for path in files.values()):
        return False
    made = read_json(data / "split.json", "python 1_train_test_split.py --overwrite")
    changed = [
        f"--{name.replace('_', '-')} was {made['config'].get(name)} and is {value}"
        for name, value in outcome_options(config).items()
        if made["config"].get(name) != value
    ]
    if made["plays_sha256"] != plays_hash:
        changed.append(f"{data}/plays.pqt has changed")
    changed += [
        f"{p} has changed" for part, p in files.items() if sha256(p) != made["sha256"][part]
    ]
    if changed:
        raise InputError(
            f"{data}/split.json is finished, but {', '.join(changed)}; --overwrite splits again"
        )
    return True


if __name__ == "__main__":
    run(main, SplitConfig, __doc__)
