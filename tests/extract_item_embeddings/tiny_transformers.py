"""Random weights of transformers' own audio classes, small enough for tests, as on the hub."""

import torch
import transformers

AST_SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "frequency_stride": 40,  # few patches
    "time_stride": 80,
}
SWIN_SIZES = {
    "patch_embeds_hidden_size": 8,
    "hidden_size": 64,
    "depths": [1, 1, 1, 1],
    "num_attention_heads": [1, 2, 2, 2],
    "projection_dim": 24,
}
TEXT_SIZES = {
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "intermediate_size": 8,
    "vocab_size": 10,
    "projection_dim": 24,
}


def ast(folder, seed=0):
    """Write config.json and model.safetensors of a classifier, as published."""
    config = transformers.ASTConfig(**AST_SIZES)
    randomised(transformers.ASTForAudioClassification(config), seed).save_pretrained(folder)
    return folder


def maest(folder, seed=0):
    """Write config.json and model.safetensors of a classifier with the layers that are needed."""
    sizes = {"num_hidden_layers": 8, "num_mel_bins": 96, "max_length": 1876, "layer_norm_eps": 1e-6}
    config = transformers.ASTConfig(**{**AST_SIZES, **sizes})
    randomised(transformers.ASTForAudioClassification(config), seed).save_pretrained(folder)
    return folder


def whisper(folder, seed=0):
    """Write config.json and model.safetensors in half precision, both as published."""
    config = transformers.WhisperConfig(
        d_model=24,
        encoder_layers=3,
        encoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_layers=1,
        decoder_attention_heads=2,
        decoder_ffn_dim=16,
        num_mel_bins=128,
        vocab_size=50,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
    )
    model = transformers.WhisperForConditionalGeneration(config)
    randomised(model, seed).half().save_pretrained(folder)
    return folder


def clap(folder, seed=0):
    """Write config.json, preprocessor_config.json and pytorch_model.bin."""
    config = transformers.ClapConfig(
        audio_config=SWIN_SIZES, text_config=TEXT_SIZES, projection_dim=24
    )
    model = randomised(transformers.ClapModel(config), seed)
    model.save_pretrained(folder, safe_serialization=False)
    extractor = transformers.ClapFeatureExtractor(
        truncation="rand_trunc", frequency_min=50, frequency_max=14_000
    )
    extractor.save_pretrained(folder)
    return folder


def encodec(folder, seed=0):
    config = transformers.EncodecConfig(num_filters=2, hidden_size=16, codebook_dim=16)
    return save(transformers.EncodecModel(config), folder, seed)


def dac(folder, seed=0):
    config = transformers.DacConfig(encoder_hidden_size=2, decoder_hidden_size=32)
    return save(transformers.DacModel(config), folder, seed)


def mimi(folder, seed=0):
    config = transformers.MimiConfig(
        num_filters=2,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=8,
        intermediate_size=32,
        codebook_dim=8,
        vector_quantization_hidden_dimension=8,
        upsample_groups=16,
        sliding_window=20,
    )
    return save(transformers.MimiModel(config), folder, seed)


def save(model, folder, seed):
    """Write a codec whose weights are so large that a tiny network still tells sounds apart."""
    randomised(model, seed)
    with torch.no_grad():
        for name, parameter in model.encoder.named_parameters():
            if name.endswith("original0") or (parameter.ndim > 1 and "original1" not in name):
                parameter *= 3
    model.save_pretrained(folder)
    return folder


def randomised(model, seed):
    """Move every parameter: in fresh weights many are 0 or 1."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model.eval()


WRITERS = {write.__name__: write for write in (ast, maest, whisper, clap, encodec, dac, mimi)}
