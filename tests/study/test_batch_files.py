"""The batch files as sbatch and a shell read them, without a Slurm; test_slurm.py has one."""

import os
import re
import shutil
import subprocess

import pytest
from conftest import HERE

from core.registry import ALL
from extract_item_embeddings.engine.found import backbone_class

NOT_BATCH = {"run_all.sh", "run_tests.sh", "setup_env.sh", "cluster.sh"}
BATCH = sorted(
    str(path.relative_to(HERE))
    for path in (*HERE.glob("*.sh"), *HERE.glob("extract_item_embeddings/*.sh"))
    if path.name not in NOT_BATCH
)
PUBLISHED = {"train.sh": ("48:00:00", "20G"), "train_bert.sh": ("12:00:00", "20G")}
WITHOUT_GPU = {"knn.sh", "stage.sh"}


def settings(text: str) -> dict[str, str]:
    """Return the options of the #SBATCH lines."""
    words = [word for line in re.findall(r"^#SBATCH (.*)$", text, re.M) for word in line.split()]
    return dict(word.removeprefix("--").partition("=")[::2] for word in words)


def python_line(name: str) -> str:
    """Return the command a batch file runs, without the arguments."""
    folder, _, stem = name.removesuffix(".sh").rpartition("/")
    return {"stage": ""}.get(stem, f" -m {folder}.{stem}" if folder else f" {stem}.py")


def wants_gpu(name: str) -> bool:
    """Say whether a batch file is to ask for a GPU: a backbone's class knows."""
    folder, _, stem = name.removesuffix(".sh").rpartition("/")
    if not folder:
        return name not in WITHOUT_GPU
    return backbone_class(stem).wants_gpu


@pytest.fixture
def shell(tmp_path):
    """Run a line in a copy of the shell files, with few commands on the PATH: (line) -> process."""
    project, commands = tmp_path / "project", tmp_path / "bin"
    for folder in (commands, project / "extract_item_embeddings"):
        folder.mkdir(parents=True)
    for name in ("bash", "grep", "mkdir", "cat", "sleep"):
        (commands / name).symlink_to(shutil.which(name))
    for name in (*BATCH, "cluster.sh"):
        shutil.copy2(HERE / name, project / name)

    def run(line, cwd=project, **environment):
        outside = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM", "SBATCH"))}
        environment = {**outside, "PATH": str(commands), **environment}
        return subprocess.run(
            [shutil.which("bash"), "-c", line],
            cwd=cwd,
            env=environment,
            capture_output=True,
            text=True,
        )

    run.project, run.commands = project, commands
    return run


@pytest.fixture
def sbatch(shell):
    """An sbatch that prints its arguments, one a line in brackets."""
    script = shell.commands / "sbatch"
    script.write_text('#!/bin/bash\nprintf "[%s]\\n" "$@"\n')
    script.chmod(0o755)
    return shell


def test_the_batch_files_are_found():
    assert {"knn.sh", "train.sh", "train_bert.sh", "stage.sh"} <= set(BATCH)
    backbones = {path.name for path in HERE.glob("extract_item_embeddings/*.sh")}
    recommenders = {each.batch for each in ALL.values()}
    assert backbones and set(BATCH) >= recommenders
    assert len(BATCH) == len(recommenders) + len(backbones)


@pytest.mark.parametrize("name", BATCH)
def test_asks_for_what_it_needs_and_for_a_warning_and_passes_its_arguments_on(name):
    text = (HERE / name).read_text(encoding="utf-8")
    assert text.startswith("#!/bin/bash\n#SBATCH ") and os.access(HERE / name, os.X_OK)
    after = text.split("\n\n", 1)[1]
    assert "#SBATCH" not in after, "sbatch reads these lines up to the first command"
    asked = settings(text)
    assert {"job-name", "time", "mem", "cpus-per-task", "requeue"} <= set(asked)
    assert asked["output"] == "logs/%x-%A_%a.out" and asked["open-mode"] == "append"
    assert asked["signal"] == "B:USR1@120"
    assert re.fullmatch(r"\d+:00:00", asked["time"]) and re.fullmatch(r"\d+G", asked["mem"])
    last = text.rstrip("\n").splitlines()[-1]
    assert re.fullmatch(rf'job \S*python{re.escape(python_line(name))} "\$@"', last)
    assert len(text.splitlines()) <= 20


