"""The study and its batch files on a real Slurm of two nodes, which is started here.

Skips where no Slurm can be started; with SLURM_TESTS set, as on CI, it fails there instead.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import HERE, make_root
from made_up_slurm import CONTROL_RUNS, CONTROL_STAGES
from slurm_cluster import OVER, start_cluster

from benchmarks.stress_extraction import make_root as make_noises
from core.artifacts import sha256

BUDGET = """
shallow: {epochs: 1, batch_size: 500}
bert4rec: {epochs: 2, batch_size: 32}
elsa: {epochs: 2, factors: 16}
"""
PROBE = """
import os, pathlib, signal, sys, time
name = f"{os.environ['SLURM_JOB_ID']}_{os.environ.get('SLURM_ARRAY_TASK_ID', '')}"
restart = os.environ.get("SLURM_RESTART_COUNT", "0")
print("start", sys.argv[1:], "restart", restart, flush=True)
print("gpu", os.environ.get("CUDA_VISIBLE_DEVICES"), flush=True)
signal.signal(signal.SIGUSR1, lambda *_: (print("saved", flush=True), os._exit(138)))
print("ready", restart, flush=True)
time.sleep(float(sys.argv[1]))
print("end", flush=True)
"""


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    cluster = None
    for cluster in start_cluster(tmp_path_factory.mktemp("cluster")):
        (cluster.project / "probe.py").write_text(PROBE)
        (cluster.project / "budget.yaml").write_text(BUDGET)
        add_backbone(cluster.project)
        slow_epochs(cluster.project)
        yield cluster


@pytest.fixture(autouse=True)
def nothing_is_left_in_the_queue(slurm):
    yield
    slurm.clear()


def add_backbone(project):
    """Give the project the toy backbone, which is quick, as one of its own."""
    folder = project / "extract_item_embeddings"
    shutil.copy(
        project / "tests" / "extract_item_embeddings" / "toy_backbone.py", folder / "toy.py"
    )
    text = (folder / "mfcc.sh").read_text().replace("mfcc", "toy")
    (folder / "toy.sh").write_text(text)
    (folder / "toy.sh").chmod(0o755)


def slow_epochs(project):
    """Let SECONDS_AN_EPOCH draw epochs out, so that few of them are enough to be preempted in."""
    loop, line = project / "training" / "loop.py", "        clock = time.monotonic()\n"
    text = loop.read_text()
    assert text.count(line) == 1
    wait = "        time.sleep(float(__import__('os').environ.get('SECONDS_AN_EPOCH', 0)))\n"
    loop.write_text(text.replace(line, line + wait))


@pytest.fixture(scope="module")
def noises(slurm, tmp_path_factory):
    """A root of 384 short files, and the toy embedding of an undisturbed run."""
    root = tmp_path_factory.mktemp("noises") / "root"
    make_noises(root, 384, np.random.default_rng(1))
    slurm.call(
        f"{sys.executable} -m extract_item_embeddings.toy --root {root} --audio {root}/audio"
    )
    return root


def fresh(root, target):
    """Return a root of the same audio and ids without embeddings."""
    target.mkdir()
    shutil.copy(root / "trackid_sorted.csv", target)
    (target / "audio").symlink_to(root / "audio")
    return target


def write_log(root, users=40):
    """Write a listening log over the root's tracks that the default split can split."""
    rng = np.random.default_rng(2)
    tracks = pd.read_csv(root / "trackid_sorted.csv").trackid.to_numpy()[:60]
    days = pd.date_range("2019-03-01", "2020-05-01", freq="D")
    lines = ["user_id\ttrack_id\ttimestamp"]
    for user in range(users):
        for track in rng.permutation(tracks)[:30]:
            lines.append(f"{user}\t{track}\t{rng.choice(days).astype('M8[s]')}".replace("T", " "))
    (root / "log.tsv").write_text("\n".join(lines) + "\n")


