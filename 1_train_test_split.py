"""Split the plays by date into train, validation and test interactions.

    python 1_train_test_split.py                                # the published dates
    python 1_train_test_split.py --root study --test-from 2020-01-20 --seed 7
    python 1_train_test_split.py --root journal --protocol journal
    python 1_train_test_split.py --root own --test-last 28d --val-last 7d --train-last 365d
    python 1_train_test_split.py --root yambda --protocol yambda --core 5
    python 1_train_test_split.py --root study --check           # audit a finished split
    python 1_train_test_split.py --root onion --published onion/downloads/journal

Reads   data/plays.pqt        user_id, track_idx, timestamp; one row a play (written by stage 0)
        --published FOLDER    the extended study's own split instead, as get_data.py --split journal
                              fetches it: {train,val,hot_test,cold_test}.pqt, trackid_sorted.csv
Writes  data/train.pqt        user_id int64, track_idx int32, timestamp timestamp[us] (first play),
                              count int64 (plays before --test-from); by user_id, track_idx
        data/val.pqt          the same columns: tracks that train knows, but not of this user, first
                              played from --test-from on; --val-share of the users with such tracks
        data/test.pqt         the same for the other users
        data/cold_test.pqt    with --protocol journal, where users with such a track never validate:
                              tracks that train does not know, of users whom it knows
        data/held_out.pqt     with --protocol yambda: user_id, window (2 validates, 4 tests), plays
                              of any track in the times held out
        trackid_sorted.csv    with --published, where it is absent
        data/split.json       configuration, counts and fingerprints; written last

With --val-last validation is the time before the test, and all users validate and test who played
there; without it the users held out are divided. --seen keep holds out tracks that were heard
before too, and lists may name them (docs/own-data.md).

Takes 0.6 s and 250 MB for 20 million plays of which one in 17 is within the dates, 4 s and 500 MB
for 20 million that all are, on two free cores (benchmarks/bench_stages.py).
"""

from contextlib import ExitStack
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Literal

import core.start  # noqa: F401  before what is heavy

from core.artifacts import atomic_path, exclusive, read_json, sha256, write_json
from core.days import RELATIVE
from core.late import options_are_read
from core.options import (
    InputError,
    option,
    options_to_record,
    outcome_options,
    recorded_options,
    run,
)
from core.trackids import read_trackids
from listening_log.without_pandas import hide_pandas

if options_are_read(__name__):
    from listening_log.audit import check_split
    from listening_log.large_tables import OWN, memory_bytes, scratch_folder, thread_count
    from listening_log.pairs import PlaysTable, connect
    from listening_log.plays import fingerprint
    from listening_log.published_split import check_published, compare, take_published
    from listening_log.rules import HELD_OUT, PARTS, PROTOCOLS, Asked, Rule, rule_of
    from listening_log.split_files import describe
    from listening_log.split_plays import split_plays
    from listening_log.split_windows import split_windows

STAGE_0 = "python 0_get_plays_pqt.py"
PLAYS_RECORD = ("sha256", "bytes", "trackid_sorted_sha256")  # what plays.json must hold
SPLIT_RECORD = ("sha256", "config", "plays_sha256")  # and split.json


@dataclass(frozen=True)
class SplitConfig:
    root: Path = option(Path("."), "folder of data/", outcome=False)
    protocol: Literal["recsys", "journal", "yambda"] = option(
        "recsys", "the study whose split is made"
    )
    train_from: str | None = option(
        None, "first day of train; auto: 2019-02-20, of the journal 2018-02-01, else the first play"
    )
    test_from: str | None = option(
        None,
        "first day of val and test, after train; auto: 2020-02-20, of the journal 2019-02-01; "
        "where plays have no dates 212d, days from the first",
    )
    test_until: str | None = option(
        None, "first day after val and test; auto: to the log's end, of the journal 2019-03-01"
    )
    val_share: float | None = option(
        None, "share of the held-out users who validate; auto: 0.5, of the journal 0.3"
    )
    seed: int = option(42, "decides which users validate")
    test_last: str | None = option(
        None, "in place of --test-from: the last 28d, 12h, 1800s or 10% of the plays", before=None
    )
    val_last: str | None = option(
        None, "the time before the test that validates, for all users; auto: none", before=None
    )
    train_last: str | None = option(
        None, "in place of --train-from: the time before those; auto: all", before=None
    )
    gap: str | None = option(
        None, "time left out after train and after val, as 30min; auto: none", before=None
    )
    seen: Literal["drop", "keep"] | None = option(
        None,
        "tracks that their user knows from train: never held out nor listed, or like others; auto: "
        "drop, of yambda keep",
        before="drop",
    )
    core: int = option(
        0, "users and tracks stay that have at least so many of each other in train", before=0
    )
    published: Path | None = option(
        None, "folder of the extended study's published split, taken as it is", outcome=False
    )
    memory: str = option(
        "2GB", "most memory to use, from 300MB; beyond it work is spilled to data/", outcome=False
    )
    threads: int | None = option(None, "threads to use; auto: one a core", outcome=False)
    check: bool = option(False, "audit the split that is there instead", outcome=False)
    overwrite: bool = option(False, "split again", outcome=False)


