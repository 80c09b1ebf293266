"""Tables on masks that get better without training: absent words dropped, sharper regions, both."""

from tagmask.bench.miniature.rows import MaskRow, Table, TagRow
from tagmask.bench.miniature.setups import MaskSetup, Settings, TagSetup

__all__ = ["SHARPER_TABLES", "SHARPER_TAG_TABLES"]

_PURIFY: Settings = (("purify", True),)
_BY_TAGS: Settings = (("purify", "tags"),)
_PER_IMAGE: Settings = (("purify", True), ("purify_scope", "image"))
_PAMR: Settings = (("refine", "pamr"),)
_TLP: Settings = (("refine", "tlp"),)
_CRF: Settings = (("refine", "crf"),)
_CDA: Settings = (("affinity", "cda"),)

_STEPS: dict[str, tuple[Settings, str | None]] = {
    "": ((), None),
    " + PAMR": (_PAMR, None),
    " + TLP": (_TLP, None),
    " + CRF": (_CRF, None),
    ", found tags": ((), "found"),
    ", found tags + PAMR": (_PAMR, "found"),
    ", purified by scores": (_PURIFY, None),
    ", purified by scores, per image": (_PER_IMAGE, None),
    ", purified by scores and tags": (_BY_TAGS, None),
    ", purified, found tags": (_PURIFY, "found"),
    ", purified by scores + PAMR": (_PURIFY + _PAMR, None),
    ", purified by scores + TLP": (_PURIFY + _TLP, None),
    ", purified by scores + CRF": (_PURIFY + _CRF, None),
    ", true tags": ((), "true"),
    ", purified, true tags": (_PURIFY, "true"),
}

_CLS_SEG_STEPS: dict[str, Settings] = {
    "": (),
    " + PAMR": _PAMR,
    " + TLP": _TLP,
    " + CRF": _CRF,
    ", CDA's affinity": _CDA,
    ", CDA's affinity + CRF": _CDA + _CRF,
}

_METHODS = {"sclip": "SCLIP", "sc-clip": "SC-CLIP"}

_NOTE = (
    "Purified: FreeCP's redundancy and ambiguity, redundancy 0.15, overlap 0.8. "
    "True tags are the limit of what dropping words can give."
)


def _table(method: str, name: str) -> Table:
    rows = tuple(
        MaskRow(f"{name}{label}", MaskSetup(method, settings, tags=tags))
        for label, (settings, tags) in _STEPS.items()
    )
    return Table(
        f"sharper-{method}", f"{name}: words dropped, regions sharpened", "not published", rows, note=_NOTE
    )


SHARPER_TABLES: tuple[Table, ...] = (
    *(_table(method, name) for method, name in _METHODS.items()),
    Table(
        "sharper-cls-seg",
        "CLS-SEG with found tags: regions sharpened",
        "not published",
        tuple(
            MaskRow(f"CLS-SEG{label}", MaskSetup("cls-seg", settings, tags="found"))
            for label, settings in _CLS_SEG_STEPS.items()
        ),
    ),
    Table(
        "pearl",
        "PEARL: projection-aligned attention (PA) and TLP",
        "not published",
        (
            MaskRow("PA", MaskSetup("pearl")),
            MaskRow("PA + TLP", MaskSetup("pearl", _TLP)),
            MaskRow("PA with the polar factor by SVD", MaskSetup("pearl", (("svd", True),))),
            MaskRow("SCLIP + TLP", MaskSetup("sclip", _TLP)),
            MaskRow("NACLIP + TLP", MaskSetup("naclip", _TLP)),
        ),
    ),
)

SHARPER_TAG_TABLES: tuple[Table, ...] = (
    Table(
        "freecp-tags",
        "FreeCP's redundancy as a tagger",
        "not published",
        (TagRow("`tagclip`", TagSetup()), TagRow("`freecp`", TagSetup((("method", "freecp"),)))),
    ),
)
