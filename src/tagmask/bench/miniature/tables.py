"""The papers' tables that can be run on the miniature data set, each row with its published figure.

Figures are in percent, on the data set that the table names. Rows without a figure are not compared. Figures
that `bench/figures/*.toml` has as [unverified] are marked in the rows too.
"""

from tagmask.bench.miniature.rows import MaskRow, Table, TagRow
from tagmask.bench.miniature.setups import MaskSetup, Settings, TagSetup
from tagmask.bench.miniature.sharper_tables import SHARPER_TABLES, SHARPER_TAG_TABLES
from tagmask.bench.miniature.tagclip_tables import PARTS, TAGCLIP_TABLES
from tagmask.bench.miniature.word_tables import MASK_WORD_TABLES, TAG_WORD_TABLES
from tagmask.settings.words import read_list

__all__ = ["MASK_TABLES", "TAG_TABLES"]

PAMR: Settings = (("pamr_steps", 10),)
CRF: Settings = (("crf", "cls-seg"),)
NATIVE: Settings = (
    ("templates", read_list("prompts_tag85")),
    ("short_side", None),
    ("crop", None),
    ("positions", "bilinear-half"),
    ("prob_thd", 0.0),
)
"""TagCLIP's patch scores as masks: the image at its own size, TagCLIP's templates, each pixel's best text."""


TAG_TABLES: tuple[Table, ...] = (
    Table(
        "tagclip-1",
        "TagCLIP, Table 1: the last self-attention",
        "mAP on VOC2012 val",
        (
            TagRow("best patch, attention kept", TagSetup(patches="clip"), 82.7),
            TagRow("best patch, attention removed", TagSetup(patches="maskclip"), 85.4),
        ),
    ),
    Table(
        "tagclip-2",
        "TagCLIP, Table 2: tagging without training",
        "mAP on VOC2007 test",
        (
            TagRow("CLIP, no softmax", TagSetup((("method", "clip"),)), 79.5),
            TagRow("CLIP", TagSetup((("method", "clip-softmax"),)), 85.8),
            TagRow("DPT, no softmax", TagSetup((("method", "dpt"),)), 83.4),
            TagRow("DPT", TagSetup((("method", "dpt-softmax"),)), 86.2),
            TagRow("CLIP Surgery", TagSetup((("method", "clip-surgery"),)), 85.4),
            TagRow("TagCLIP", TagSetup(), 92.8),
        ),
    ),
    Table(
        "tagclip-4-tags",
        "TagCLIP, Table 4: ablation of its parts, tags",
        "mAP on VOC2012 val",
        tuple(
            TagRow(label, TagSetup(parts), paper)
            for (label, parts), paper in zip(PARTS.items(), (85.4, 88.0, 93.9, 94.1), strict=True)
        ),
    ),
    Table(
        "tagclip-votes",
        "TagCLIP's votes: number of the 12 layers that must agree on an attention weight",
        "no figures in a table",
        tuple(
            TagRow(f"{votes} of 12", TagSetup((("cwr", False), ("votes", votes))))
            for votes in (0, 2, 4, 6, 8, 10)
        ),
        note="The paper uses 4. Without class-wise re-identification (CWR).",
    ),
    Table(
        "taggers",
        "All taggers, on the same scenes",
        "not published",
        (
            TagRow("`tagclip`", TagSetup()),
            TagRow("`dpt`", TagSetup((("method", "dpt"),))),
            TagRow("`dpt-softmax`", TagSetup((("method", "dpt-softmax"),))),
            TagRow(
                '`clip-surgery`, `pool="patches"` (ours: the best patch of its second stream)',
                TagSetup((("method", "clip-surgery"), ("pool", "patches"))),
            ),
            TagRow("`clip-surgery`", TagSetup((("method", "clip-surgery"),))),
            TagRow("`clip`", TagSetup((("method", "clip"),))),
            TagRow("`clip-softmax`", TagSetup((("method", "clip-softmax"),))),
            TagRow("`piaa`, adapted to these scenes", TagSetup((("method", "piaa"),), adapted=True)),
            TagRow("`sparc`, compared among these scenes", TagSetup((("method", "sparc"),), adapted=True)),
            TagRow(
                "the same without our pairs of words",
                TagSetup((("method", "sparc"), ("compounds", ())), adapted=True),
            ),
        ),
    ),
    *TAGCLIP_TABLES,
    *TAG_WORD_TABLES,
    *SHARPER_TAG_TABLES,
)