def main(config: SplitConfig) -> None:
    data = config.root / "data"
    settled(config)  # what is wrong with the options is said before all else
    memory = memory_bytes(config.memory) - OWN
    limits = {"memory": memory, "threads": thread_count(config.threads)}
    if config.published and not config.check:
        with exclusive(data / ".lock", f"{data}"):
            print(take_published(config.root, config.published, overwrite=config.overwrite))
        return
    needed = data / ("split.json" if config.check else "plays.pqt")
    if not needed.exists():
        maker = "python 1_train_test_split.py" if config.check else STAGE_0
        raise InputError(f"{needed} is missing; make it with {maker}")
    if config.check:
        made = read_json(data / "split.json", "python 1_train_test_split.py", SPLIT_RECORD)
        if made.get("published"):
            print(check_published(config.root, made["counts"]))
            return
    with exclusive(data / ".lock", f"{data}"), scratch_folder(data) as scratch:
        if config.check:
            check(config, scratch, **limits)
            return
        config, rule = settled(config)  # once more: another process may have made other plays
        if not config.overwrite and is_finished(config):
            print(f"{data}/split.json is finished; --overwrite makes it again")
        else:
            split(config, rule, scratch, **limits)


def settled(config: SplitConfig) -> "tuple[SplitConfig, Rule | None]":
    """Return the options with a protocol's values, and their rule; None without plays it needs."""
    data = config.root / "data"
    relative = has_relative_times(data)
    config = complete(config, relative)
    if not needs_the_plays(config, relative):
        return config, rule_by_dates(config)
    if config.published or config.check or not (data / "plays.pqt").exists():
        return config, None
    return config, rule_by_plays(config, data / "plays.pqt", relative)


def rule_by_dates(config: SplitConfig) -> "Rule":
    """Return the rule of the published studies' kind, which looks at no plays."""
    return Rule.parse(
        config.train_from,
        config.test_from,
        config.test_until,
        val_share=config.val_share,
        seed=config.seed,
        cold=PROTOCOLS[config.protocol].cold,
    )


def needs_the_plays(config: SplitConfig, relative: bool) -> bool:
    """Say whether options are used that the published studies do without."""
    others = (config.test_last, config.val_last, config.train_last, config.gap, config.core)
    return relative or any(others) or config.seen == "keep" or config.train_from is None


def rule_by_plays(config: SplitConfig, plays: Path, relative: bool) -> "Rule":
    """Return the rule of any options, in the time of the plays."""
    if PROTOCOLS[config.protocol].cold:
        raise InputError(
            f"--protocol {config.protocol} is made of dates; leave it away with --test-last, "
            "--val-last, --train-last, --gap, --seen keep and --core"
        )
    if not relative and config.test_from == PROTOCOLS["yambda"].test_from:
        raise InputError(
            f"--protocol yambda tests from second {config.test_from[:-1]} of its log, but {plays} "
            "tells dates; give --test-last 1d with it"
        )
    ends = PlaysTable(plays).ends()
    if ends[0] is None:
        raise InputError(f"{plays} holds no plays; make it with {STAGE_0} --overwrite")
    names = (field.name for field in fields(Asked))
    return rule_of(
        Asked(**{name: getattr(config, name) for name in names}),
        ends,
        relative,
        **{name: getattr(config, name) for name in ("val_share", "seed", "seen", "core")},
    )


def has_relative_times(data: Path) -> bool:
    """Say whether the plays' times count from an unknown day."""
    record = data / "plays.json"
    if not record.exists():
        return False
    return read_json(record, f"{STAGE_0} --overwrite").get("times") == RELATIVE


def split(config: SplitConfig, rule: "Rule", scratch: Path, **limits) -> None:
    """Write every file of the module docstring, and print what is in them."""
    data = config.root / "data"
    ids = fingerprint_of_ids(config.root)
    with ExitStack() as files:
        # Left in reverse, so train.pqt, without which nothing is read, comes last.
        names = [*rule.parts, *([HELD_OUT] if rule.counts_unknown else [])]
        targets = {p: files.enter_context(atomic_path(data / f"{p}.pqt")) for p in names}
        with fingerprint(data / "plays.pqt") as plays:
            make = split_plays if rule.is_plain else split_windows
            counts = make(data / "plays.pqt", rule, targets, scratch, **limits)
            plays = plays()["sha256"]
        check_plays(data, plays)
        # All of the old split goes before any of the new one comes: a kill in between leaves
        # parts of one split, never of two.
        for name in ("split.json", *(f"{part}.pqt" for part in (*PARTS, HELD_OUT))):
            (data / name).unlink(missing_ok=True)
    record = {
        "config": options_to_record(config),
        "counts": counts,
        "sha256": {part: sha256(data / f"{part}.pqt") for part in names},
        "plays_sha256": plays,
        "trackid_sorted_sha256": ids,
    }
    if users := users_of(data):
        record["users_sha256"] = users
    if not rule.is_plain:
        record |= rule.told()
    if rule.relative:
        record["times"] = RELATIVE
    write_json(data / "split.json", record)
    print(describe(counts))
    if needs_the_plays(config, rule.relative):
        print(rule)
    if is_of_the_journal(config):
        print(compare(counts))