def test_a_batch_file_run_by_hand_submits_itself_and_sbatch_takes_other_resources(slurm):
    shutil.rmtree(slurm.project / "logs")
    by_hand = slurm.submit("./stage.sh probe.py 0 'a b'")
    other = slurm.submit("sbatch --time 0:07:00 --gres=gpu:1 stage.sh probe.py 0")
    assert set(slurm.wait(by_hand, other).values()) == {"COMPLETED"}
    assert "start ['0', 'a b'] restart 0\ngpu None" in slurm.log(by_hand)
    assert re.search(r"gpu [01]\nready 0\nend", slurm.log(other))
    assert "TimeLimit=00:07:00" in slurm.call(f"scontrol show job {other}")
    assert (slurm.project / "logs" / f"stage-{by_hand}_4294967294.out").exists()


def test_only_the_task_that_is_warned_is_requeued_and_not_for_ever(slurm):
    settings = slurm.project / "cluster.env"
    before = settings.read_text()
    settings.write_text(before + "MAX_REQUEUES=1\n")
    job = slurm.submit("sbatch --array=1,3 stage.sh probe.py 100")
    slurm.until(lambda _: "ready" in slurm.log(job, 1) and "ready" in slurm.log(job, 3))
    slurm.warn(f"{job}_3")
    slurm.until(lambda _: "ready 1" in slurm.log(job, 3))
    assert slurm.states(job)[f"{job}_1"] == "RUNNING" and "restart 1" not in slurm.log(job, 1)
    slurm.warn(f"{job}_3")
    slurm.until(lambda states: states[f"{job}_3"] == "FAILED", job)
    settings.write_text(before)
    said = slurm.log(job, 3)
    assert said.count("saved") == 2 and "requeued 1 times already (MAX_REQUEUES=1)" in said
    assert said.count("requeued") == 2 and "exit code 138" in said


def test_a_cancelled_job_stays_cancelled(slurm):
    job = slurm.submit("./stage.sh probe.py 100")
    slurm.until(lambda _: "ready" in slurm.log(job))
    slurm.call(f"scancel {job}")
    assert slurm.wait(job) == {str(job): "CANCELLED"}
    assert "requeued" not in slurm.log(job)


def test_an_array_killed_requeued_and_preempted_at_random_ends_in_the_same_bytes(
    slurm, noises, tmp_path
):
    rng = np.random.default_rng(int(os.environ.get("SLURM_SEED", 0)))
    root, shards = fresh(noises, tmp_path / "root"), 4
    toy = f"extract_item_embeddings/toy.sh --root {root} --audio {root}/audio --shards {shards}"
    array = "TOY_SECONDS_A_BATCH=0.4 sbatch -p spare --array"
    jobs, parts = [slurm.submit(f"{array}=0-{shards - 1}%2 {toy}")], root / "embeddings/toy.parts"

    def saved():
        return len(list(parts.glob("*.npz")))

    events = rng.permutation(["kill", "kill", "warn", "warn", "preempt", "preempt"])
    sudden = rng.integers(len(events))  # at any moment, the others just after a file was written
    for number, what in enumerate(events):
        before = -1 if number == sudden else saved()
        states = slurm.until(
            lambda states, n=before: "RUNNING" in states.values() and saved() > n, *jobs
        )
        task = rng.choice([name for name, state in states.items() if state == "RUNNING"])
        if what == "kill":
            while not kill(task) and slurm.states(*jobs)[task] == "RUNNING":
                time.sleep(0.05)  # its Python does not run yet
            if slurm.until(lambda states, t=task: states[t] in OVER, *jobs)[task] == "FAILED":
                jobs.append(slurm.submit(f"{array}={task.split('_')[1]} {toy}"))
        elif what == "warn":
            slurm.warn(task)
        else:
            node = slurm.call(f"squeue -h -r -j {task} -o %N").strip()
            slurm.wait(slurm.submit(f"sbatch -w {node} -c 16 -o /dev/null --wrap true"))
    while missing := {str(i) for i in range(shards)} - completed(slurm.wait(*jobs)):
        assert len(jobs) < 6  # one that was hit in its first moments, before it could take a signal
        jobs.append(slurm.submit(f"{array}={','.join(missing)} {toy}"))

    join = slurm.submit(f"sbatch {toy} --join")
    assert slurm.wait(join) == {str(join): "COMPLETED"}, slurm.log(join)
    files = [folder / "embeddings" / "toy.npy" for folder in (noises, root)]
    assert sha256(files[0]) == sha256(files[1])
    said = "".join(slurm.log(job, task) for job in jobs for task in range(shards))
    assert len(jobs) > 1 and "Killed" in said
    assert "going on" in said and said.count("== requeued") >= 3


