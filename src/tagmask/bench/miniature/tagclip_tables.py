"""Tables of TagCLIP that its paper does not print as such: its switches, layers, and a noise test."""

from tagmask.bench.miniature.rows import Table, TagRow
from tagmask.bench.miniature.setups import Settings, TagSetup

__all__ = ["PARTS", "TAGCLIP_PRINTED", "TAGCLIP_TABLES"]

TAGCLIP_PRINTED = "tagclip-printed"
"""Table of TagCLIP as coded and as printed."""

PARTS: dict[str, Settings] = {
    "coarse": (("dmar", False), ("cwr", False)),
    "coarse + CWR": (("dmar", False),),
    "coarse + DMAR": (("cwr", False),),
    "coarse + DMAR + CWR": (),
}
"""Ablation of TagCLIP's parts."""

_CORRUPTIONS = {
    "as they are": (0.0, 0.0),
    "noise 4": (4.0, 0.0),
    "noise 8": (8.0, 0.0),
    "5 % false patches": (0.0, 0.05),
}
"""Noise of the logits, and share of false patches."""


def _printed_rows() -> dict[str, TagSetup]:
    """TagCLIP as coded, with each of its switches, and as printed."""
    without_cwr = ("cwr", False)
    rows: dict[str, Settings] = {
        "as coded": (),
        "P_local from coarse scores": (("local_source", "coarse"),),
        "M_cls from the class mean": (("class_mask", "mean"),),
        "attention mask alone": (("dmar_masks", "attention"),),
        "class mask alone": (("dmar_masks", "class"),),
        "no mask": (("dmar_masks", "none"),),
        "votes of more than 4 layers": (("strict_votes", True),),
        "layer's mean over all tokens": (("vote_mean", "tokens"),),
        "attention rows rescaled to 1": (("renormalise", True),),
        "only the words in the softmax": (("background_competes", False),),
        "no softmax over patches' texts": (("patch_softmax", False),),
        "every class re-identified": (("cwr_scope", "all"),),
        "corrected: whole boxes, no exit": (("as_", "corrected"),),
        "as printed": (("as_", "printed"),),
        "without CWR": (without_cwr,),
        "without CWR, P_local coarse": (without_cwr, ("local_source", "coarse")),
        "without CWR, as printed": (("as_", "printed"), without_cwr),
    }
    return {label: TagSetup(settings) for label, settings in rows.items()}


def _by_layer(line: str, count: int) -> tuple[TagRow, ...]:
    """DMAR with layers 0, 1, ... alone, or each averaged with those after it, up to layer 10."""
    alone = line == "one layer"
    return tuple(
        TagRow(
            f"layer {layer}" if alone else f"layers {layer} to 10",
            TagSetup(
                (("cwr", False), ("attention_layers", (layer,) if alone else tuple(range(layer, 11)))),
            ),
            point=(line, layer),
        )
        for layer in range(count)
    )


TAGCLIP_TABLES: tuple[Table, ...] = (
    Table(
        TAGCLIP_PRINTED,
        "TagCLIP as coded and as printed",
        "no figures in a table",
        tuple(TagRow(label, setup) for label, setup in _printed_rows().items()),
        note="Each row changes one thing of TagCLIP as coded, the last of each group all that `--as printed` "
        "changes. Without CWR the scores are P_local itself, and as printed DMAR has no effect on them.",
    ),
    Table(
        "tagclip-layers",
        "TagCLIP's attention by layer: DMAR with one layer, and with several",
        "no figures in our sources",
        (*_by_layer("one layer", 12), *_by_layer("this layer up to 10", 10)),
        note="Without CWR. TagCLIP averages layers 8 to 10, and 0 to 10 for COCO-Stuff. Layers count from 0.",
        axis="layer",
    ),
    Table(
        "tagclip-noise",
        "Why DMAR helps: patch scores with noise, and with false patches",
        "not published",
        tuple(
            TagRow(f"{corruption}, {part}", TagSetup(PARTS[part], noise=noise, false_patches=false))
            for corruption, (noise, false) in _CORRUPTIONS.items()
            for part in ("coarse", "coarse + DMAR")
        ),
        note="Noise is Gaussian with this standard deviation, added to the logits of all patches and texts. "
        "A false patch is certain of any text, background included. Both are drawn from the scene's seed; "
        "without CWR.",
    ),
)
