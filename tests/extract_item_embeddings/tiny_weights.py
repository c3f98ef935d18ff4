"""Random weights of the pretrained transformers' kinds, small enough for tests, in folders.

Every parameter is random, biases and norms too: in fresh weights many are 0 or 1, and silence would
come out as nothing.
"""

import contextlib
import json
import re
import shutil
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
import transformers

from extract_item_embeddings.encodecmae import EncodecMae, EncodecMaeNetwork
from extract_item_embeddings.jukemir import Jukemir
from extract_item_embeddings.networks.jukebox import Jukebox
from tests.extract_item_embeddings import tiny_newer, tiny_transformers
from tests.extract_item_embeddings.tiny_transformers import randomised

SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "conv_dim": [16] * 7,
    "num_conv_pos_embedding_groups": 4,
}

# The mean and spread of the MSD's log-mel frames, as published with MusicFM and MuQ.
STATISTICS = {"melspec_2048_mean": 6.768444971712967, "melspec_2048_std": 18.417922652295623}

CODEC_SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "num_filters": 2,
}
JUKEBOX_SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 37,  # one more than the layer that is read
    "num_attention_heads": 2,
    "vocab_size": 64,
    "vqvae_width": 4,
    "vqvae_codes": 4,
    "artists": 3,
    "genres": 3,
    "times": 128,
}
PUBLISHED_NAMES = (  # of EnCodecMAE: ours, theirs
    (r"^codec\.layers\.(.*)\bconv\.", r"wav_encoder.model.model.\1conv.conv."),
    (r"^codec\.layers\.", "wav_encoder.model.model."),
    (r"parametrizations\.weight\.original0", "weight_g"),
    (r"parametrizations\.weight\.original1", "weight_v"),
    (r"^(encoder_layers|final_norm)\.", r"visible_encoder.\1."),
)


@contextlib.contextmanager
def apart(folder):
    """Keep the hub's cache in a folder, empty and offline."""
    import pytest  # a benchmark that writes weights needs none

    folder = str(folder)
    with pytest.MonkeyPatch.context() as patch:
        # for commands that are started, then for this process, where both libraries are imported
        patch.setenv("HF_HUB_CACHE", folder)
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setattr("huggingface_hub.constants.HF_HUB_CACHE", folder)
        patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        yield


def music2vec(folder, seed=0):
    """Write config.json and model.safetensors."""
    config = transformers.Data2VecAudioConfig(**SIZES)
    randomised(transformers.Data2VecAudioModel(config), seed).save_pretrained(folder)
    change_config(folder, vocab_size="dict.txt")  # the published config holds a file's name there
    return folder


def mert(folder, seed=0, **sizes):
    """Write config.json and pytorch_model.bin, with the names torch used before 2.0.

    Args:
        sizes: of the model, as transformers' HubertConfig calls them; tiny where none are given.
    """
    folder.mkdir(parents=True)
    sizes = {**(sizes or {**SIZES, "num_conv_pos_embeddings": 16}), "do_stable_layer_norm": True}
    change_config(folder, **sizes, model_type="mert_model", feature_extractor_cqt=False)
    model = transformers.HubertModel(transformers.HubertConfig(**sizes))
    state = randomised(model, seed).state_dict()
    for new, old in (("original0", "weight_g"), ("original1", "weight_v")):
        key = "encoder.pos_conv_embed.conv."
        state[key + old] = state.pop(f"{key}parametrizations.weight.{new}")
    del state["masked_spec_embed"]
    torch.save(state, folder / "pytorch_model.bin")
    return folder


def musicfm(folder, seed=0):
    """Write pretrained_fma.pt, as Lightning saved it with names of before torch 2.0, and stats."""
    folder.mkdir(parents=True)
    state = {"model." + key: value for key, value in drawn("musicfm", seed).items()}
    for key in [key for key in state if "parametrizations" in key]:
        new, old = ("original0", "weight_g") if key.endswith("0") else ("original1", "weight_v")
        state[key.replace(f"parametrizations.weight.{new}", old)] = state.pop(key)
    for key in state:
        if key.endswith("num_batches_tracked"):
            state[key] = state[key].float()
    torch.save({"state_dict": state, "epoch": 1}, folder / "pretrained_fma.pt")
    (folder / "fma_stats.json").write_text(json.dumps({**STATISTICS, "cqt_mean": 0.5}))
    return folder


def muq(folder, seed=0):
    """Write model.safetensors and config.json."""
    folder.mkdir(parents=True)
    safetensors.torch.save_file(drawn("muq", seed), folder / "model.safetensors")
    change_config(folder, stat=STATISTICS, encoder_depth=3)
    return folder


def muq_mulan(folder, seed=0):
    """Write pytorch_model.bin and config.json."""
    folder.mkdir(parents=True)
    torch.save(drawn("muq_mulan", seed), folder / "pytorch_model.bin")
    change_config(folder, audio_model={"name": "MuQ", "use_layer_idx": -1})
    return folder