def completed(states):
    """Return the numbers of the tasks of arrays that ended well."""
    return {name.split("_")[1] for name, state in states.items() if state == "COMPLETED"}


def kill(task):
    """Kill every Python of a task of an array with SIGKILL; return how many there were."""
    job, index = task.split("_")
    killed = 0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "environ").read_text().split("\0")
            if b"extract_item_embeddings" not in (process / "cmdline").read_bytes():
                continue
        except OSError:
            continue
        if {f"SLURM_ARRAY_JOB_ID={job}", f"SLURM_ARRAY_TASK_ID={index}"} <= set(words):
            if "/bash" not in os.readlink(process / "exe"):
                os.kill(int(process.name), signal.SIGKILL)
                killed += 1
    return killed


def active(states):
    return {"PENDING", "RUNNING", "COMPLETING"} & set(states.values())


EPOCHS = 20
TRAINING = f"--embedding toy --epochs {EPOCHS} --early-stop {EPOCHS} --batch-size 8 --device cpu"


def epochs(root) -> list[tuple]:
    """Return number, train and validation loss of every epoch that is in the log."""
    log = root / "runs" / "shallow-toy-s1" / "log.jsonl"
    lines = log.read_text().splitlines() if log.exists() else []
    return [(e["epoch"], e["train_loss"], e["val_loss"]) for e in map(json.loads, lines)]


def test_trainings_preempted_or_of_two_processes_end_as_an_undisturbed_one(slurm, tmp_path):
    """All three at once: one here, one on node1 that is preempted three times, two on node2."""
    alone, root, both = (make_root(tmp_path / name) for name in ("alone", "root", "both"))
    slow, pair = "SECONDS_AN_EPOCH={} sbatch", "--ntasks=2 --gres=gpu:2"
    job = slurm.submit(f"{slow.format(0.4)} -p spare -w node1 train.sh --root {root} {TRAINING}")
    two = slurm.submit(f"{slow.format(0.8)} -w node2 {pair} train.sh --root {both} {TRAINING}")
    words = [sys.executable, "train.py", "--root", str(alone), *TRAINING.split()]
    here = subprocess.Popen(words, cwd=slurm.project, stdout=subprocess.DEVNULL)
    warned, seen = [], 0

    def gets_on(states, number):
        if not warned and len(epochs(both)) > 1:
            slurm.warn(two)
            warned.append(two)
        return len(epochs(root)) > number

    for restart in range(3):
        slurm.until(lambda states, n=seen: gets_on(states, n))
        slurm.wait(slurm.submit("sbatch -w node1 -c 16 -o /dev/null --wrap true"))
        slurm.until(lambda _, n=restart: slurm.log(job).count("== requeued") == n + 1)
        seen = len(epochs(root))
        assert seen < EPOCHS, "it was over before it was preempted"
    slurm.until(lambda states: gets_on(states, 0) and warned)
    assert here.wait(150) == 0
    assert slurm.wait(job, two) == {str(job): "COMPLETED", str(two): "COMPLETED"}
    assert slurm.log(job).count("continuing after epoch") == 3
    assert epochs(root) == epochs(alone) and len(epochs(root)) == EPOCHS
    for name in ("recs.pqt", "per_user_val.pqt", "per_user_test.pqt"):
        made = [r / "runs" / "shallow-toy-s1" / name for r in (root, alone)]
        assert sha256(made[0]) == sha256(made[1]), name
    said = slurm.log(two)
    assert said.count("== requeued") == said.count("continuing after epoch") == 1
    # the sums are of another order, and later epochs amplify what that rounds
    assert len(epochs(both)) == EPOCHS
    np.testing.assert_allclose(epochs(both), epochs(alone), rtol=1e-4)


