"""Options (dataclass, yaml, flags), `--help` and the exit codes of real commands."""

import dataclasses
import importlib.util
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import pandas as pd
import pytest
import yaml

from core import options as options
from core.options import InputError, changed_options, option, outcome_options, parse_config
from core.registry import ALL
from recommenders.run_options import EmbeddingOptions

HERE = Path(__file__).resolve().parents[2]
SCRIPTS = sorted(p.name for p in HERE.glob("*.py") if "\nif __name__ ==" in p.read_text())


@dataclass(frozen=True)
class Toy:
    section: ClassVar[str] = "knn"

    name: str = option(help="of the thing")
    config: Path | None = option(None, "yaml of options", outcome=False)
    size: int = option(3, "rows")
    rate: float = option(0.5, "share, 50% of it")
    deep: bool = option(False, "go deep")
    kind: Literal["left", "right"] = option("left", "side")
    start: Literal["mean", "random"] | None = option(None, "where from")
    limit: int | None = option(None, "at most")
    seeds: tuple[int, ...] = option((1,), "runs")
    test_from: str = option("2020-02-20", "first day of test")
    folder: Path = option(Path("."), "where", outcome=False)


def parse(*flags, file=None, tmp_path=None):
    if file is not None:
        (tmp_path / "toy.yaml").write_text(file)
        flags = ("--config", str(tmp_path / "toy.yaml"), *flags)
    return parse_config(Toy, "What the toy does.", ["--name", "n", *flags])


def test_flags_override_the_yaml_and_the_yaml_overrides_the_defaults(tmp_path):
    found = parse("--size", "9", file="size: 5\nrate: 0.25\n", tmp_path=tmp_path)
    assert (found.size, found.rate, found.deep) == (9, 0.25, False)


def test_a_recommenders_section_is_read_by_it_alone_and_wins_over_the_rest_of_the_file(tmp_path):
    file = "size: 5\nrate: 0.1\nknn:\n  size: 6\nbert4rec:\n  heads: 2\n  size: 7\n"
    found = parse(file=file, tmp_path=tmp_path)
    assert (found.size, found.rate) == (6, 0.1)


@pytest.mark.parametrize(
    ("flags", "name", "value"),
    [
        (["--size", "4"], "size", 4),
        (["--size=-4"], "size", -4),
        (["--rate", "1e-3"], "rate", 0.001),
        (["--deep"], "deep", True),
        (["--deep", "false"], "deep", False),
        (["--kind", "right"], "kind", "right"),
        (["--start", "mean"], "start", "mean"),
        (["--start", "auto"], "start", None),
        (["--limit", "7"], "limit", 7),
        (["--limit", "none"], "limit", None),
        (["--seeds", "1,2,3"], "seeds", (1, 2, 3)),
        (["--seeds", "4"], "seeds", (4,)),
        (["--test-from", "2020-01-01"], "test_from", "2020-01-01"),
        (["--test_from", "2020-01-01"], "test_from", "2020-01-01"),
        (["--folder", "a/b"], "folder", Path("a/b")),
    ],
)
def test_a_flag_becomes_the_type_of_its_field(flags, name, value):
    found = getattr(parse(*flags), name)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ("size: 4", "size", 4),
        ("rate: 1e-3", "rate", 0.001),
        ("rate: 1", "rate", 1.0),
        ("deep: true", "deep", True),
        ("limit: none", "limit", None),
        ("limit:", "limit", None),
        ("seeds: [1, 2]", "seeds", (1, 2)),
        ("seeds: 1,2", "seeds", (1, 2)),
        ("seeds: 5", "seeds", (5,)),
        ("test_from: 2020-01-01", "test_from", "2020-01-01"),
        ("folder: a/b", "folder", Path("a/b")),
    ],
)
def test_a_yaml_value_becomes_the_type_of_its_field(tmp_path, line, name, value):
    found = getattr(parse(file=line, tmp_path=tmp_path), name)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--size", "4.5"], "--size must be a whole number, got '4.5'"),
        (["--rate", "much"], "--rate must be a number, got 'much'"),
        (["--deep", "maybe"], "--deep must be true or false, got 'maybe'"),
        (["--kind", "up"], "--kind must be one of left, right, got 'up'"),
        (["--start", "up"], "--start must be one of mean, random, got 'up'"),
        (["--seeds", "1,b"], "--seeds must be a whole number, got 'b'"),
        (["--size"], "expected one argument; see --help"),
        (["--test-form", "x"], "unknown flag '--test-form'; did you mean '--test-from'?"),
        (["--xyzzy"], "unknown flag '--xyzzy'; see --help"),
        (["--siz", "3"], "unknown flag '--siz'; did you mean '--size'?"),
        (["stray"], "unknown flag 'stray'"),
    ],
)
def test_a_wrong_flag_is_an_error_that_says_what_was_expected(flags, message):
    with pytest.raises(InputError) as error:
        parse(*flags)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("test_form: x", "toy.yaml: unknown key 'test_form'; did you mean 'test_from'?"),
        ("knn:\n  sise: 2", "unknown key 'sise'; did you mean 'size'?"),
        ("size: big", "--size must be a whole number, got 'big'"),
        ("size: true", "--size must be a whole number, got True"),
        ("size: [1]", "--size must be a whole number, got [1]"),
        ("size:", "--size must be a whole number, got None"),
        ("deep: 1", "--deep must be true or false, got 1"),
        ("- size", "holds list, expected 'key: value'"),
        ("knn: 3", "section 'knn' must hold 'key: value' lines, got 3"),
        ("size: [1", "is not a yaml file"),
    ],
)
def test_a_wrong_yaml_is_an_error_that_names_file_or_key(tmp_path, file, message):
    with pytest.raises(InputError) as error:
        parse(file=file, tmp_path=tmp_path)
    assert message in str(error.value)


