"""--perturb: what each does to a sound, and an embedding of some tracks under a name of its own."""

import numpy as np
import pytest
import soundfile
from conftest import HERE
from test_engine import make_audio

from core.artifacts import read_json, write_json
from core.options import InputError, parse_config
from extract_item_embeddings.engine import perturb
from extract_item_embeddings.engine.decoding import ClipLength, read_clip
from extract_item_embeddings.engine.extraction import ExtractConfig, extract
from tests.extract_item_embeddings.toy_backbone import Toy

RATE = 22_050
TIMES = np.arange(4 * RATE) / RATE
WAVE = (0.3 * np.sin(2 * np.pi * 440 * TIMES) + 0.2 * np.sin(2 * np.pi * 6000 * TIMES)).astype("f4")


def power(wave, low, high):
    spectrum = np.square(np.abs(np.fft.rfft(wave)))
    hertz = np.fft.rfftfreq(len(wave), 1 / RATE)
    return spectrum[(hertz >= low) & (hertz < high)].sum() / spectrum.sum()


@pytest.mark.parametrize("how", perturb.PERTURBATIONS)
def test_a_perturbed_sound_is_another_one_the_same_each_time(how):
    found = perturb.perturbed(WAVE, RATE, how)
    assert found.dtype == np.float32 and np.isfinite(found).all() and np.abs(found).max() < 1
    assert np.array_equal(found, perturb.perturbed(WAVE, RATE, how))
    if how != perturb.OFFSET:
        assert len(found) == len(WAVE) and not np.array_equal(found, WAVE)


def test_a_semitone_higher_is_a_twelfth_of_an_octave():
    found = perturb.perturbed(WAVE, RATE, "pitch+1")
    assert power(found, 460, 472) > 0.6 and power(found, 435, 445) < 0.01


def test_noise_lies_20_db_below_and_is_another_for_another_sound():
    noise = [perturb.perturbed(wave, RATE, "noise20") - wave for wave in (WAVE, 0.5 * WAVE)]
    assert 10 * np.log10(np.var(WAVE) / np.var(noise[0])) == pytest.approx(20, abs=0.1)
    assert np.var(noise[0]) == pytest.approx(4 * np.var(noise[1]), rel=0.05)
    assert abs(np.corrcoef(noise)[0, 1]) < 0.05


def test_lowpass_leaves_what_lies_below_4_khz():
    found = perturb.perturbed(WAVE, RATE, "lowpass")
    assert power(WAVE, 5000, 7000) > 0.2 and power(found, 4100, 11_025) < 1e-4
    assert np.abs(found).max() == pytest.approx(0.3, abs=0.02)


@pytest.mark.parametrize("rate", [22_050, 44_100, 96_000, 7_350])
def test_mp3_comes_back_in_time_and_nearly_the_same(rate):
    """Gapless: the coder's delay is cut off again."""
    slow = (0.3 * np.sin(2 * np.pi * 440 * np.arange(4 * rate) / rate)).astype("f4")
    found = perturb.perturbed(slow, rate, "mp3_64")
    assert abs(len(found) - len(slow)) <= 2
    lost = found[: len(slow)] - slow[: len(found)]
    assert 15 < 10 * np.log10(np.var(slow) / np.var(lost)) < 80


@pytest.mark.parametrize(("seconds", "start"), [(50, 15), (20, 10)])
def test_another_part_begins_15_s_later_or_in_the_middle_of_a_short_file(tmp_path, seconds, start):
    rng = np.random.default_rng(0)
    wave = 0.3 * rng.uniform(-1, 1, seconds * 8000).astype("f4")
    soundfile.write(tmp_path / "x.wav", wave, 8000, subtype="FLOAT")
    length = ClipLength(8000, 30 * 8000, 4000, 800, perturb=perturb.OFFSET)
    found = read_clip(tmp_path / "x.wav", length)
    assert np.array_equal(found, wave[start * 8000 :][: len(found)])
    assert len(found) == 8000 * min(30, seconds - start)


def run(root, capsys, **options):
    extract(Toy, ExtractConfig(root=root, audio=root / "audio", **options))
    return capsys.readouterr().out


def test_it_is_an_embedding_of_its_own_of_the_tracks_that_are_drawn(tmp_path, capsys, monkeypatch):
    root = make_audio(tmp_path, 40)
    monkeypatch.setattr(perturb, "TRACKS", 10)
    run(root, capsys)
    plain = np.load(root / "embeddings" / "toy.npy")
    said = run(root, capsys, perturb="noise20")
    assert "failed            0" in said
    found = np.load(root / "embeddings" / "toy_noise20.npy")
    rows = sorted(perturb.drawn(40))
    assert len(rows) == 10 and np.flatnonzero(np.isfinite(found).all(axis=1)).tolist() == rows
    np.testing.assert_allclose(found[rows], plain[rows], rtol=0.05)
    assert not np.array_equal(found[rows], plain[rows])
    for options in ({"perturb": "noise20"}, {}):
        assert "is finished; --overwrite" in run(root, capsys, **options)
    assert perturb.perturbed_name("toy", "pitch+1") == "toy_pitch1"
    (root / "audio" / f"t{rows[3]:04d}.wav").write_bytes(b"")
    said = run(root, capsys, perturb="lowpass", missing="nan")
    assert f"failed t{rows[3]:04d}: is empty" in said and "was not drawn" not in said


def test_an_embedding_made_before_there_was_the_option_stays_finished(tmp_path, capsys):
    root = make_audio(tmp_path, 3)
    run(root, capsys)
    path = root / "embeddings" / "toy.json"
    record = read_json(path, "")
    assert record["options"].pop("perturb", "") is None
    write_json(path, record)
    assert "is finished" in run(root, capsys)


def test_what_is_no_perturbation_is_refused():
    flags = ["--audio", str(HERE), "--perturb"]
    with pytest.raises(InputError, match="offset15"):
        parse_config(ExtractConfig, "", [*flags, "louder"])
    with pytest.raises(InputError, match="--mend and --perturb do not go together"):
        parse_config(ExtractConfig, "", [*flags, "lowpass", "--mend"])