def test_an_array_trains_every_embedding_with_every_seed(slurm, tmp_path):
    root = make_root(tmp_path / "root")
    flags = f"--root {root} --embedding toy,shuffled --seeds 1,2"
    job = slurm.submit(f"sbatch --array=0,3,4 knn.sh {flags}")
    states = slurm.wait(job)
    assert states == {f"{job}_0": "COMPLETED", f"{job}_3": "COMPLETED", f"{job}_4": "FAILED"}
    runs = {path.parent.name for path in root.glob("runs/*/metrics.json")}
    assert runs == {"knn-toy-s1", "knn-shuffled-s2"}
    assert "ask for 4 runs; submit with --array=0-3" in slurm.log(job, 4)


GRAPH = "--embeddings mfcc --recommenders knn,bert4rec --config budget.yaml"


def test_the_study_as_a_graph_on_two_nodes_ends_in_the_table_of_one_without_slurm(slurm, tmp_path):
    sizes = "--tracks 40 --users 60 --plays 3000"
    slurm.call(f"{sys.executable} make_sample.py --root sample {sizes}")
    graph, alone = slurm.project / "sample", tmp_path / "alone"
    flags = f"{GRAPH} --log {graph}/userid_trackid_timestamp.tsv --audio {graph}/audio --root"
    study, slurm_flags = f"{sys.executable} run_study.py {flags}", "--slurm --shards 2 --gpus 2"
    said = slurm.call(f"{study} {graph} {slurm_flags}")
    n_stages = int(re.search(r"(\d+) jobs submitted", said)[1])
    assert n_stages > 12 and "└─ embedding mfcc: " in said
    assert "0 jobs submitted" in slurm.call(f"{study} {graph} {slurm_flags}")
    words = [sys.executable, "-m", "tests.study.one_process", *f"{flags} {alone}".split()]
    here = subprocess.Popen(words, cwd=slurm.project, stdout=subprocess.DEVNULL)
    nodes, shared = set(), set()

    def watch(states):
        for line in slurm.call("squeue -h -r -t R -o '%N %j'").splitlines():
            nodes.add(line.split()[0])
        if not shared:
            shown = slurm.call("scontrol -d -o show job").splitlines()
            for node in ("node1", "node2"):
                running = [
                    s for s in shown if "JobState=RUNNING" in s and f" NodeList={node} " in s
                ]
                used = [m[1] for s in running if (m := re.search(r"IDX:(\d)", s))]
                shared.update(used if len(set(used)) == 2 else ())
        return states and not active(states)

    states = slurm.until(watch, t=300)
    assert set(states.values()) >= {"COMPLETED"}
    assert here.wait(300) == 0
    status = slurm.call(f"{sys.executable} study_status.py --root {graph}")
    assert status.splitlines()[-1] == f"{n_stages} done"
    assert nodes == {"node1", "node2"} and shared == {"0", "1"}
    for name in ("tables/results.csv", "embeddings/mfcc.npy", "runs/bert4rec-mfcc-s1/recs.pqt"):
        assert sha256(graph / name) == sha256(alone / name), name
    rows = pd.read_csv(graph / "tables/results.csv")
    assert len(rows) == 2 * 2 + 1 + len(CONTROL_RUNS), "one shuffled, and what hears nothing"


def documented() -> list[str]:
    """Return the commands of the page on Slurm, each on its sample/."""
    text = (HERE / "docs" / "slurm.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", text, re.M | re.S)
    commands = "".join(block for language, block in blocks[1:] if not language)
    return [line.split("  #")[0].strip() for line in commands.splitlines()]