@pytest.mark.parametrize("name", BATCH)
def test_the_published_resources_are_the_default(name):
    asked, stem = settings((HERE / name).read_text(encoding="utf-8")), name.split("/")[-1]
    assert ("gres" in asked) == wants_gpu(name)
    if stem in PUBLISHED:
        assert (asked["time"], asked["mem"]) == PUBLISHED[stem]
    if "/" in name:
        assert 10 <= int(asked["time"].split(":")[0]) <= 120
        assert 12 <= int(asked["mem"].removesuffix("G")) <= 40


@pytest.mark.parametrize("name", BATCH)
def test_without_slurm_it_names_the_python_line(name, shell):
    done = shell(f"./{name} --root 'a b' --x 1")
    assert done.returncode == 2 and done.stdout == ""
    line = rf"python{re.escape(python_line(name))} --root a\\ b --x 1"
    assert re.search(rf"no Slurm on this machine.*: \S*{line}$", done.stderr.strip())
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("name", BATCH)
def test_outside_a_job_it_submits_itself_with_its_arguments(name, sbatch):
    done = sbatch(f"./{name} --root 'a b' ''")
    assert done.stdout.splitlines() == [f"[./{name}]", "[--root]", "[a b]", "[]"], done.stderr
    assert (sbatch.project / "logs").is_dir()


def test_the_sites_settings_go_to_jobs_with_and_without_a_gpu(sbatch):
    (sbatch.project / "cluster.env").write_text(
        'export SBATCH_ACCOUNT=us\nGPU_FLAGS="--partition=gpu --gres=gpu:a100:1"\n'
        'CPU_FLAGS="--partition=cpu"\n'
    )
    (sbatch.commands / "sbatch").write_text('#!/bin/bash\necho "$SBATCH_ACCOUNT $*"\n')
    assert sbatch("./train.sh").stdout == "us --partition=gpu --gres=gpu:a100:1 ./train.sh\n"
    assert sbatch("./knn.sh").stdout == "us --partition=cpu ./knn.sh\n"
    line = ". ./cluster.sh; submit train.sh --gres=none -- --x"
    assert sbatch(line).stdout == "us --partition=cpu --gres=none train.sh --x\n"


def test_the_example_of_the_sites_settings_can_be_taken_as_it_is(sbatch):
    shutil.copy(HERE / "cluster.env.example", sbatch.project / "cluster.env")
    assert sbatch("./train.sh --x").stdout == "[./train.sh]\n[--x]\n"


@pytest.mark.parametrize("name", ["train.sh", "extract_item_embeddings/mfcc.sh"])
def test_from_another_folder_it_says_where_to_call_it(name, shell, tmp_path):
    done = shell(f"{shell.project / name} --x", cwd=tmp_path)
    assert done.returncode == 2 and "call it from the project's folder" in done.stderr


def test_in_a_job_a_spool_copy_finds_the_project(shell, tmp_path):
    (shell.commands / "python").write_text('#!/bin/bash\necho "$PWD $*"\nexit 7\n')
    (shell.commands / "python").chmod(0o755)
    shutil.copy(HERE / "train.sh", tmp_path / "slurm_script")
    done = shell(
        f"{tmp_path}/slurm_script --root R",
        cwd=tmp_path,
        SLURM_JOB_ID="5",
        SLURM_SUBMIT_DIR=str(shell.project),
    )
    assert done.stdout == f"{shell.project} train.py --root R\n"
    assert done.returncode == 7, "the job fails as python does"


