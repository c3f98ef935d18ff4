"""The pretrained transformers on tiny random weights: against plain calls, choices, sources."""

import json
import shutil

import numpy as np
import pytest
import soundfile
import torch
import transformers
from huggingface_hub.errors import RevisionNotFoundError

from core.options import InputError, WorkError, parse_config
from extract_item_embeddings.engine.extraction import extract
from extract_item_embeddings.mert import Mert
from extract_item_embeddings.muq import MuQ
from extract_item_embeddings.music2vec import Music2Vec
from extract_item_embeddings.musicfm import MusicFM
from tests.extract_item_embeddings import tiny_weights

KINDS = {"mert": Mert, "music2vec": Music2Vec}
BOTH = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
ALL = pytest.mark.parametrize(
    "kind", [*KINDS.values(), MusicFM, MuQ], ids=[*KINDS, "musicfm", "muq"]
)
LAYERS, WIDTH = tiny_weights.SIZES["num_hidden_layers"], tiny_weights.SIZES["hidden_size"]
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module", autouse=True)
def hub(tmp_path_factory):
    """The folder that stands for the hub's cache, which is empty and offline."""
    folder = tmp_path_factory.mktemp("hub")
    with tiny_weights.apart(folder):
        yield folder


@pytest.fixture(scope="module")
def folders(hub, tmp_path_factory):
    """{name: folder of its tiny weights}."""
    root = tmp_path_factory.mktemp("weights")
    return {name: write(root / name) for name, write in tiny_weights.WRITERS.items()}


@pytest.fixture
def root(tmp_path):
    """A root of three tracks: one of 2 s, one under a second, one that is quiet."""
    (tmp_path / "audio").mkdir()
    waves = [noise(1, 48_000), noise(1, 6_000, seed=1), 0.01 * noise(1, 48_000, seed=2)]
    for name, (wave,) in zip("abc", waves, strict=True):
        soundfile.write(tmp_path / "audio" / f"{name}.wav", wave, 24_000, subtype="FLOAT")
    (tmp_path / "trackid_sorted.csv").write_text("idx,trackid\n0,a\n1,b\n2,c\n")
    return tmp_path


def options(kind, *flags):
    return parse_config(kind.config_class, "", ["--audio", ".", *map(str, flags)])


def noise(n=2, samples=20_000, seed=0):
    """Clips that are neither centred nor of variance 1."""
    rng = np.random.default_rng(seed)
    return (0.1 + 0.2 * rng.normal(size=(n, samples))).astype(np.float32)


def plain_layers(name, folder, audio):
    """The layers (4, batch, time, 32) by a call without this project, one clip at a time."""
    if name == "music2vec":
        extractor = transformers.Wav2Vec2FeatureExtractor(sampling_rate=16_000, do_normalize=True)
        model = transformers.Data2VecAudioModel.from_pretrained(folder)
        audio = [extractor(clip, sampling_rate=16_000).input_values[0] for clip in audio]
    else:
        config = json.loads((folder / "config.json").read_text())
        del config["model_type"]
        model = transformers.HubertModel(transformers.HubertConfig(**config))
        state = torch.load(folder / "pytorch_model.bin")
        missing, unexpected = model.load_state_dict(state, strict=False)
        assert missing == ["masked_spec_embed"] and unexpected == []
    model.eval()
    with torch.no_grad():
        clips = [
            model(torch.as_tensor(clip)[None], output_hidden_states=True).hidden_states
            for clip in audio
        ]
    return torch.stack([torch.cat(layers) for layers in zip(*clips, strict=True)]).numpy()


@BOTH
@pytest.mark.parametrize("layer", [*map(str, range(LAYERS + 1)), "last", "mean"])
def test_each_layer_and_pool_is_that_of_a_plain_call(kind, layer, make, folders):
    audio = noise()
    layers = plain_layers(kind.name, folders[kind.name], audio)
    wanted = {"last": layers[-1], "mean": layers.mean(axis=0)}
    frames = wanted[layer] if layer in wanted else layers[int(layer)]
    expected = {
        "mean": frames.mean(axis=1),
        "mean+std": np.concatenate([frames.mean(axis=1), frames.std(axis=1)], axis=1),
        "max": frames.max(axis=1),
    }
    backbone = make(kind, "--layer", layer)
    for how, vectors in expected.items():
        backbone.pool = how
        np.testing.assert_allclose(backbone.embed(audio), vectors, atol=2e-5)