def test_the_commands_of_the_page_on_slurm_are_taken_and_done(slurm):
    if not (slurm.project / "sample/tables/results.csv").exists():
        pytest.skip("they go on from the sample that the test above has finished")
    lines = documented()
    assert len(lines) == 10 and {line.split()[0] for line in lines} >= {
        "bash",
        "sbatch",
        "./knn.sh",
    }
    here = f'export PATH="{Path(sys.executable).parent}:$PATH" &&'
    jobs = [], []
    for line in lines:
        line = line.replace("--config sample.yaml", "--config budget.yaml")
        line = line.replace("--shards 32", "--shards 2").replace("0-31%8", "0-1%8")
        if "run_all.sh" in line:  # which would first make a .venv in the project's copy
            line = line.replace(
                "bash run_all.sh",
                f"python run_study.py {GRAPH} --audio sample/audio "
                "--log sample/userid_trackid_timestamp.tsv",
            )
            said = slurm.call(f"{here} {line} --shards 2")
            assert "0 jobs submitted" in said or "would submit 0 jobs" in said
        elif "study_status" in line:
            assert "done" in slurm.call(f"{here} {line}")
        else:
            jobs[int("--join" in line or "--array=0-3" in line)].append(line)
    for lines in jobs:  # the second group locks what the first does
        states = slurm.wait(*map(slurm.submit, lines))
        assert set(states.values()) == {"COMPLETED"}, [path.read_text() for path in slurm.logs()]
    assert (slurm.project / "sample/runs/shallow-noise-s2/metrics.json").exists()


