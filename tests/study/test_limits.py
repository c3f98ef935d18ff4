"""What a site's partitions, QOS and accounts take is asked before anything is submitted.

The texts are what Slurm 22.05 prints, with slurmdbd for sacctmgr's.
"""

from types import SimpleNamespace

import pytest
from made_up_slurm import SMALL, made_up_queue, study, touch

from core.options import InputError, WorkError
from study import cluster, submission
from study.limits import minutes, read_site
from study.submission import submit_study

PARTITION = (
    "PartitionName={} AllowGroups=ALL AllowQos=ALL Default={} QoS={} DefaultTime=01:00:00 "
    "MaxNodes=UNLIMITED MaxTime={} MinNodes=0 TRES=cpu=32,mem=62.50G,gres/gpu=4\n"
)
SHOWN = {
    "partition": PARTITION.format("main", "YES", "N/A", "{main}")
    + PARTITION.format("short", "NO", "small", "1-00:00:00"),
    "qos": "normal|{normal}||\nsmall|20||12:00:00\n",
    "assoc": "lab||normal|||\nown||normal|{own}||\n",
    "user": "own\n",
}


@pytest.fixture
def queue(monkeypatch):
    return made_up_queue(monkeypatch)


@pytest.fixture
def site(monkeypatch, queue):
    """Return a function that lets Slurm show these limits, and so many tasks in the queue."""

    def shows(
        main="UNLIMITED", normal="", group="", own="", queued=0, accounting=True, enforced=",limits"
    ):
        def ask(*words):
            if words[0] == "squeue":
                return "1\n" * queued
            if words[-1] == "config":
                return f"X = 1\nAccountingStorageEnforce = associations{enforced},qos\nY = 2\n"
            what = next(word for word in words if word in SHOWN)
            if what != "partition" and not accounting:
                raise WorkError("sacctmgr failed: Slurm accounting storage is disabled")
            return SHOWN[what].format(main=main, normal=normal, own=own)

        monkeypatch.setattr(cluster, "ask", ask)

    return shows


def ended(root, queue):
    """Let all jobs end well, and tell how many there were."""
    for job in queue.submitted:
        queue.becomes("COMPLETED", job["id"])
    touch(root, "data/plays.pqt", "data/plays.json", "data/split.json")
    return len(queue.submitted)


def refused(root, queue, *flags):
    with pytest.raises(InputError) as told:
        submit_study(study(root, *SMALL, *flags))
    assert not queue.submitted
    return str(told.value)


@pytest.mark.parametrize("accounting", [True, False])
def test_a_longer_time_than_the_partition_gives(tmp_path, queue, site, accounting):
    site(main="1-12:00:00", accounting=accounting)
    assert refused(tmp_path, queue) == (
        "shallow mfcc asks for 48:00:00, and partition main takes at most 1-12:00:00 (MaxTime); "
        "set TIME_train in cluster.env, or PARTITION_train or QOS_train"
    )
    site(main="2-00:00:00", accounting=accounting)
    assert submit_study(study(tmp_path, *SMALL))


def test_more_tasks_than_a_qos_takes_of_a_user(tmp_path, queue, site):
    site(normal="12", queued=2)
    said = refused(tmp_path, queue)
    assert "beside 2 that are there, and QOS normal takes 12 (MaxSubmitJobsPerUser)" in said
    assert said.endswith("give --at-most 10")
    assert submit_study(study(tmp_path, *SMALL, "--at-most", "10"))


@pytest.mark.parametrize(("there", "taken"), [(1, 5), (4, 2)])
def test_a_wave_submits_no_more_than_a_limit_leaves_it(tmp_path, queue, site, there, taken):
    # `there` are the wave itself, which runs, and jobs of other studies.
    site(normal="6", queued=0)
    submit_study(study(tmp_path, *SMALL, "--at-most", "6"))
    before = ended(tmp_path, queue)
    site(normal="6", queued=there)
    submit_study(study(tmp_path, *SMALL, "--at-most", "6", "--wave"))
    tasks = [task for task in queue.tasks if task.active]
    assert len(tasks) <= taken and len(queue.submitted) > before
    assert tasks[-1].comment.endswith(": wave"), "it goes on"


def test_a_wave_waits_for_room(tmp_path, queue, site, monkeypatch, capsys):
    site(normal="6")
    submit_study(study(tmp_path, *SMALL, "--at-most", "6"))
    ended(tmp_path, queue)
    site(normal="6", queued=5)
    waited = []

    def wait(seconds):
        waited.append(seconds)
        site(normal="6", queued=len(waited) and 1)

    monkeypatch.setattr(submission, "time", SimpleNamespace(sleep=wait))
    submit_study(study(tmp_path, *SMALL, "--at-most", "6", "--wave"))
    assert waited == [60] and "QOS normal takes 6 (MaxSubmitJobsPerUser)" in capsys.readouterr().out
    assert [task.comment.endswith(": wave") for task in queue.tasks][-1]
    with pytest.raises(InputError, match="takes 2 .MaxSubmitJobsPerUser., and waves need 3"):
        site(normal="2")
        submit_study(study(tmp_path / "other", *SMALL, "--at-most", "3"))


def test_more_tasks_than_the_users_default_account_takes(tmp_path, queue, site):
    site(own="3", queued=2)
    said = refused(tmp_path, queue)
    assert "account own takes 3 (MaxSubmitJobs); wait until there are fewer" in said


def test_the_qos_of_a_partition_counts_where_the_site_sends_jobs_there(
    tmp_path, queue, site, monkeypatch
):
    monkeypatch.setenv("SBATCH_PARTITION", "short")
    site()
    assert "shallow mfcc asks for 48:00:00, and QOS small takes at most 12:00:00" in refused(
        tmp_path, queue
    )


def test_a_site_without_limits_takes_all(tmp_path, queue, site, monkeypatch):
    monkeypatch.setitem(SHOWN, "qos", "normal|||\n")
    monkeypatch.setitem(SHOWN, "partition", PARTITION.format("main", "YES", "N/A", "UNLIMITED"))
    site()
    assert not read_site().limits_anything()
    assert submit_study(study(tmp_path, *SMALL))


def test_limits_that_slurm_does_not_hold_jobs_to_do_not_count(tmp_path, queue, site):
    site(normal="3", enforced="")
    assert submit_study(study(tmp_path, *SMALL))


def test_times_are_read_in_every_form_that_slurm_takes():
    given = ("90", "90:30", "1:30:00", "2-0", "1-02:30", "1-02:30:30", "UNLIMITED", "infinite", "")
    assert [minutes(text) for text in given] == [90, 90.5, 90, 2880, 1590, 1590.5, None, None, None]


def test_a_wave_does_not_wait_for_room_for_what_has_failed(tmp_path, queue, site, monkeypatch):
    flags = (*SMALL, "--at-most", "40")
    submit_study(study(tmp_path, *flags))
    for job in queue.submitted:
        queue.becomes("FAILED", job["id"])
    site(normal="6", queued=6)
    monkeypatch.setattr(submission, "time", SimpleNamespace(sleep=lambda _: pytest.fail("waits")))
    assert not [n for n in submit_study(study(tmp_path, *flags, "--wave")) if n.taken]