def is_of_the_journal(config: SplitConfig) -> bool:
    """Say whether these are all the options of the extended study."""
    published = asdict(PROTOCOLS["journal"])
    theirs = all(getattr(config, name) == published[name] for name in published if name != "cold")
    return config.protocol == "journal" and theirs and config.seed == 42 and not config.core


def check(config: SplitConfig, scratch: Path, memory: int, threads: int) -> None:
    """Print what every check of the split finds; faults are an InputError."""
    data = config.root / "data"
    made = read_json(data / "split.json", "python 1_train_test_split.py", SPLIT_RECORD)
    n_tracks = len(read_trackids(config.root))
    faults = n_checks = 0
    with connect(scratch, memory, threads) as database:
        for finding in check_split(database, data, n_tracks, made):
            print(finding, flush=True)
            n_checks += 1
            faults += finding.fault and finding.rows > 0
    if faults:
        raise InputError(
            f"{data}: {faults} of {n_checks} checks found faults, listed above; make the split "
            "again with python 1_train_test_split.py --overwrite"
        )


def complete(config: SplitConfig, relative: bool) -> SplitConfig:
    """Return the options with the protocol's values where none were given.

    A protocol's dates are of its own log: who tells another time, or has none with dates, goes
    without them.
    """
    published = asdict(PROTOCOLS[config.protocol])
    del published["cold"]
    if config.test_last or config.train_last or (relative and config.protocol != "yambda"):
        for name in ("train_from", "test_from", "test_until"):
            del published[name]
    open_ones = (name for name in published if getattr(config, name) is None)
    return replace(config, **{name: published[name] for name in open_ones})


def fingerprint_of_ids(root: Path) -> str:
    """Return the sha256 of trackid_sorted.csv; one that the plays were not made for is an error."""
    path, record = root / "trackid_sorted.csv", root / "data" / "plays.json"
    if not path.exists():
        raise InputError(f"{path} is missing; put it back, or make it with {STAGE_0} --overwrite")
    found = sha256(path)
    if record.exists():
        made = read_json(record, f"{STAGE_0} --overwrite", PLAYS_RECORD)
        if made["trackid_sorted_sha256"] != found:
            raise InputError(
                f"{path} is not the one that {root}/data/plays.pqt was made for; put that one "
                f"back, or make the plays again with {STAGE_0} --overwrite"
            )
    return found


def users_of(data: Path) -> str | None:
    """Return the sha256 of users.pqt, which belongs to the plays; None where users have numbers."""
    record = data / "plays.json"
    made = read_json(record, f"{STAGE_0} --overwrite") if record.exists() else {}
    return made.get("users_sha256")


def check_plays(data: Path, found: str) -> None:
    """Refuse plays of another sha256 than plays.json tells; without it they are the user's own."""
    record = data / "plays.json"
    if not record.exists():
        return
    expected = read_json(record, f"{STAGE_0} --overwrite", PLAYS_RECORD)["sha256"]
    if found != expected:
        raise InputError(
            f"{data}/plays.pqt is not the file that plays.json tells of (sha256 {found[:12]}, "
            f"expected {str(expected)[:12]}); make it again with {STAGE_0} --overwrite, or remove "
            "plays.json if the plays are your own"
        )


def is_finished(config: SplitConfig) -> bool:
    """Say whether the split is there; one of other options or plays is an InputError."""
    config = complete(config, has_relative_times(config.root / "data"))
    data = config.root / "data"
    if not (data / "split.json").exists():
        return False
    made = read_json(data / "split.json", "python 1_train_test_split.py --overwrite", SPLIT_RECORD)
    if not all(isinstance(made[name], dict) for name in ("sha256", "config")):
        raise InputError(f"{data}/split.json is damaged; --overwrite splits again")
    files = {part: data / f"{part}.pqt" for part in made["sha256"]}
    if not all(path.exists() for path in files.values()):
        return False
    if made.get("published"):
        raise InputError(f"{data}/split.json is of a published split; --overwrite splits the plays")
    was = recorded_options(made["config"], config)
    changed = [
        f"--{name.replace('_', '-')} was {was.get(name)} and is {value}"
        for name, value in outcome_options(config).items()
        if was.get(name) != value
    ]
    if made["plays_sha256"] != sha256(data / "plays.pqt"):
        changed.append(f"{data}/plays.pqt has changed")
    ids = config.root / "trackid_sorted.csv"
    if "trackid_sorted_sha256" in made and (
        not ids.exists() or sha256(ids) != made["trackid_sorted_sha256"]
    ):
        changed.append(f"{ids} has changed")
    changed += [
        f"{p} has changed" for part, p in files.items() if sha256(p) != made["sha256"][part]
    ]
    if changed:
        raise InputError(
            f"{data}/split.json is finished, but {', '.join(changed)}; --overwrite splits again"
        )
    return True


if __name__ == "__main__":
    hide_pandas()
    run(main, SplitConfig, __doc__)