@pytest.mark.parametrize(
    ("restarts", "array", "requeued"),
    [("", "", "17"), ("19", "", "17"), ("20", "", None), ("3", "15", "15_4")],
)
def test_a_job_that_was_stopped_goes_back_into_the_queue_a_limited_number_of_times(
    shell, restarts, array, requeued
):
    for name, script in {
        "python": "exit 138",
        "scontrol": 'echo "$@" >> asked',
        "sleep": "exit 0",  # the requeue would end it
    }.items():
        (shell.commands / name).unlink(missing_ok=True)
        (shell.commands / name).write_text(f"#!/bin/bash\n{script}\n")
        (shell.commands / name).chmod(0o755)
    environment = {"SLURM_JOB_ID": "17", "SLURM_RESTART_COUNT": restarts}
    if array:
        environment |= {"SLURM_ARRAY_JOB_ID": array, "SLURM_ARRAY_TASK_ID": "4"}
    shutil.copy(shell.project / "train.sh", shell.project / "slurm_script")
    done = shell("./slurm_script", **environment)
    asked = shell.project / "asked"
    assert done.returncode == 138
    assert (asked.read_text() if asked.exists() else None) == (
        f"requeue {requeued}\n" if requeued else None
    )
    assert ("not again" in done.stderr) == (requeued is None)


def test_resources_of_a_stage_are_set_in_one_place(sbatch):
    (sbatch.project / "cluster.env").write_text(
        "TIME=9:00:00\nTIME_train_bert=4:00:00\nMEM_train=7G\nQOS_table=short\nMAIL=a@b\n"
        "CPUS_knn=2\nPARTITION_knn=cpu\nACCOUNT=us\n"
    )
    (sbatch.commands / "sbatch").write_text('#!/bin/bash\necho "$*"\n')
    mail = "--mail-user=a@b --mail-type=FAIL,END"
    assert sbatch("./train_bert.sh --x").stdout == (
        f"--time=4:00:00 --account=us {mail} ./train_bert.sh --x\n"
    )
    assert sbatch("./knn.sh").stdout == (
        f"--time=9:00:00 --cpus-per-task=2 --partition=cpu --account=us {mail} ./knn.sh\n"
    )
    assert "--qos=short" in sbatch("./stage.sh table.py --root R").stdout
    assert "--qos" not in sbatch("./stage.sh report.py --root R").stdout
    assert "--mem=7G" in sbatch("./train.sh").stdout
    shared = sbatch(". ./cluster.sh; submit train.sh --mem=7M -- --x").stdout
    assert "--mem=7M" in shared and "--mem=7G" not in shared, "a share of a node goes before"


def test_memory_for_each_processor_replaces_that_of_the_batch_file(sbatch):
    (sbatch.project / "cluster.env").write_text("MEM_PER_CPU=5G\n")
    for name in ("sed", "mktemp", "rm"):
        (sbatch.commands / name).symlink_to(shutil.which(name))
    (sbatch.commands / "sbatch").write_text('#!/bin/bash\necho "$1 $3"\ncat "$2"\n')
    said, _, text = sbatch("./knn.sh --x").stdout.partition("\n")
    assert said == "--mem-per-cpu=5G --x"
    assert settings(text) == {
        name: value
        for name, value in settings((HERE / "knn.sh").read_text()).items()
        if name != "mem"
    }


@pytest.mark.parametrize("opened", [{}, {"SLURM_TASK_PID": "1", "SLURM_STEP_ID": "0"}])
def test_from_a_shell_inside_an_allocation_it_submits_a_job_of_its_own(sbatch, opened):
    (sbatch.commands / "sbatch").write_text(
        '#!/bin/bash\necho "$*" ${!SLURM@} $SLURM_CONF ${CUDA_VISIBLE_DEVICES-none}\n'
    )
    allocation = {"SLURM_JOB_ID": "5", "SLURM_ARRAY_TASK_ID": "3", "SLURM_CPUS_PER_TASK": "1"}
    allocation |= {"SLURM_CONF": "/c", "CUDA_VISIBLE_DEVICES": "0", "SLURMD_NODENAME": "n"}
    done = sbatch("./knn.sh --x", **allocation, **opened)
    assert done.stdout == "./knn.sh --x SLURM_CONF /c none\n"
    assert "submitted as a job of its own, not inside allocation 5" in done.stderr
    line = "SLURM_TASK_PID=$BASHPID; export SLURM_TASK_PID; exec ./knn.sh --x"
    (sbatch.commands / "python").write_text('#!/bin/bash\necho "runs $*"\n')
    (sbatch.commands / "python").chmod(0o755)
    assert sbatch(line, **allocation).stdout == "runs knn.py --x\n", "srun ./knn.sh is a step"
