"""What the papers claim, checked in the miniature world: is each of these above that one?"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from tagmask.bench.miniature.bootstrap import verdict
from tagmask.bench.miniature.run import Measurements, bootstrap_values
from tagmask.bench.miniature.setups import MaskSetup, Setup, TagSetup
from tagmask.bench.miniature.tables import CRF, PAMR

__all__ = ["CLAIMS", "Claim", "claim_lines"]


@dataclass(frozen=True)
class Claim:
    """A claim about pairs of setups."""

    text: str
    pairs: tuple[tuple[Setup, Setup], ...]
    """The first of each pair is said to be better than the second."""

    @property
    def setups(self) -> tuple[Setup, ...]:
        """All setups of the claim."""
        return tuple(setup for pair in self.pairs for setup in pair)


def _descending(text: str, *setups: Setup) -> Claim:
    """The claim that each setup is better than the next."""
    return Claim(text, tuple(pairwise(setups)))


_PARTS = ((("dmar", False), ("cwr", False)), (("dmar", False),), (("cwr", False),), ())
"""TagCLIP's steps: none, CWR, DMAR, both; the paper's order, from worst to best."""
_BARE = ("clearclip", "naclip", "resclip", "sc-clip", "sfp")
_CLS_SEG = MaskSetup("cls-seg", tags="found")

CLAIMS: tuple[Claim, ...] = (
    _descending(
        "SCLIP above MaskCLIP above CLIP's own attention",
        *(MaskSetup(method) for method in ("sclip", "maskclip", "clip")),
    ),
    _descending("PAMR improves SCLIP", MaskSetup("sclip", PAMR), MaskSetup("sclip")),
    _descending("TagCLIP above CLIP's softmax (mAP)", TagSetup(), TagSetup((("method", "clip-softmax"),))),
    _descending(
        "DMAR and CWR improve the masks of the tags: both above DMAR above CWR above none",
        *(MaskSetup("cls-seg", tags="found", tagger=parts) for parts in reversed(_PARTS)),
    ),
    _descending(
        "the same for mAP",
        *(TagSetup(parts) for parts in reversed(_PARTS)),
    ),
    Claim(
        "the CRF improves CLS-SEG's masks, and those of true tags",
        (
            (MaskSetup("cls-seg", CRF, tags="found"), _CLS_SEG),
            (MaskSetup("cls-seg", CRF, tags="true"), MaskSetup("cls-seg", tags="true")),
        ),
    ),
    _descending("CLS-SEG above SCLIP where there is a background", _CLS_SEG, MaskSetup("sclip")),
    _descending(
        "removing the last self-attention improves tags (mAP)",
        TagSetup(patches="maskclip"),
        TagSetup(patches="clip"),
    ),
    _descending(
        "a sharper softmax (divisor 2) improves CLIP's own attention",
        MaskSetup("clip-sharp", (("divisor", 2.0),)),
        MaskSetup("clip"),
    ),
    *(_descending(f"{method} above SCLIP", MaskSetup(method), MaskSetup("sclip")) for method in _BARE),
    Claim(
        "a softmax over the words improves CLIP's and DPT's tags (mAP)",
        tuple(
            (TagSetup((("method", f"{name}-softmax"),)), TagSetup((("method", name),)))
            for name in ("clip", "dpt")
        ),
    ),
)


def claim_lines(measured: Measurements, claims: Sequence[Claim] = CLAIMS) -> Iterator[str]:
    """Yield a Markdown table: each claim, the values in the order of the claim, and whether it holds here.

    "yes": every pair is in the claimed order in 95 % of the bootstrap samples; "no": one is in the other;
    else "open".
    """
    yield "| the papers say | here | |"
    yield "|---|---|---|"
    for claim in claims:
        found = {setup: bootstrap_values(measured, setup) for setup in claim.setups}
        verdicts = {verdict(found[upper], found[lower]) for upper, lower in claim.pairs}
        holds = "no" if "no" in verdicts else "open" if "open" in verdicts else "yes"
        values = {setup: float(ours[0]) for setup, ours in found.items()}
        yield f"| {claim.text} | {_compared(claim, values)} | {holds} |"
    yield ""


def _compared(claim: Claim, values: dict[Setup, float]) -> str:
    """The values, as in "28.2 > 27.5 > 24.7"; pairs that share no setup are separated by commas."""
    text, last = "", None
    for upper, lower in claim.pairs:
        one, two = f"{values[upper]:.1f}", f"{values[lower]:.1f}"
        sign = "=" if one == two else ">" if values[upper] > values[lower] else "<"
        text += f" {sign} {two}" if upper == last else f"{', ' if text else ''}{one} {sign} {two}"
        last = lower
    return text
