"""What is missing of a study is submitted, each job after those it needs; and cancelled.

So submitting again, at any time, adds only what is neither done nor in the queue.
"""

from __future__ import annotations

import getpass
import time

from core.artifacts import exclusive
from core.options import InputError, WorkError
from extract_item_embeddings.engine.shards import array_expression
from study import cluster
from study.config import StudyConfig, command_line, flags_of
from study.endings import more_memory, setting_of
from study.fit import check_fit, check_taken, memory_of
from study.graph import Node, decide, look
from study.limits import Asked, NoRoom, check_limits, read_site
from study.preflight import check_places, check_settings, check_work
from study.record import WAVE, Record, study_file

OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}  # its weights are in the cache
VARIED = ("--job-name", "--array")  # of jobs that ask for the same
PATIENCE = 60  # seconds after which a wave that found no room in the queue asks again


def submit_study(config: StudyConfig) -> list[Node]:
    """Submit what is missing; return all stages.

    With --at-most N so many tasks of the study are in the queue at a time: the rest is submitted
    by a job that waits for them, which leaves out what has failed since somebody submitted. Where
    other studies of the same user fill what the site allows, that job waits for room.

    Raises:
        InputError: there is no Slurm, another process submits this study now, somebody else's jobs
            work on it, it was made from other things, or something that it needs is not there.
        WorkError: Slurm refuses.
    """
    require_slurm()
    check_places(config.root)
    while True:
        try:
            return _submit_once(config)
        except NoRoom as error:
            print(f"{error}; asks again in {PATIENCE} s", flush=True)
            time.sleep(PATIENCE)


def _submit_once(config: StudyConfig) -> list[Node]:
    with _one_at_a_time(config):
        record = Record.read(config.root)
        queue = cluster.tasks()
        nodes = prepare(config, record, queue)
        record.user, record.flags = getpass.getuser(), flags_of(config)
        record.audio = audio_of(nodes)
        if config.wave:
            leave_out_tried(nodes, record)
        else:
            record.round += 1
            keep_in_round(nodes, record)
        room = check_site(config, nodes)  # without what a wave leaves out
        record.write()
        waves = [t for t in record.own(WAVE, queue) if t.state == "PENDING"]
        if let_go := [*(task for node in nodes for task in node.let_go), *waves]:
            cluster.cancel(let_go)
        try:
            _submit_all(config, record, nodes, room)
        except WorkError as error:
            raise WorkError(f"{error}; {_half_way(config, nodes)}") from error
        record.write()
    return nodes


def require_slurm() -> None:
    if not cluster.there_is_slurm():
        raise InputError("--slurm: no Slurm on this machine (no sbatch); leave --slurm away")


def _one_at_a_time(config: StudyConfig):
    lock = study_file(config.root).with_name(".study.lock")
    # A wave has nobody to tell, and who cancels wants what a wave submits just now cancelled too.
    wait = PATIENCE if config.cancel or config.wave else 0
    return exclusive(lock, f"the study of {config.root}", wait)


def foresee_study(config: StudyConfig) -> list[Node]:
    """Return all stages with what would be submitted, and submit nothing; errors as above."""
    require_slurm()
    nodes = prepare(config, *Record.read_with_queue(config.root, lambda _: cluster.tasks()))
    check_site(config, nodes)
    return nodes


def prepare(config: StudyConfig, record: Record, queue: list[cluster.Task]) -> list[Node]:
    """Return all stages with what is to be submitted, once all but the site has been checked."""
    check_settings()
    if others := jobs_of_another(record):
        raise InputError(
            f"{config.root} holds the study of {record.user}, who has {len(others)} jobs of it in "
            "the queue; wait for them, ask for them to be cancelled, or choose another --root"
        )
    nodes = look(config, record, queue)
    decide(nodes, overwrite=config.overwrite)
    check_work(config, nodes)
    return nodes


def check_site(config: StudyConfig, nodes: list[Node]) -> int | None:
    """Raise InputError unless Slurm takes what is to be submitted, and the site's limits too.

    Returns:
        how many tasks more the site takes; None: it has no limit.
    """
    site, asked = read_site(), []
    known: dict[tuple, dict[str, str]] = {}  # what stages ask for that ask for the same
    for stage, node in ((node.stage, node) for node in nodes if node.todo):
        options = cluster_options(config, node)
        kind = (stage.batch, stage.script[0], *(o for o in options if not o.startswith(VARIED)))
        if kind not in known:
            wanted = known[kind] = cluster.resources(stage.batch, stage.script[0], options)
            check_taken(stage.name, cluster.refusal(stage.batch, options, list(stage.script)))
            check_fit(stage.name, setting_of(stage), wanted, site.partition_of(wanted))
        node.asked = memory_of(known[kind])
        asked.append(Asked(stage.name, setting_of(stage), known[kind], len(node.todo)))
    if not site.limits_anything():
        return None
    let_go = sum(len(node.let_go) for node in nodes)
    return check_limits(site, asked, let_go, config.at_most, wave=config.wave)


def jobs_of_another(record: Record) -> list[cluster.Task]:
    """Return the jobs in the queue of somebody else who has submitted this root's study."""
    if record.user == getpass.getuser():
        return []
    queue = cluster.tasks(record.user)
    return [t for name in record.stages for t in record.own(name, queue) if t.active]


def audio_of(nodes: list[Node]) -> str:
    """Return the folder of audio that the stages are given."""
    (plays,) = (node.stage for node in nodes if node.stage.name == "plays")
    return plays.flags[plays.flags.index("--audio") + 1]