def encodecmae(folder, seed=0):
    """Write model.pt with the published names, a training head and a trainer's object."""
    network = EncodecMaeNetwork({**EncodecMae.sizes, **CODEC_SIZES})
    shapes = {"head.layer.weight": (8, CODEC_SIZES["hidden_size"])}
    for key, tensor in network.state_dict().items():
        for ours, published in PUBLISHED_NAMES:
            key = re.sub(ours, published, key)
        shapes[key] = tensor.shape
    state = numbers(shapes, seed)
    state["feat_projector.weight"] *= 30  # or all frames are the positions', which are the same
    for key in state:  # one feed-forward net under the names of all layers
        state[key] = state[re.sub(r"layers\.\d+\.ff_layer", "layers.0.ff_layer", key)]
    folder.mkdir(parents=True)
    torch.save({"state_dict": state, "callbacks": Callback()}, folder / "model.pt")
    change_config(folder, **CODEC_SIZES)
    return folder


def jukemir(folder, seed=0):
    """Write vqvae.pth.tar and prior_level_2.pth.tar in torch's format of 2020, half of it fp16."""
    network = Jukebox({**Jukemir.sizes, **JUKEBOX_SIZES}, JUKEBOX_SIZES["num_hidden_layers"], None)
    shapes = {key: tensor.shape for key, tensor in network.state_dict().items()}
    shapes |= {"prior.x_out.weight": (4, 4), "decoders.0.out.bias": (4,), "encoders.0.x.bias": (4,)}
    state = numbers(shapes, seed)
    state = {
        k: v.half() if re.search(r"(c_attn|c_proj|c_fc)\.w$", k) else v for k, v in state.items()
    }
    folder.mkdir(parents=True)
    for name, is_prior in (("vqvae.pth.tar", False), ("prior_level_2.pth.tar", True)):
        part = {k: v for k, v in state.items() if k.startswith(("prior.", "y_emb.")) == is_prior}
        torch.save({"model": part}, folder / name, _use_new_zipfile_serialization=False)
    change_config(folder, **JUKEBOX_SIZES)
    return folder


class Callback:
    """Stands for what a trainer leaves in its checkpoints."""


def numbers(shapes, seed):
    """Return {name: tensor}, drawn in sorted order: large where silence and music must differ."""
    rng, state = np.random.default_rng(seed), {}
    for key in sorted(shapes):
        values = rng.standard_normal(tuple(shapes[key]), dtype=np.float32)
        if "norm" in key or ".ln_" in key or key.endswith("weight_g"):
            values = float(key.endswith(("weight", "weight_g"))) + 0.1 * values
        elif values.ndim > 1 and not key.endswith((".k", "emb.weight", "pos_emb")):
            inputs = len(values) if key.endswith(".w") else np.prod(values.shape[1:])
            values *= 1.5 / np.sqrt(inputs, dtype=np.float32)
        state[key] = torch.from_numpy(np.asarray(values))
    return state


def drawn(name, seed):
    """Return {key: tensor} with the keys and shapes of the original code, drawn in sorted order.

    conformers.json tells where the shapes come from; the same numbers went into that code.
    """
    shapes = json.loads((Path(__file__).parent / "conformers.json").read_text())[name]
    rng, state = np.random.default_rng([seed, *name.encode()]), {}
    for key in sorted(shapes):
        shape = shapes[key]
        numbers = rng.standard_normal(shape, dtype=np.float32)
        if key.endswith("num_batches_tracked"):
            numbers = np.int64(1000)
        elif key.endswith("inv_freq"):
            numbers = 10_000.0 ** -(np.arange(shape[0], dtype=np.float32) / shape[0])
        elif key.endswith("running_var"):
            numbers = 0.5 + np.abs(numbers)
        elif len(shape) > 1:
            numbers /= np.sqrt(np.prod(shape[1:]), dtype=np.float32)
        else:  # around 1 what multiplies, around 0 what is added
            numbers = key.endswith(("weight", "gamma", "scale")) + 0.1 * numbers
        state[key] = torch.from_numpy(np.asarray(numbers))
    return state


def change_config(folder, **values):
    path = folder / "config.json"
    content = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**content, **values}))


def mule(folder):
    """Copy a file that TensorFlow saved: MULE's layers, of a sixteenth of their channels."""
    folder.mkdir(parents=True)
    shutil.copy(Path(__file__).with_name("mule.keras"), folder / "model.keras")
    return folder


def mert_95m(folder, seed=0):
    return mert(folder, seed)


WRITERS = {
    "music2vec": music2vec,
    "mert": mert,
    "musicfm": musicfm,
    "muq": muq,
    "muq_mulan": muq_mulan,
    "encodecmae": encodecmae,
    "jukemir": jukemir,
    "mert_95m": mert_95m,
    "mule": mule,
    **tiny_transformers.WRITERS,
    **tiny_newer.WRITERS,
}
