"""MERT's two kinds at a small size: weights drawn from a seed by name, and what they hear.

mert.npz holds what the original code (github.com/yizhilll/MERT, scripts/mert_hf) made of them: for
each kind all hidden states of 6,000 samples, (layers, frames, width), and the means over time of
those of 24,000 samples, (layers, width).
"""

import json

import numpy as np
import torch
import transformers

SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "conv_dim": [16] * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}
CONFIGS = {  # as the published ones differ
    "mert": {**SIZES, "feat_extract_norm": "group", "do_stable_layer_norm": True},
    "mert_95m": {**SIZES, "feat_extract_norm": "group", "do_stable_layer_norm": False},
}
NEW_NAMES = (("parametrizations.weight.original0", "weight_g"),)
NEW_NAMES += (("parametrizations.weight.original1", "weight_v"),)


def state(kind: str) -> dict[str, torch.Tensor]:
    """Return random weights of a kind, norms about 1 and the rest about 0."""
    rng = np.random.default_rng(len(kind))
    shapes = transformers.HubertModel(transformers.HubertConfig(**CONFIGS[kind])).state_dict()
    return {
        name: torch.from_numpy(
            (0.3 * rng.normal(size=shape.shape) + ("norm.weight" in name)).astype(np.float32)
        )
        for name, shape in sorted(shapes.items())
        if name != "masked_spec_embed"
    }


def audio(samples: int) -> torch.Tensor:
    rng = np.random.default_rng(samples)
    return torch.from_numpy((0.1 + 0.3 * rng.normal(size=(1, samples))).astype(np.float32))


def write(folder, kind: str):
    """Write config.json as published and pytorch_model.bin with the names torch used before 2.0."""
    folder.mkdir(parents=True)
    weights = state(kind)
    for new, old in NEW_NAMES:
        key = "encoder.pos_conv_embed.conv."
        weights[key + old] = weights.pop(key + new)
    torch.save(weights, folder / "pytorch_model.bin")
    about = {"model_type": "mert_model", "attention_relax": 32.0, "deepnorm": False}
    more = {"feature_extractor_cqt": False, "auto_map": {"AutoModel": "modeling_MERT.MERTModel"}}
    (folder / "config.json").write_text(json.dumps({**CONFIGS[kind], **about, **more}))
    return folder
