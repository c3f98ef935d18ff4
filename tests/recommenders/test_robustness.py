"""robustness.py: what a perturbed embedding keeps of neighbours and lists, on planted changes."""

import numpy as np
import pytest

from core.artifacts import read_json, sha256, write_json
from core.options import InputError


def test_what_stays_the_same_keeps_all_and_what_is_another_sound_keeps_nothing(toy_root, call):
    root = toy_root(users=96, tracks=320)
    folder, rng = root / "embeddings", np.random.default_rng(0)
    plain = np.load(folder / "toy.npy")
    np.save(folder / "toy_mp3_64.npy", plain)
    little = plain + 0.02 * rng.normal(size=plain.shape).astype("f4")
    little[rng.random(len(plain)) < 0.5] = np.nan  # not drawn
    np.save(folder / "toy_noise20.npy", little)
    np.save(folder / "toy_pitch1.npy", rng.permutation(plain))
    call("robustness", "--root", root, "--embeddings", "toy")
    record = read_json(root / "robustness.json", "")
    rows = {row["perturb"]: row for row in record["rows"]}
    assert list(rows) == ["mp3_64", "pitch+1", "noise20"] and record["metric"] == "NDCG@50"
    same = rows["mp3_64"]
    assert same["itself"] == same["neighbours"] == same["lists"] == 1 and same["loss"] == 0
    assert same["exchanged"] == same["tracks"] // 2 and same["p"] == 1
    assert 100 < rows["noise20"]["tracks"] < 220
    assert 0.9 < rows["noise20"]["neighbours"] < 1 and rows["noise20"]["itself"] == 1
    other = rows["pitch+1"]
    assert other["itself"] < 0.05 and other["neighbours"] < 0.4
    assert other["lists"] < 0.8 and other["loss"] > 0.1 and other["p"] < 0.01
    assert other["low"] < other["loss"] < other["high"]
    assert other["metric"] - other["perturbed_metric"] == pytest.approx(other["loss"])


def test_what_cannot_be_compared_is_refused(toy_root, call):
    root = toy_root()
    with pytest.raises(InputError, match="has no toy_offset15.npy or another perturbation of toy"):
        call("robustness", "--root", root, "--embeddings", "toy")
    np.save(root / "embeddings" / "toy_lowpass.npy", np.ones((3, 8), "f4"))
    with pytest.raises(InputError, match=r"toy_lowpass.npy is \(3, 8\), expected \(160, 8\)"):
        call("robustness", "--root", root, "--embeddings", "toy")


def test_perturbed_vectors_are_those_that_were_extracted_and_some_are_there(toy_root, call):
    root = toy_root()
    path = root / "embeddings" / "toy_noise20.npy"
    np.save(path, np.load(root / "embeddings" / "toy.npy"))
    write_json(path.with_suffix(".json"), {"sha256": sha256(path)})
    call("robustness", "--root", root, "--embeddings", "toy")
    whole = path.read_bytes()
    for content, message in (
        (whole[:-1] + bytes([whole[-1] ^ 1]), "is not the file toy_noise20.json describes"),
        (whole[:99], "toy_noise20.npy cannot be read as a numpy array"),
        (b"", "toy_noise20.npy cannot be read as a numpy array"),
    ):
        path.write_bytes(content)
        with pytest.raises(InputError, match=message):
            call("robustness", "--root", root, "--embeddings", "toy")
    path.with_suffix(".json").unlink()
    np.save(path, np.full((160, 8), np.nan, "f4"))
    with pytest.raises(InputError, match="toy_noise20.npy has a vector of none of the"):
        call("robustness", "--root", root, "--embeddings", "toy")