def test_a_yaml_that_is_missing_and_an_option_that_is_required_are_errors(tmp_path):
    with pytest.raises(InputError, match="toy.yaml cannot be read: No such file"):
        parse("--config", str(tmp_path / "toy.yaml"))
    with pytest.raises(InputError, match="--name is required; see --help"):
        parse_config(Toy, "", [])


def test_options_that_cannot_change_an_outcome_are_left_out_of_the_fingerprint():
    found = parse("--folder", "elsewhere", "--size", "4", "--seeds", "1,2")
    recorded = outcome_options(found)
    assert "folder" not in recorded and "config" not in recorded
    assert recorded["seeds"] == [1, 2]
    assert changed_options(found) == {"size": 4, "seeds": [1, 2]}
    assert yaml.safe_load(yaml.safe_dump(recorded)) == recorded


def load(script):
    """Import a script whatever its name, and return it with its dataclass of options."""
    name = script.removesuffix(".py")
    spec = importlib.util.spec_from_file_location(f"script_{name}", HERE / script)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    kinds = [v for v in vars(module).values() if isinstance(v, type) and "Config" in v.__name__]
    kinds.sort(key=lambda v: v.__module__ != spec.name)  # its own before one of a module's
    return module, next(filter(dataclasses.is_dataclass, kinds))


def test_the_list_of_scripts_is_not_empty():
    assert {"knn.py", "train.py", "train_bert.py", "metrics.py", "table.py"} <= set(SCRIPTS)


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_names_every_option_with_its_effect_and_default(script, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "1000")
    module, kind = load(script)
    with pytest.raises(SystemExit) as end:
        parse_config(kind, module.__doc__, ["--help"])
    assert end.value.code == 0
    text = capsys.readouterr().out
    assert module.__doc__.strip().splitlines()[0] in text
    for field in dataclasses.fields(kind):
        effect = field.metadata["help"]
        assert len(effect) > 2, f"{field.name} does not say what it does"
        missing = field.default is dataclasses.MISSING
        default = "required" if missing else f"default {options.plain(field.default)}"
        line = next(t for t in text.splitlines() if f"--{field.name.replace('_', '-')}" in t)
        rest = text[text.index(line) :]
        assert f"{effect} ({default})" in rest, f"{script} --{field.name}: {rest[:200]}"


def test_help_shows_types_and_percent_signs_as_they_are(capsys):
    with pytest.raises(SystemExit):
        parse("--help")
    text = " ".join(capsys.readouterr().out.split())
    assert "--rate X share, 50% of it (default 0.5)" in text
    assert "--kind left|right side (default left)" in text
    assert "--deep [true|false] go deep (default False)" in text
    assert "of the thing (required)" in text
    assert "--test-from TEXT, --test_from TEXT first day of test" in text


LEARNING = [name for name, each in ALL.items() if each.options_file]


@pytest.mark.parametrize("name", LEARNING)
def test_the_yaml_of_a_recommender_holds_the_defaults_of_its_dataclass(name):
    _, kind = load(ALL[name].script)
    keys = yaml.safe_load((HERE / ALL[name].options_file).read_text())
    given = ["--embedding", "x"] if issubclass(kind, EmbeddingOptions) else []
    found = outcome_options(parse_config(kind, "", given))
    assert found == outcome_options(kind(**({"embedding": "x"} if given else {})))
    # What tells one run from another does not belong into the file; the rest does.
    apart = {"seed", "embedding", "missing", "width", "shuffle", "as_published", "project"}
    assert set(found) - set(keys) == apart & set(found)