@ALL
@pytest.mark.parametrize(
    "flags, ending, width",
    [
        ((), "", WIDTH),
        (("--layer", "0"), "_l0", WIDTH),
        (("--layer", "mean"), "_lmean", WIDTH),
        (("--pool", "max"), "_max", WIDTH),
        (("--pool", "mean+std"), "_meanstd", 2 * WIDTH),
        (("--layer", "2", "--pool", "mean+std", "--precision", "bf16"), "_l2_meanstd_bf16", 64),
    ],
)
def test_a_choice_extends_name_and_width(kind, flags, ending, width, make):
    backbone = make(kind, *flags)
    assert backbone.name == kind.name + ending
    assert backbone.embedding_size == width
    assert backbone.embed(noise()).shape == (2, width)


@ALL
def test_without_weights_of_ones_own_the_facts_are_the_published_models(kind):
    backbone = kind.from_config(options(kind, "--pool", "mean+std", "--layer", kind.layers))
    assert backbone.embedding_size == 2 * kind.embedding_size
    assert backbone.name == f"{kind.name}_l{kind.layers}_meanstd"


@ALL
@pytest.mark.parametrize("layer", ["4", "-1", "03", "first", ""])
def test_an_unknown_layer_is_refused_with_the_range(kind, layer, make):
    with pytest.raises(InputError, match=f"0 to 3, last or mean for {kind.name}, got '{layer}'"):
        make(kind, f"--layer={layer}")
    with pytest.raises(InputError, match=f"0 to {kind.layers}, "):
        kind.from_config(options(kind, "--layer", kind.layers + 1))


def test_as_published_takes_24_khz_for_16(make):
    backbone, usual = make(Music2Vec, "--as-published", "--pool", "max"), make(Music2Vec)
    assert backbone.name == "music2vec_published_max" and backbone.sample_rate == 24_000
    assert (backbone.clip_length.rate, backbone.clip_length.longest) == (24_000, 720_000)
    usual.pool, usual.as_published = "max", True
    assert backbone.embed(noise()).tolist() == usual.embed(noise()).tolist()


def test_music2vec_hears_no_loudness_and_mert_does(make):
    audio = noise()
    music2vec, mert = make(Music2Vec), make(Mert)
    np.testing.assert_allclose(music2vec.embed(audio), music2vec.embed(0.1 * audio), atol=1e-4)
    assert np.abs(mert.embed(audio) - mert.embed(0.1 * audio)).max() > 1e-3


@ALL
def test_bf16_is_near_float32_and_no_choice_for_a_cpu(kind, make):
    exact, short = make(kind), make(kind, "--precision", "bf16")
    vectors = short.embed(noise())
    assert vectors.dtype == np.float32
    error = np.abs(vectors - exact.embed(noise())).max() / np.abs(vectors).max()
    assert 0 < error < 0.05
    with pytest.raises(InputError, match="bf16 needs a GPU"):
        short.pick_device("cpu")
    assert exact.pick_device("cpu") == "cpu"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@ALL
def test_a_gpu_agrees_with_the_cpu(kind, make):
    expected = make(kind).embed(noise())
    on_gpu = make(kind, device="cuda").embed(noise())
    np.testing.assert_allclose(on_gpu, expected, atol=1e-4 * np.abs(expected).max())
    short = make(kind, "--precision", "bf16", device="cuda").embed(noise())
    np.testing.assert_allclose(short, expected, atol=0.05 * np.abs(expected).max())


def test_a_batch_too_large_is_halved_and_gives_the_same(root, folders, monkeypatch):
    flags = ("--root", root, "--audio", root / "audio", "--weights", folders["mert"])
    extract(Mert, options(Mert, *flags))
    expected = np.load(root / "embeddings" / "mert.npy")
    forward = transformers.HubertModel.forward
    sizes = []

    def small(self, audio, **others):
        sizes.append(len(audio))
        if len(audio) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return forward(self, audio, **others)

    monkeypatch.setattr(transformers.HubertModel, "forward", small)
    extract(Mert, options(Mert, *flags, "--overwrite", "--batch-size", 2))
    assert 2 in sizes and sizes[-1] == 1
    np.testing.assert_allclose(np.load(root / "embeddings" / "mert.npy"), expected, atol=1e-5)


def test_memory_is_told_from_other_errors(make):
    mert = make(Mert)
    with pytest.raises(RuntimeError) as caught:
        torch.empty(10**16)
    assert mert.is_out_of_memory(caught.value)
    assert mert.is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert not mert.is_out_of_memory(RuntimeError("size mismatch"))


def test_a_gpu_without_room_for_the_model_is_an_error(make, monkeypatch):
    def full(self, device):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(transformers.HubertModel, "to", full)
    with pytest.raises(WorkError, match="cpu has no room for m-a-p/MERT-v1-330M"):
        make(Mert)