_FAMILY = {
    "clip": 18.8,
    "maskclip": 43.4,
    "gem": 46.2,
    "clearclip": 51.8,
    "naclip": 58.9,
    "sclip": 59.1,
    "resclip": 61.1,
    "sfp": 62.9,
    "sc-clip": 64.6,
    "clip-surgery": None,
}
"""VOC21, as the papers or later papers report it; inputs, class names and thresholds differ."""

_VERIFIED = frozenset({"resclip"})
"""Those of `_FAMILY` that were read in their own paper."""

_ABLATION: dict[str, float | None] = {
    "clip": 18.8,
    "maskclip": 43.4,
    "sclip-identity": None,
    "sclip-identity-whole": None,
    "sclip-random": 57.1,
    "sclip-q": None,
    "sclip-k": None,
    "sclip-q2": None,
    "sclip-k2": None,
    "sclip": 59.1,
}


def _modes() -> tuple[MaskRow, ...]:
    """SCLIP's image sizes: short side, window and stride."""
    settings = {
        "224, windows 224 / 112": ((224, 224, 112), 56.5),
        "336, windows 224 / 112 (the default)": ((336, 224, 112), 59.1),
        "336, whole image": ((336, None, 112), None),
        "448, windows 224 / 112": ((448, 224, 112), None),
        "448, windows 448 / 224": ((448, 448, 224), 58.9),
    }
    return tuple(
        MaskRow(
            label,
            MaskSetup(settings=(("short_side", short), ("crop", crop), ("stride", stride))),
            paper,
            unverified=paper is not None,
        )
        for label, ((short, crop, stride), paper) in settings.items()
    )


