"""The benchmarks of scale and of shapes run, at sizes that say nothing."""

import json

import pytest

from benchmarks import bench_scale, bench_shapes


def test_sizes_are_doubled_and_the_exponent_is_their_slope(tmp_path, monkeypatch, capsys):
    assert bench_scale.exponent([1, 2, 4, 8], [9, 1, 4, 16]) == 2.0
    assert bench_scale.exponent([1], [1.0]) is None
    small = {name: (what, 1 << 10, make) for name, (what, _, make) in bench_scale.CASES.items()}
    monkeypatch.setattr(bench_scale, "CASES", small)
    options = {"most": 1 << 11, "most_rows": 1 << 11, "folder": tmp_path}
    names = tuple(name for name in small if not name.startswith("stage"))
    bench_scale.main(bench_scale.ScaleConfig(only=names, **options))
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert list(told) == list(names)
    assert all(each["sizes"] == [1 << 10, 1 << 11] for each in told.values())


@pytest.mark.parametrize("name", ["stage_1"])
def test_the_stages_read_the_made_up_log(tmp_path, name):
    seconds, processor, mb = bench_scale.CASES[name][2](tmp_path, 100_000)
    assert seconds > 0 and processor > 0 and mb > 10


def test_every_shape_is_read(tmp_path, capsys):
    options = {"rows": 20_000, "repeats": 1, "folder": tmp_path}
    bench_shapes.main(bench_shapes.ShapesConfig(**options))
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert list(told) == ["rows", *bench_shapes.COMMANDS]