@BOTH
def test_weights_that_are_not_there_are_no_random_ones(kind, make, folders, tmp_path):
    folder = shutil.copytree(folders[kind.name], tmp_path / "weights")
    tiny_weights.change_config(folder, num_hidden_layers=LAYERS + 1)
    with pytest.raises(InputError, match=r"lacks 16 weights, for example encoder\.layers\.3\."):
        make(kind, folder=folder)


@BOTH
def test_a_broken_or_empty_folder_says_what_to_fetch(kind, make, folders, tmp_path):
    folder = shutil.copytree(folders[kind.name], tmp_path / "weights")
    advice = f"{kind.repository}/tree/.* into a folder and name it with --weights"
    (weights,) = [p for p in folder.iterdir() if p.name.startswith(("model.", "pytorch_model"))]
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(InputError, match=f"cannot be loaded as {kind.repository} .*{advice}"):
        make(kind, folder=folder)
    weights.unlink()
    with pytest.raises(InputError, match=f"holds no weights; fetch .*{advice}"):
        make(kind, folder=folder)
    (folder / "config.json").write_text("{}")
    with pytest.raises(InputError, match=f"config.json does not give .*hidden_size.*{advice}"):
        make(kind, folder=folder)
    with pytest.raises(InputError, match=f"No such file or directory.*{advice}"):
        make(kind, folder=tmp_path / "nowhere")


@ALL
def test_without_folder_and_network_it_says_what_to_fetch(kind):
    with pytest.raises(
        InputError, match="not in the cache, and the hub cannot be reached"
    ) as caught:
        kind.from_config(options(kind)).weights()
    assert f"{kind.repository}/tree/{kind.revision}" in str(caught.value)
    with pytest.raises(InputError, match="--weights is a folder"):
        kind.from_config(options(kind, "--weights", ".", "--revision", "main"))


def test_what_the_hub_refuses_is_said_with_its_reason(monkeypatch):
    def refuse(*args, **options):
        raise RevisionNotFoundError("404 Client Error\n\nRevision Not Found for url: long")

    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    with pytest.raises(InputError, match=r"the hub refused it \(404 Client Error\); fetch"):
        Mert.from_config(options(Mert, "--revision", "nowhere")).weights()


@ALL
def test_the_hubs_weights_are_recorded_by_the_commit_they_came_from(kind, folders, hub, request):
    cache = hub / f"models--{kind.repository.replace('/', '--')}"
    request.addfinalizer(lambda: shutil.rmtree(cache))
    shutil.copytree(folders[kind.name], cache / "snapshots" / COMMIT)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text(COMMIT)
    for revision in ("main", COMMIT):
        backbone = kind.from_config(options(kind, "--revision", revision))
        source = f"https://huggingface.co/{kind.repository}"
        assert backbone.weights() == {"source": source, "revision": COMMIT}
    backbone.load("cpu")
    assert backbone.embed(noise()).shape == (2, WIDTH)


def test_an_extraction_holds_what_embed_gives_and_records_the_weights(
    root, make, folders, tmp_path
):
    folder = shutil.copytree(folders["mert"], tmp_path / "weights")
    flags = ("--root", root, "--audio", root / "audio", "--weights", folder, "--batch-size", 2)
    extract(Mert, options(Mert, *flags, "--layer", "1"))
    matrix = np.load(root / "embeddings" / "mert_l1.npy")
    mert = make(Mert, "--layer", "1")
    short = np.resize(noise(1, 6_000, seed=1), (1, 24_000))  # repeated until it is a second long
    for row, audio in enumerate([noise(1, 48_000), short, 0.01 * noise(1, 48_000, seed=2)]):
        np.testing.assert_allclose(matrix[row], mert.embed(audio)[0], atol=1e-5)

    record = json.loads((root / "embeddings" / "mert_l1.json").read_text())
    usual = {"pool": "mean", "precision": "float32", "as_published": False, "perturb": None}
    assert record["options"] == {"layer": "1", **usual}
    assert set(record["weights"]["sha256"]) == {"config.json", "pytorch_model.bin"}
    shutil.copytree(tiny_weights.mert(tmp_path / "others", seed=1), folder, dirs_exist_ok=True)
    with pytest.raises(InputError, match="weights: sha256: pytorch_model.bin was .*--overwrite"):
        extract(Mert, options(Mert, *flags, "--layer", "1"))


def test_the_studys_mistake_is_recorded(root, folders):
    flags = ("--root", root, "--audio", root / "audio", "--weights", folders["music2vec"])
    extract(Music2Vec, options(Music2Vec, *flags, "--as-published"))
    record = json.loads((root / "embeddings" / "music2vec_published.json").read_text())
    assert record["options"]["as_published"] is True and record["sample_rate"] == 24_000
