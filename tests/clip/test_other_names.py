"""Names that are neither known weights nor a path."""

import pytest

from tagmask.clip.load import load
from tagmask.clip.other_names import refuse_other_name
from tagmask.errors import WeightsError


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("ViT-B-16-SigLIP:webli", "is a SigLIP"),
        ("ViT-SO400M-14-SigLIP-384:webli", "is a SigLIP"),
        ("google/siglip-base-patch16-224", "is a SigLIP"),
        ("EVA02-B-16:merged2b_s8b_b131k", "is an EVA-CLIP"),
        ("eva_giant_patch14_clip_224", "is an EVA-CLIP"),
        ("MobileCLIP-S1:datacompdr", "is a MobileCLIP"),
        ("ViT-L-14-CLIPA:datacomp1b", "is a CLIPA"),
        ("coca_ViT-B-32:laion2b_s13b_b90k", "is a CoCa"),
        ("ViTamin-L:datacomp1b", "is a ViTamin"),
        ("xlm-roberta-base-ViT-B-32:laion5b_s13b_b90k", "is a multilingual CLIP"),
        ("nllb-clip-base:v1", "is a multilingual CLIP"),
        ("PE-Core-B16-224", "is a Perception Encoder"),
        ("convnext_base_w:laion2b_s13b_b82k", "is a convolutional CLIP, which has no patch tokens"),
        ("RN50:openai", "is a CLIP ResNet, which has no patch tokens"),
        ("RN50x64", "is a CLIP ResNet"),
        ("ViT-H-14:laion2b_s32b_b79k", "whose attention heads are not 64 wide"),
        ("ViT-H/14", "whose attention heads are not 64 wide"),
        ("ViT-g-14:laion2b_s12b_b42k", "whose attention heads are not 64 wide"),
        ("ViT-bigG-14:laion2b_s39b_b160k", "whose attention heads are not 64 wide"),
        ("ViT-B-16-plus-240:laion400m_e31", "Did you mean ViT-B-16:laion400m_e31"),
        ("clip-penguin", "no known name"),
        ("ViT-B-17:openai", "Did you mean ViT-B-16:openai"),
        ("minature", "Did you mean miniature?"),
        ("RN50", "is a CLIP ResNet"),
        ("RN50x4.pt", "is a CLIP ResNet"),
        ("resnet50", "is a CLIP ResNet"),
        ("timm/ViT-B-16-SigLIP", "is a SigLIP"),
        ("apple/MobileCLIP-S1-OpenCLIP", "is a MobileCLIP"),
        ("laion/CLIP-ViT-H-14-laion2B-s32B-b79K", "whose attention heads are not 64 wide"),
        ("ViT-B/16", "Did you mean ViT-B-16:openai?"),
        ("ViT-B/16:openai", "Did you mean ViT-B-16:openai?"),
        ("ViT-L/14@336px", "Did you mean ViT-L-14-336:openai?"),
        ("vit_b_32", "Did you mean ViT-B-32:openai?"),
        ("clip-vit-b-16", "Did you mean ViT-B-16:openai?"),
        ("ViT-B-16.pt", "Did you mean the name ViT-B-16:openai?"),
        ("vit_base_patch16_clip_224.openai", "Did you mean the name ViT-B-16:openai?"),
        ("openai/clip-vit-base-patch16", "give hf:openai/clip-vit-base-patch16"),
        (
            "https://huggingface.co/openai/clip-vit-base-patch16/tree/main",
            "Give hf:openai/clip-vit-base-patch16",
        ),
        ("https://openaipublic.azureedge.net/clip/models/0/ViT-L-14.pt", "Give the name ViT-L-14:openai"),
        ("https://hf.co/openai/clip-vit-base-patch16", "Give hf:openai/clip-vit-base-patch16"),
        ("https://example.org/weights.pt", "is a URL. Download the file, and give its path"),
    ],
)
def test_other_names_are_explained(name: str, reason: str) -> None:
    with pytest.raises(WeightsError) as error:
        load(name)
    assert reason in str(error.value)
    assert "There is no file" not in str(error.value)
    assert len(error.value.lines[0]) <= 125


@pytest.mark.parametrize(
    "name",
    ["weights.pt", "weights", "siglip.pt", "a/b/eva", "/a/rn50", "./vit", "~/clip", "evaluation", "x" * 5000],
)
def test_paths_are_left_to_the_reader(name: str) -> None:
    refuse_other_name(name)


@pytest.mark.parametrize("name", ["x" * 5000, f"{'x' * 5000}/model.safetensors", "a\0b"])
def test_names_that_no_file_can_have(name: str) -> None:
    with pytest.raises(WeightsError, match="cannot be read"):
        load(name)
