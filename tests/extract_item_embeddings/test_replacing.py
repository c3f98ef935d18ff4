"""What is finished stands until what replaces it is finished too; weights load first."""

import contextlib
import json
import os

import numpy as np
import pytest
import soundfile

from core.options import InputError, WorkError
from extract_item_embeddings.engine.extraction import ExtractConfig, extract
from tests.extract_item_embeddings.toy_backbone import Toy


class Cut(BaseException):
    pass


class Counting(Toy):
    seen = 0

    def embed(self, audio):
        Counting.seen += len(audio)
        return super().embed(audio)


class Weighty(Counting):
    """Its weights are a file: a name and nothing else, or they cannot be loaded."""

    file = None

    def weights(self):
        return {"sha256": self.file.read_text()}

    def load(self, device):
        if not self.file.read_text().startswith("whole"):
            raise InputError("the weights are cut off; fetch them again")


def write_audio(root, level):
    (root / "audio").mkdir(parents=True, exist_ok=True)
    for number in range(70):
        wave = np.sin(np.arange(8000) * (0.1 + number / 100)) * level * (number + 1) / 70
        soundfile.write(root / "audio" / f"t{number:02d}.wav", wave, 8000)
    lines = ["idx,trackid", *(f"{number},t{number:02d}" for number in range(70))]
    (root / "trackid_sorted.csv").write_text("\n".join(lines) + "\n")


@pytest.fixture
def root(tmp_path):
    write_audio(tmp_path, 0.5)
    return tmp_path


def run(root, backbone=Counting, **options):
    Counting.seen = 0
    options = {"workers": 1, **options}
    extract(backbone, ExtractConfig(root=root, audio=root / "audio", **options))


def files(root):
    folder = root / "embeddings"
    return [(folder / name).read_bytes() for name in ("toy.npy", "toy.json")]


def test_an_overwrite_that_fails_leaves_what_was_there(root, capsys):
    run(root)
    before = files(root)
    sound = {path: path.read_bytes() for path in (root / "audio").iterdir()}
    for path in sound:
        path.write_bytes(b"broken")
    for _ in range(2):
        with pytest.raises(WorkError, match="70 of 70 tracks have no vector"):
            run(root, overwrite=True)
        assert files(root) == before
    for path, content in sound.items():
        path.write_bytes(content)
    capsys.readouterr()
    run(root)
    assert "is finished; " in (said := capsys.readouterr().out) and "newer one that is not" in said
    run(root, overwrite=True)
    assert Counting.seen == 70 and files(root)[0] == before[0]
    assert not (root / "embeddings/toy.parts").exists()


def test_an_overwrite_that_is_killed_goes_on_and_a_finished_one_begins_anew(root, monkeypatch):
    run(root)
    before = files(root)
    with monkeypatch.context() as patch, pytest.raises(Cut):
        patch.setattr(Counting, "embed", cut_after(40, Counting.embed))
        run(root, overwrite=True)
    assert files(root) == before
    run(root, overwrite=True)
    assert Counting.seen == 70 - 32  # one window of 32 was done
    assert files(root)[0] == before[0]
    run(root, overwrite=True)
    assert Counting.seen == 70


def cut_after(clips, embed):
    seen = []

    def cut(self, audio):
        seen.extend(audio)
        if len(seen) > clips:
            raise Cut
        return embed(self, audio)

    return cut


@pytest.mark.parametrize("step", range(0, 9, 2))
def test_killed_at_any_file_the_old_or_the_new_is_there_and_whole(root, monkeypatch, step):
    run(root)
    before = files(root)
    write_audio(root, 0.25)
    steps = iter(range(99))

    def replace(*arguments, original=os.replace):
        if next(steps) == step:
            raise Cut
        return original(*arguments)

    with monkeypatch.context() as patch, contextlib.suppress(Cut):
        patch.setattr(os, "replace", replace)
        run(root, overwrite=True)
    if (root / "embeddings/toy.json").exists() and next(steps) <= 9:
        found = files(root)
        assert found == before or json.loads(found[1])["n_tracks"] == 70
    run(root, overwrite=True)
    assert np.load(root / "embeddings/toy.npy")[69, 0] == pytest.approx(0.25 * 2 / np.pi, abs=0.01)


def test_shards_that_overwrite_leave_the_old_one_until_they_join(root):
    run(root)
    before = files(root)
    write_audio(root, 0.25)
    for shard in (0, 1):
        run(root, shards=2, shard=shard, overwrite=True)
        assert files(root) == before
    run(root, shards=2, join=True)
    assert Counting.seen == 0 and files(root)[0] != before[0]


def test_weights_that_were_cut_off_do_not_stand_in_the_way_of_whole_ones(root, tmp_path):
    Weighty.file = tmp_path / "weights"
    for options in ({}, {"shards": 2, "shard": 0}):
        Weighty.file.write_text("who")
        with pytest.raises(InputError, match="cut off"):
            run(root, backbone=Weighty, **options)
        assert not list((root / "embeddings").glob("toy*"))
        Weighty.file.write_text("whole")
        run(root, backbone=Weighty, **options)
        assert Counting.seen in (70, 32, 38)
        Weighty.file.write_text("who")
        with pytest.raises(InputError):
            run(root, backbone=Weighty, overwrite=True, **options)
        Weighty.file.write_text("whole")
        for path in (root / "embeddings").glob("toy.*"):
            if path.is_file():
                path.unlink()


def test_a_plan_without_a_row_is_no_obstacle(root, tmp_path):
    Weighty.file = tmp_path / "weights"
    Weighty.file.write_text("whole, but others")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Cut):
        patch.setattr(Counting, "embed", cut_after(0, Counting.embed))
        run(root, backbone=Weighty)
    assert (root / "embeddings/toy.parts/plan.json").exists()
    Weighty.file.write_text("whole")
    run(root, backbone=Weighty)
    assert Counting.seen == 70


def test_an_edited_backbone_is_another_backbone(root, tmp_path, monkeypatch):
    path = tmp_path / "edited.py"
    code = (
        '"""A backbone."""\n'
        "from tests.extract_item_embeddings.toy_backbone import Toy\n\n\n"
        'class Edited(Toy):\n    name = "edited"\n\n    def embed(self, audio):\n'
        '        """Twice as loud."""\n        return 2 * super().embed(audio)\n'
    )

    def edited(text):
        path.write_text(text)
        monkeypatch.delitem(__import__("sys").modules, "edited", raising=False)
        return __import__("edited").Edited

    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    run(root, backbone=edited(code))
    assert len(json.loads((root / "embeddings/edited.json").read_text())["code"]) == 16
    same = code.replace("Twice as loud.", "Louder.").replace("\n\n\n", "\n# new\n")
    run(root, backbone=edited(same))
    with pytest.raises(
        InputError, match="is finished, but it was made by another version of .* --overwrite makes"
    ):
        run(root, backbone=edited(code.replace("2 *", "3 *")))
    run(root, backbone=edited(code.replace("2 *", "3 *")), overwrite=True)
