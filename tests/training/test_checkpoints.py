"""A checkpoint says itself whether it is what was written."""

import pytest
import torch

from core.options import InputError
from training.checkpoints import load, save

CONTENT = {"model": {"users": torch.arange(60.0).reshape(6, 10)}, "epoch": 3, "log": [{"a": 0.1}]}
REMEDY = "--overwrite trains it again"


def test_what_was_saved_is_loaded_also_by_torch_alone(tmp_path):
    path = tmp_path / "last.pt"
    save(path, CONTENT)
    for found in (load(path, "cpu", REMEDY), torch.load(path, weights_only=True)):
        assert found["epoch"] == 3 and found["log"] == [{"a": 0.1}]
        assert torch.equal(found["model"]["users"], CONTENT["model"]["users"])


def test_equal_contents_give_equal_bytes_whatever_the_name(tmp_path):
    for name in ("best.pt", "another-name.pt"):
        save(tmp_path / name, CONTENT)
    assert (tmp_path / "best.pt").read_bytes() == (tmp_path / "another-name.pt").read_bytes()


def test_every_damage_is_one_line_that_names_the_file(tmp_path):
    path = tmp_path / "last.pt"
    save(path, CONTENT)
    whole = path.read_bytes()
    flipped = []
    for at in range(0, len(whole), len(whole) // 200):
        flipped.append(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    cut = [whole[:at] for at in (0, 1, 30, len(whole) // 2, len(whole) - 64, len(whole) - 1)]
    for content in (*flipped, *cut, bytes(len(whole)), whole + b"x", b"PK" * 100):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"last\.pt is damaged.*--overwrite trains it again"):
            load(path, "cpu", REMEDY)
    path.unlink()
    with pytest.raises(InputError, match=r"last\.pt is missing; --overwrite"):
        load(path, "cpu", REMEDY)
