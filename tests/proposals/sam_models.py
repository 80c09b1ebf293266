"""Tiny SAM and SAM 2 with random weights, made from a config; for environments with transformers."""

from pathlib import Path
from typing import Any

import torch

SIDE = 64


def make_sam(kind: str) -> Any:
    """Return a tiny network of transformers: "sam" or "sam2"."""
    torch.manual_seed(0)
    net = _sam() if kind == "sam" else _sam2()
    decoder = net.mask_decoder
    with torch.no_grad():  # random weights give masks that are nearly all one value
        for network in decoder.output_hypernetworks_mlps:
            for parameter in network.parameters():
                parameter.mul_(250)
        decoder.iou_prediction_head.proj_out.weight.mul_(300)
        decoder.iou_prediction_head.proj_out.bias.add_(0.5)
    return net.eval()


def save_sam(kind: str, folder: Path) -> Path:
    """Write such a network to a folder."""
    make_sam(kind).save_pretrained(folder)
    return folder


def _sam() -> Any:
    import transformers as t

    vision = t.SamVisionConfig(
        hidden_size=16,
        output_channels=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=SIDE,
        patch_size=8,
        window_size=4,
        global_attn_indexes=[0],
        mlp_dim=16,
        num_pos_feats=4,
    )
    prompts = t.SamPromptEncoderConfig(hidden_size=8, image_size=SIDE, patch_size=8, mask_input_channels=4)
    decoder = t.SamMaskDecoderConfig(
        hidden_size=8,
        mlp_dim=16,
        num_attention_heads=2,
        iou_head_hidden_dim=8,
        num_hidden_layers=1,
    )
    config = t.SamConfig(vision_config=vision, prompt_encoder_config=prompts, mask_decoder_config=decoder)
    return t.SamModel(config)


def _sam2() -> Any:
    import transformers as t

    backbone = t.Sam2HieraDetConfig(
        hidden_size=8,
        num_attention_heads=1,
        image_size=[SIDE, SIDE],
        blocks_per_stage=[1, 1, 2, 1],
        embed_dim_per_stage=[8, 16, 32, 64],
        num_attention_heads_per_stage=[1, 1, 2, 2],
        window_size_per_stage=[8, 4, 4, 4],
        global_attention_blocks=[3],
    )
    vision = t.Sam2VisionConfig(
        backbone_config=backbone,
        backbone_channel_list=[64, 32, 16, 8],
        backbone_feature_sizes=[[16, 16], [8, 8], [4, 4]],
        fpn_hidden_size=16,
    )
    prompts = t.Sam2PromptEncoderConfig(hidden_size=16, image_size=SIDE, patch_size=16, mask_input_channels=4)
    decoder = t.Sam2MaskDecoderConfig(
        hidden_size=16, mlp_dim=16, num_attention_heads=2, iou_head_hidden_dim=8, num_hidden_layers=1
    )
    config = t.Sam2Config(vision_config=vision, prompt_encoder_config=prompts, mask_decoder_config=decoder)
    return t.Sam2Model(config)