MASK_TABLES: tuple[Table, ...] = (
    Table(
        "sclip-1",
        "SCLIP, Table 1: attention in the last block, with and without PAMR",
        "mIoU on VOC21",
        (
            MaskRow("CLIP", MaskSetup("clip"), 18.8, unverified=True),
            MaskRow("MaskCLIP", MaskSetup("maskclip"), 43.4, unverified=True),
            MaskRow("SCLIP", MaskSetup("sclip"), 59.1, unverified=True),
            MaskRow("CLIP + PAMR", MaskSetup("clip", PAMR)),
            MaskRow("MaskCLIP + PAMR", MaskSetup("maskclip", PAMR)),
            MaskRow("SCLIP + PAMR", MaskSetup("sclip", PAMR), 61.7, unverified=True),
            MaskRow("SCLIP + CRF", MaskSetup("sclip", CRF)),
        ),
    ),
    Table(
        "sclip-2",
        "SCLIP, Tables 2 and 3: the attention's projections",
        "mIoU on VOC21, as far as figures are known",
        tuple(
            MaskRow(method, MaskSetup(method), paper, unverified=paper is not None)
            for method, paper in _ABLATION.items()
        )
        + tuple(
            MaskRow(f"sclip-random, {n} projections", MaskSetup("sclip-random", (("ensemble", n),)))
            for n in (4, 16)
        ),
        note="q2 and k2 double the logits, as the sum does: they separate the effects of sum and scale.",
    ),
    Table(
        "sclip-3",
        "SCLIP, modifications of CLIP's own attention",
        "no figures of VOC21; +2.9 for a divisor of 2",
        (
            MaskRow("clip", MaskSetup("clip"), 18.8, unverified=True),
            *(
                MaskRow(f"clip-sharp, divisor {d}", MaskSetup("clip-sharp", (("divisor", float(d)),)))
                for d in (4, 2, 1)
            ),
            *(
                MaskRow(f"clip-local, {w} x {w}", MaskSetup("clip-local", (("local_window", w),)))
                for w in (1, 3, 5)
            ),
            *(
                MaskRow(f"clip-early, layer {layer}", MaskSetup("clip-early", (("early_layer", layer),)))
                for layer in (1, 4, 7, 10)
            ),
        ),
    ),
    Table("sclip-4", "SCLIP, Table 4: sizes and windows", "mIoU on VOC21", _modes()),
    Table(
        "family",
        "Later methods, in one harness",
        "mIoU on VOC21, each in its own protocol",
        tuple(
            MaskRow(
                method, MaskSetup(method), paper, unverified=paper is not None and method not in _VERIFIED
            )
            for method, paper in _FAMILY.items()
        ),
    ),
    Table(
        "family-pamr",
        "The same with PAMR",
        "mIoU on VOC21",
        tuple(
            MaskRow(
                method,
                MaskSetup(method, PAMR),
                {"sclip": 61.7, "naclip": 64.07}.get(method),
                unverified=method == "sclip",
            )
            for method in _FAMILY
        ),
    ),
    Table(
        "family-tags",
        "The same, restricted to the tags that TagCLIP finds",
        "not published",
        tuple(MaskRow(method, MaskSetup(method, tags="found")) for method in _FAMILY),
    ),
    Table(
        "combinations",
        "Combinations of this project, each after the method that it changes",
        "not published",
        (
            MaskRow("sclip", MaskSetup("sclip")),
            MaskRow('sclip, `join="tokens"`', MaskSetup("sclip", (("join", "tokens"),))),
            MaskRow("naclip", MaskSetup("naclip")),
            MaskRow('naclip, `join="tokens"`', MaskSetup("naclip", (("join", "tokens"),))),
            MaskRow("sc-clip", MaskSetup("sc-clip")),
            MaskRow("sc-clip-near", MaskSetup("sc-clip-near")),
        ),
    ),
    Table(
        "bare",
        "The last block without residual and MLP",
        "not published",
        tuple(
            MaskRow(method, MaskSetup(method))
            for method in ("clip", "clip-bare", "maskclip", "maskclip-bare", "sclip", "sclip-bare")
        ),
    ),
    Table(
        "names",
        "Classes with unequal numbers of names",
        "not published",
        (
            MaskRow("one name per class", MaskSetup("sclip")),
            MaskRow("four names per class (plain, and in three colours)", MaskSetup("sclip", names="four")),
            MaskRow("four names for every other class", MaskSetup("sclip", names="uneven")),
        ),
        note="A class takes the score of its best name, so a class with more names has an advantage.",
    ),
    Table(
        "tagclip-1-masks",
        "TagCLIP, Table 1: the last self-attention, masks",
        "mIoU on VOC2012 val",
        (
            MaskRow("attention kept", MaskSetup("clip", NATIVE), 16.2),
            MaskRow("attention removed", MaskSetup("maskclip", NATIVE), 41.6),
        ),
        note="The paper does not say how it made these masks. Here each pixel gets its best text.",
    ),
    Table(
        "tagclip-4-masks",
        "TagCLIP, Table 4: ablation of its parts, masks of CLS-SEG",
        "mIoU on VOC2012 val",
        tuple(
            MaskRow(label, MaskSetup("cls-seg", tags="found", tagger=parts), paper)
            for (label, parts), paper in zip(PARTS.items(), (30.9, 55.2, 63.7, 64.8), strict=True)
        ),
    ),
    Table(
        "cls-seg",
        "CLS-SEG and CLIP-ES",
        "mIoU on VOC2012 (val; train for true tags)",
        (
            MaskRow("MaskCLIP", MaskSetup("maskclip", NATIVE), 42.1),
            MaskRow("CLIP Surgery", MaskSetup("clip-surgery", NATIVE), 41.5),
            MaskRow("CLS-SEG", MaskSetup("cls-seg", tags="found"), 64.8),
            MaskRow("CLS-SEG + CRF", MaskSetup("cls-seg", CRF, tags="found"), 68.7),
            MaskRow("CLIP-ES (true tags)", MaskSetup("cls-seg", tags="true"), 70.8),
            MaskRow("CLIP-ES + CRF (true tags)", MaskSetup("cls-seg", CRF, tags="true"), 75.0),
            MaskRow("SCLIP (true tags)", MaskSetup("sclip", tags="true")),
        ),
    ),
    *MASK_WORD_TABLES,
    *SHARPER_TABLES,
)