def cancel_study(config: StudyConfig) -> int:
    """Cancel the jobs of the root's study that are in the queue; return how many.

    Raises:
        InputError: it has no study, or somebody else's jobs work on it.
    """
    if not study_file(config.root).exists():
        raise InputError(f"{config.root} has no runs/study.json: nothing was submitted from it")
    with _one_at_a_time(config):
        record, queue = Record.read(config.root), cluster.tasks()
        if others := jobs_of_another(record):
            raise InputError(
                f"{config.root} holds the study of {record.user}, whose {len(others)} jobs only "
                f"{record.user} can cancel"
            )
        mine = []
        for name in list(record.stages):
            tasks = [task for task in record.own(name, queue) if task.active]
            record.cancelled(name, tasks)
            mine += tasks
        if mine:
            cluster.cancel(mine)
        record.write()
    return len(mine)


def keep_in_round(nodes: list[Node], record: Record) -> None:
    """Count the jobs that go on among those of the round that begins."""
    for node in nodes:
        going = {task.job for task in node.working.values()}  # not what ran with fewer seeds
        for job in node.jobs:
            job["round"] = record.round if job["id"] in going else job["round"]


def leave_out_tried(nodes: list[Node], record: Record) -> None:
    """Leave out of what is to be submitted what had its job in this round, and has failed."""
    for node in nodes:
        tried = {
            label for job in node.jobs if job["round"] == record.round for label in job["labels"]
        }
        node.todo = [index for index in node.todo if node.stage.labels[index] not in tried]


def _submit_all(config: StudyConfig, record: Record, nodes: list[Node], most: int | None) -> None:
    """Submit what is to be submitted, as far as --at-most allows, and what submits the rest.

    Args:
        most: tasks that the site still takes; None: it has no limit.
    """
    by_name = {node.stage.name: node for node in nodes}
    queued = sum(len(node.active()) for node in nodes) + config.wave  # which runs while it submits
    room = config.at_most - 1 - queued if config.at_most else None  # one submits the rest
    if config.wave and most is not None:
        room = min(room, most - 1)
    rest = False
    for node in (node for node in nodes if node.todo):
        needs = [by_name[name] for name in node.stage.needs]
        blocked = any(need.uncovered() for need in needs)
        node.taken = [] if blocked else node.todo[: None if room is None else max(0, room)]
        rest = rest or len(node.taken) < len(node.todo)
        if node.taken:
            _submit(config, record, node, needs)
            room = room and room - len(node.taken)
    if rest and room is not None:
        jobs = [task.name for node in nodes for task in node.active()]
        jobs += [str(node.submitted) for node in nodes if node.submitted]
        if jobs:  # else all that is left waits for what has failed
            _submit_wave(config, record, jobs)


def _submit(config: StudyConfig, record: Record, node: Node, needs: list[Node]) -> None:
    stage = node.stage
    options = [f"--comment={record.comment(stage.name)}", *cluster_options(config, node)]
    options += _dependency(node, [need for need in needs if not need.done])
    arguments = [*(stage.script if stage.batch == "stage.sh" else ()), *node.flags]
    labels = [stage.labels[index] for index in node.taken]
    command = stage.python + (" --overwrite" if node.remade else "")
    job = record.begin(stage.name, tasks=node.taken, labels=labels, command=command)
    job["asked"] = node.asked
    if node.memory:
        job["memory"] = node.memory
    job["id"] = node.submitted = cluster.submit(
        stage.batch, options, arguments, **(OFFLINE if config.fetch else {})
    )
    node.jobs = record.stages[stage.name]
    record.write()


def _submit_wave(config: StudyConfig, record: Record, after: list[str]) -> None:
    options = [
        f"--comment={record.comment(WAVE)}",
        f"--job-name={cluster.job_name(config.root, WAVE)}",
        f"--dependency=afterany:{':'.join(after)}",
    ]
    arguments = ["run_study.py", *record.flags, "--wave"]
    job = record.begin(WAVE, tasks=[0], labels=[""], command=WAVE)
    job["id"] = cluster.submit("stage.sh", options, arguments, **(OFFLINE if config.fetch else {}))


def cluster_options(config: StudyConfig, node: Node) -> list[str]:
    """Return the options of a stage's next job, but those that name other jobs."""
    stage = node.stage
    options = [f"--job-name={cluster.job_name(config.root, stage.name)}"]
    options.append("--kill-on-invalid-dep=yes")
    if stage.array:
        options.append(
            f"--array={array_expression(node.taken or node.todo)}%{config.tasks_at_once}"
        )
    if stage.without_gpu or config.gpus == 0:
        options.append("--gres=none")
    elif stage.training and config.gpus:
        options += cluster.node_share(config.gpus, stage.batch)
    if node.todo and (memory := more_memory(node, options)):
        node.memory = memory
        options = [o for o in options if not o.startswith("--mem=")] + [f"--mem={memory}M"]
    return options


def _dependency(node: Node, needs: list[Node]) -> list[str]:
    """Return the option that lets a job wait for what it needs, and for other jobs on the same."""
    jobs, other = [], [task.name for task in node.differing]
    for need in needs:
        jobs += [task.name for task in need.working.values()]
        jobs += [str(need.submitted)] if need.submitted else []
    kinds = {"afterok": list(dict.fromkeys(jobs)), "afterany": other}
    said = [f"{kind}:{':'.join(names)}" for kind, names in kinds.items() if names]
    return [f"--dependency={','.join(said)}"] if said else []


def _half_way(config: StudyConfig, nodes: list[Node]) -> str:
    stand = [str(node.submitted) for node in nodes if node.submitted]
    if not stand:
        return "nothing was submitted"
    cancel = command_line("--slurm", "--cancel", "--root", config.root.absolute())
    return (
        f"{len(stand)} jobs that were submitted before stand in the queue: {', '.join(stand)}; the "
        f"same command goes on from them, {cancel} removes them"
    )
