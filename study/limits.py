"""What a site lets people submit, where Slurm says it: partitions, QOS, the user's association.

Without accounting (sacctmgr) there is neither QOS nor association, and only partitions are read.
A job beyond a limit is refused half way through a study, or waits for ever without a word.
"""

from __future__ import annotations

import getpass
import re
from dataclasses import dataclass

from core.options import InputError, WorkError
from study import cluster

NO_LIMIT = ("", "UNLIMITED", "INFINITE", "N/A", "NONE", "-1")
IN_WAVES = 3  # tasks: a wave that runs, what it submits, and the wave after it
OF_QOS = ("Name", "MaxSubmitJobsPerUser", "GrpSubmitJobs", "MaxWall")
OF_USER = ("Account", "Partition", "DefaultQOS", "MaxSubmitJobs", "GrpSubmitJobs", "MaxWall")


class NoRoom(InputError):
    """The queue has no room now for what a wave submits; later it may."""


@dataclass(frozen=True)
class Asked:
    """What the tasks of a stage ask for: of cluster.resources, and how many tasks there are."""

    stage: str
    key: str  # of its settings in cluster.env, as in TIME_key
    resources: dict[str, str]
    tasks: int


@dataclass(frozen=True)
class Site:
    """What Slurm shows: partitions and QOS by name, the user's associations."""

    partitions: dict[str, dict[str, str]]
    qos: dict[str, dict[str, str]]
    own: list[dict[str, str]]

    def limits_anything(self) -> bool:
        limited = [row["MaxTime"] for row in self.partitions.values() if "MaxTime" in row]
        for row in (*self.qos.values(), *self.own):
            limited += [row[name] for name in row if name.startswith(("Max", "Grp"))]
        return any(value not in NO_LIMIT for value in limited)

    def partition_of(self, asked: dict[str, str]) -> str:
        """Return where a job would run: what it asks for, else the partition of the others."""
        usual = next((n for n, each in self.partitions.items() if each["Default"] == "YES"), "")
        return asked.get("partition", usual)

    def rules(self, asked: dict[str, str]) -> list[tuple[str, str, dict[str, str]]]:
        """Return (QOS, account or partition, its name, its limits) of all that applies to a job."""
        name = self.partition_of(asked)
        partition = self.partitions.get(name, {})
        mine = [
            row
            for row in self.own
            if row["Account"] == asked.get("account", row["Account"])
            and row["Partition"] in ("", name)
        ]
        own_qos = next((row["DefaultQOS"] for row in mine), "") or "normal"
        names = dict.fromkeys((asked.get("qos", own_qos), partition.get("QoS", "")))
        found = [("QOS", qos, self.qos[qos]) for qos in names if qos in self.qos]
        found += [("account", row["Account"], row) for row in mine[:1]]
        if partition:
            found.append(("partition", name, {"MaxTime": partition["MaxTime"]}))
        return found


def check_limits(
    site: Site, stages: list[Asked], let_go: int, at_most: int | None, *, wave: bool = False
) -> int | None:
    """Return how many tasks more the site takes, which are enough; None: it has no limit.

    Args:
        let_go: tasks of the queue that are cancelled before.
        at_most: so many tasks of the study are in the queue at a time; None: all are.
        wave: a wave asks, which is in the queue itself: one task and the next wave are enough.

    Raises:
        InputError: it does not take these stages.
        NoRoom: a wave finds no room in the queue.
    """
    rooms = []
    tasks: dict[tuple[str, str, str, int], int] = {}  # by whose limit, its name and value
    for each in stages:
        for kind, name, limits in site.rules(each.resources):
            for limit, value in limits.items():
                if limit in ("MaxTime", "MaxWall"):
                    _check_time(each, f"{kind} {name} takes at most {value} ({limit})", value)
                elif "Submit" in limit and value not in NO_LIMIT:
                    key = kind, name, limit, int(value)
                    tasks[key] = tasks.get(key, 0) + each.tasks
    for (kind, name, limit, most), wanted in tasks.items():
        wanted, there = min(wanted, at_most or wanted), in_queue(kind, name, limit) - let_go
        room = most - there
        rooms.append(room)
        if at_most and most < IN_WAVES and wanted > room:
            raise InputError(
                f"{kind} {name} takes {most} ({limit}), and waves need {IN_WAVES}; submit the "
                "stages' batch files one by one"
            )
        if room < IN_WAVES - 1 if wave else wanted > room:
            advice = f"give --at-most {room}" if room >= IN_WAVES else "wait until there are fewer"
            raise (NoRoom if wave else InputError)(
                f"{wanted} tasks would be in the queue beside {there} that are there, and {kind} "
                f"{name} takes {most} ({limit}); {advice}"
            )
    return min(rooms, default=None)


