"""OpenAI's tensor names and shapes -> those of Hugging Face's CLIPModel, spelled out one by one."""

import torch

NORMS = {
    "visual.ln_pre": "vision_model.pre_layrnorm",
    "visual.ln_post": "vision_model.post_layernorm",
    "ln_final": "text_model.final_layer_norm",
}


def tensors(openai, *, layers, text_layers):
    """The same weights under Hugging Face's names."""
    out = {
        "logit_scale": openai["logit_scale"],
        "vision_model.embeddings.class_embedding": openai["visual.class_embedding"],
        "vision_model.embeddings.patch_embedding.weight": openai["visual.conv1.weight"],
        "vision_model.embeddings.position_embedding.weight": openai["visual.positional_embedding"],
        "text_model.embeddings.token_embedding.weight": openai["token_embedding.weight"],
        "text_model.embeddings.position_embedding.weight": openai["positional_embedding"],
        "visual_projection.weight": openai["visual.proj"].T,
        "text_projection.weight": openai["text_projection"].T,
    }
    for kind in ("weight", "bias"):
        for ours, theirs in NORMS.items():
            out[f"{theirs}.{kind}"] = openai[f"{ours}.{kind}"]
        for tower, prefix, count in (
            ("vision_model", "visual.", layers),
            ("text_model", "", text_layers),
        ):
            for n in range(count):
                a, b = f"{prefix}transformer.resblocks.{n}", f"{tower}.encoder.layers.{n}"
                out[f"{b}.layer_norm1.{kind}"] = openai[f"{a}.ln_1.{kind}"]
                out[f"{b}.layer_norm2.{kind}"] = openai[f"{a}.ln_2.{kind}"]
                out[f"{b}.mlp.fc1.{kind}"] = openai[f"{a}.mlp.c_fc.{kind}"]
                out[f"{b}.mlp.fc2.{kind}"] = openai[f"{a}.mlp.c_proj.{kind}"]
                out[f"{b}.self_attn.out_proj.{kind}"] = openai[f"{a}.attn.out_proj.{kind}"]
                stacked = openai[f"{a}.attn.in_proj_{kind}"]
                width = len(stacked) // 3
                out[f"{b}.self_attn.q_proj.{kind}"] = stacked[:width]
                out[f"{b}.self_attn.k_proj.{kind}"] = stacked[width : 2 * width]
                out[f"{b}.self_attn.v_proj.{kind}"] = stacked[2 * width :]
    return {name: tensor.clone().contiguous() for name, tensor in out.items()}


def config(*, width, layers, patch, side, embed, text_width, text_layers, activation):
    """The relevant part of a config.json."""
    return {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "projection_dim": embed,
        "vision_config": {
            "hidden_size": width,
            "intermediate_size": 4 * width,
            "num_hidden_layers": layers,
            "num_attention_heads": width // 64,
            "patch_size": patch,
            "image_size": side,
            "hidden_act": activation,
        },
        "text_config": {
            "hidden_size": text_width,
            "intermediate_size": 4 * text_width,
            "num_hidden_layers": text_layers,
            "num_attention_heads": text_width // 64,
            "hidden_act": activation,
            "eos_token_id": 49407,
        },
    }


def positions(openai):
    """The position_ids buffers of older files."""
    return {
        "vision_model.embeddings.position_ids": torch.arange(len(openai["visual.positional_embedding"])),
        "text_model.embeddings.position_ids": torch.arange(len(openai["positional_embedding"])),
    }