def test_a_yaml_is_laid_over_the_recommenders_own(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("margin: 0.5\nshallow: {hidden: 7}\nbert4rec: {layers: 3}\n")
    _, kind = load("train.py")
    flags = ["--embedding", "x", "--config", str(path), "--margin", "0.4"]
    found = parse_config(kind, "", flags)
    assert (found.margin, found.hidden) == (0.4, 7)
    own = yaml.safe_load((HERE / "model.yaml").read_text())
    assert found.epochs == own["epochs"] and found.n_negatives == own["n_negatives"]


def assert_one_line(process, code):
    assert process.returncode == code, process.stderr
    assert len(process.stderr.splitlines()) == 1, process.stderr
    assert "Traceback" not in process.stderr


def test_wrong_arguments_and_missing_input_end_with_exit_code_2_and_one_line(command, tmp_path):
    wrong = command("knn.py", "--embeding", "toy")
    assert_one_line(wrong, 2)
    assert wrong.stderr.startswith("knn.py: unknown flag '--embeding'; did you mean '--embedding'?")
    missing = command("table.py", "--root", tmp_path / "nowhere")
    assert_one_line(missing, 2)
    assert "no finished run matches" in missing.stderr


def test_a_split_that_contradicts_itself_ends_with_exit_code_2_and_one_line(command, toy_root):
    root = toy_root()
    path = root / "data" / "train.pqt"
    plays = pd.read_parquet(path)
    user = pd.read_parquet(root / "data" / "val.pqt").user_id[0]
    heard_all = pd.DataFrame({"user_id": user, "track_idx": plays.track_idx.unique(), "count": 1})
    heard_all["timestamp"] = plays.timestamp[0]
    pd.concat([plays[plays.user_id != user], heard_all]).to_parquet(path)
    failed = command("knn.py", "--root", root, "--embedding", "toy")
    assert_one_line(failed, 2)
    assert f"pair that train.pqt holds too, for example user {user}, track" in failed.stderr


WAITING = """
import sys, time
from dataclasses import dataclass
sys.path.insert(0, {here!r})
from core.options import run

@dataclass(frozen=True)
class Nothing:
    pass

def main(config):
    print("ready", flush=True)
    try:
        time.sleep(60)
    except Exception:  # a handler on the way must not swallow the end
        time.sleep(60)

run(main, Nothing, "")
"""


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGUSR1", 138)])
def test_a_signal_ends_with_its_exit_code_and_one_line_that_tells_how_to_go_on(name, code):
    process = subprocess.Popen(
        [sys.executable, "-c", WAITING.format(here=str(HERE))],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell without job control starts its background jobs deaf to Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.05)
    process.send_signal(getattr(signal, name))
    _, said = process.communicate(timeout=30)
    assert process.returncode == code
    assert len(said.splitlines()) == 1
    assert "what is done so far is kept; the same command goes on from there" in said


PRINTING = """
import sys
from dataclasses import dataclass
from pathlib import Path
sys.path.insert(0, {here!r})
from core.options import WorkError, option, run

@dataclass(frozen=True)
class Printed:
    done: Path = option(help="written when the work is done")
    fail: bool = option(False, "at the end")

def main(config):
    print("first", flush=True)
    sys.stdin.readline()  # until the reader of what follows has left
    for line in range(9999):
        print("line", line, flush=line % 100 == 0)
    config.done.write_text("whole")
    print("wrote", config.done)
    if config.fail:
        raise WorkError("it failed")

run(main, Printed, "")
"""


@pytest.mark.parametrize(("fail", "code"), [("false", 0), ("true", 1)])
def test_a_reader_that_leaves_ends_neither_the_work_nor_its_exit_code(tmp_path, fail, code):
    process = subprocess.Popen(
        [sys.executable, "-c", PRINTING.format(here=str(HERE))]
        + ["--done", str(tmp_path / "done"), "--fail", fail],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "first\n"
    process.stdout.close()
    process.stdin.write("go on\n")
    process.stdin.close()
    said = process.stderr.read()
    assert process.wait(timeout=30) == code
    assert (tmp_path / "done").read_text() == "whole"
    assert said == ("-c: it failed\n" if fail == "true" else "")


def test_what_is_left_in_the_buffer_at_the_end_finds_no_reader_and_says_nothing():
    said = subprocess.run(
        ["bash", "-c", '"$0" table.py --help | true; echo "${PIPESTATUS[0]}"', sys.executable],
        cwd=HERE,
        env={k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (said.stdout, said.stderr) == ("0\n", "")


@dataclass(frozen=True)
class KeywordOptions:
    as_: str = option("a", "a word of Python")


def test_an_option_named_by_a_word_of_python_has_an_underscore_in_the_code_alone():
    assert parse_config(KeywordOptions, "", ["--as", "b"]).as_ == "b"
    with pytest.raises(InputError, match="did you mean '--as'"):
        parse_config(KeywordOptions, "", ["--az", "b"])


def test_what_was_made_before_an_option_was_there_is_as_it_says():
    @dataclass(frozen=True)
    class Later:
        old: int = option(1, "was always there")
        new: str = option("better", "came later", before="good")
        newer: int = option(3, "came later, and changed what is made")

    known = options.recorded_options({"old": 1}, Later())
    assert known == {"old": 1, "new": "good"}
    assert options.recorded_options({"old": 1, "new": "best"}, Later())["new"] == "best"


@pytest.mark.parametrize("script", ["make_sample", "report", "get_data", "1_train_test_split"])
@pytest.mark.parametrize("text", ["", " "])
def test_an_empty_root_is_not_the_folder_one_is_in(tmp_path, monkeypatch, call, script, text):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="--root must be a path, got"):
        call(script, "--root", text)
    assert not list(tmp_path.iterdir())