def in_queue(kind: str, name: str, limit: str) -> int:
    """Return how many tasks in the queue a limit of a QOS or an account counts."""
    whose = [] if limit.startswith("Grp") else ["-u", getpass.getuser()]
    some = ["--qos" if kind == "QOS" else "--account", name]
    return len(cluster.ask("squeue", "-h", "-r", *whose, *some, "-o", "%i").splitlines())


def _check_time(each: Asked, rule: str, most: str) -> None:
    asked, limit = minutes(each.resources.get("time", "")), minutes(most)
    if asked is not None and limit is not None and asked > limit:
        raise InputError(
            f"{each.stage} asks for {each.resources['time']}, and {rule}; set TIME_{each.key} "
            f"in cluster.env, or PARTITION_{each.key} or QOS_{each.key}"
        )


def read_site() -> Site:
    return Site(read_partitions(), *read_accounting())


def read_partitions() -> dict[str, dict[str, str]]:
    """Return {name: its Default (YES or NO), MaxTime and QoS} of every partition."""
    shown = cluster.ask("scontrol", "-o", "show", "partition").splitlines()
    found = [dict(re.findall(r"(\S+?)=(\S*)", line)) for line in shown]
    wanted = "Default", "MaxTime", "QoS"
    return {row["PartitionName"]: {n: row.get(n, "") for n in wanted} for row in found if row}


def read_accounting() -> tuple[dict[str, dict[str, str]], list[dict[str, str]]]:
    """Return {name: limits} of every QOS, and the user's associations.

    Nothing of both where there is no accounting, or Slurm does not hold jobs to its limits. The
    associations of the default account come first. Limits are as sacctmgr prints them: '' is none.
    """
    user = f"user={getpass.getuser()}"
    settings = cluster.ask("scontrol", "show", "config")
    if not re.search(r"^AccountingStorageEnforce\s*=.*\blimits\b", settings, re.M):
        return {}, []
    try:
        qos = _show("qos", columns=OF_QOS)
        own = _show("assoc", "where", user, columns=OF_USER)
        usual = {row["DefaultAccount"] for row in _show("user", user, columns=("DefaultAccount",))}
    except WorkError:
        return {}, []
    return {row["Name"]: row for row in qos}, sorted(own, key=lambda r: r["Account"] not in usual)


def _show(*words: str, columns: tuple[str, ...]) -> list[dict[str, str]]:
    lines = cluster.ask("sacctmgr", "-nP", "show", *words, f"format={','.join(columns)}")
    return [dict(zip(columns, line.split("|"), strict=True)) for line in lines.splitlines()]


def minutes(text: str) -> float | None:
    """Return the minutes of a time as Slurm writes it (M, M:S, H:M:S, D-H[:M[:S]]); None: none."""
    if text.upper() in NO_LIMIT:
        return None
    days, dash, rest = text.rpartition("-")
    parts = [int(part) for part in rest.split(":")]
    if dash:
        hours, minute, second = (*parts, 0, 0)[:3]
        return 1440 * int(days) + 60 * hours + minute + second / 60
    if len(parts) == 3:
        return 60 * parts[0] + parts[1] + parts[2] / 60
    return parts[0] + (parts[1] / 60 if len(parts) > 1 else 0)