def test_the_first_days_of_a_study_on_a_cluster(slurm, noises, tmp_path):
    """Dry run, submit, another's root, a seed more, a dead node, cancel, go on; a task fails, is
    mended and submitted again; other input, and no Slurm at all."""
    root = fresh(noises, tmp_path / "a study")
    write_log(root)
    audio = root / "audio"
    audio.unlink()
    shutil.copytree(noises / "audio", audio)
    broken = audio / "t00300.wav"
    broken.write_text("not audio")
    flags = f"--log '{root}/log.tsv' --audio '{audio}' --embeddings toy --recommenders knn"
    flags += " --shuffled none --shards 4 --config budget.yaml"
    begin = f"{sys.executable} run_study.py --slurm --root"
    study = f"TOY_SECONDS_A_BATCH=100 {begin} '{root}' {flags}"
    said = slurm.call(f"{study} --dry-run")
    assert "shards of toy: 4 tasks, each" in said and "nothing was submitted" in said
    assert not slurm.states() or set(slurm.states().values()) <= OVER

    too_large = f"MEM_toy=99G {study}"
    assert "no node of main has so much" in slurm.call(too_large, code=2)
    assert "not be taken by Slurm" in slurm.call(f"SBATCH_PARTITION=nowhere {study}", code=2)
    assert not slurm.states() or set(slurm.states().values()) <= OVER

    assert re.search(r"\d+ jobs submitted", slurm.call(study))
    names = slurm.call("squeue -h -o %j").split()
    assert {"shards-of-toy.a_study", "knn-toy.a_study"} <= set(names)

    copy = tmp_path / "copy"
    shutil.copytree(root, copy)
    assert slurm.call(f"{begin} {copy} --cancel").startswith("0 jobs")
    assert active(slurm.states())

    def shards(states):
        """Return the names of the shards' jobs that run."""
        running = slurm.call("squeue -h -r -t R -o '%i %j'").splitlines()
        return [line.split()[0] for line in running if "shards-of" in line]

    slurm.until(shards)
    said = slurm.call(f"{study} --seeds 1,2")
    assert "jobs submitted" in said and re.search(r"knn toy: \d+ in place of \d+", said)
    slurm.until(shards)
    slurm.call("scontrol update NodeName=node1 State=DOWN Reason=test")
    slurm.call("scontrol update NodeName=node1 State=RESUME || true")  # it may be back already
    slurm.until(shards)
    cancelled = slurm.call(f"{begin} '{root}' --cancel")
    assert re.match(r"[1-9]\d* jobs of the study", cancelled)
    slurm.until(lambda states: set(states.values()) <= OVER)
    status = f"{sys.executable} study_status.py --root '{root}'"
    said = slurm.call(status)
    assert "FAILED" not in said and re.search(r"cancelled  shards of toy tasks .*\n", said)

    command = next(line for line in said.splitlines() if line.startswith("go on: "))
    pasted = command.removeprefix("go on: ").replace(
        f"bash {slurm.project}/run_all.sh", f"{sys.executable} {slurm.project}/run_study.py"
    )
    assert re.search(r"[1-9]\d* jobs submitted", slurm.call(f"cd / && {pasted}"))
    assert "PENDING" not in slurm.wait(seconds=300).values(), "a dependant waits for ever"
    said = slurm.call(status, code=1)
    assert "FAILED     shards of toy tasks 3\n" in said
    assert re.search(r"\| == \S*toy\S*: exit code 1", said), said
    assert re.search(r"\| .*1 of 96 tracks have no vector.*t00300", said), said
    for name in ("embedding toy: it needs shards", "knn toy: it needs", "table: it needs knn toy"):
        assert f"cancelled  {name}" in said
    for name in ("plays", "split", *CONTROL_STAGES, "knn noise"):
        assert f"done       {name}\n" in said
    end = f"mend it: bash {slurm.project}/run_all.sh --root '{root}'"
    assert end in said.splitlines()[-1]

    shutil.copy(noises / "audio" / "t00300.wav", broken)
    again = slurm.call(f"{pasted} --at-most 4")
    assert "3 jobs submitted" in again and re.search(r"shards of toy: \d+_\[3\]", again)
    assert len([s for s in slurm.states().values() if s in ("PENDING", "RUNNING")]) <= 4
    assert re.search(r"later      table: wave \d+ submits it", slurm.call(status))
    slurm.wait(seconds=300)
    assert re.fullmatch(r"\d+ done", slurm.call(status).splitlines()[-1])
    assert sha256(root / "embeddings/toy.npy") == sha256(noises / "embeddings/toy.npy")
    rows = pd.read_csv(root / "tables/results.csv").set_index(["recommender", "embedding"])
    assert rows.seeds["knn", "toy"] == rows.seeds["knn", "noise"] == 2
    assert set(rows.index.get_level_values("embedding")) == {"toy", "noise", "none"}

    other = study.replace("log.tsv", "other.tsv")
    (root / "other.tsv").write_text((root / "log.tsv").read_text() + "0\tt00001\t2020-01-01\n")
    assert "other.tsv is not the log it was made from" in slurm.call(other, code=2)

    (slurm.folder / "pid" / "down").write_text((slurm.folder / "pid/slurmctld").read_text())
    slurm.call(f"kill $(cat {slurm.folder}/pid/down)")
    try:
        said = slurm.call(status)
    finally:
        slurm.call("PATH=$PATH:/usr/sbin slurmctld -f $SLURM_CONF")
    assert "Slurm does not answer" in said and re.search(r"\d+ done", said)
    slurm.until(lambda _: True)


def test_a_shell_in_an_allocation_submits_jobs_of_their_own(slurm):
    said = slurm.call("salloc -Q -n1 -c1 bash -c './stage.sh probe.py 0; true'")
    assert "as a job of its own" in said
    job = int(re.search(r"Submitted batch job (\d+)", said)[1])
    assert slurm.wait(job) == {str(job): "COMPLETED"}
    assert "NumCPUs=4" in slurm.call(f"scontrol show job {job}"), "as its file says"


def test_memory_for_each_processor_is_taken_in_place_of_the_files(slurm):
    settings = slurm.project / "cluster.env"
    before = settings.read_text()
    settings.write_text(before + "MEM_PER_CPU=300M\nTIME_stage=0:09:00\n")
    try:
        job = slurm.submit("./stage.sh probe.py 0")
    finally:
        settings.write_text(before)
    shown = slurm.call(f"scontrol show job {job}")
    assert "MinMemoryCPU=300M" in shown and "TimeLimit=00:09:00" in shown
    assert slurm.wait(job) == {str(job): "COMPLETED"}
