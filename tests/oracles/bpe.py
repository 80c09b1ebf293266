"""CLIP's byte-pair tokens, naively: one character, one pair, one merge at a time."""

import gzip
import html
import unicodedata
from functools import cache
from itertools import pairwise
from pathlib import Path

import ftfy

import tagmask

# "'\u017f" and IOTA come from case-insensitive matching: the long s is an s, the iota is not an "other"
IOTA = "\u0345"
ENDINGS = ("'\u017f", "'s", "'t", "'re", "'ve", "'m", "'ll", "'d")
SPECIAL = ("<|startoftext|>", "<|endoftext|>")
MERGES = Path(tagmask.__file__).parent / "clip" / "bpe_simple_vocab_16e6.txt.gz"


def kind(character):
    if character.isspace() or character == IOTA:
        return "space"
    category = unicodedata.category(character)
    return {"L": "letter", "N": "number"}.get(category[0], "other")


def tidy(text):
    text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return " ".join(text.split()).lower()


def split(text):
    pieces = []
    at = 0
    while at < len(text):
        found = next((s for s in (*SPECIAL, *ENDINGS) if text.startswith(s, at)), None)
        if found is None:
            found = text[at]
            if kind(found) in ("letter", "other"):
                while at + len(found) < len(text) and kind(text[at + len(found)]) == kind(found[0]):
                    found += text[at + len(found)]
        if kind(found[0]) != "space":
            pieces.append(found)
        at += len(found)
    return pieces


@cache
def tables():
    """(byte -> letter, symbol -> id, pair -> rank)."""
    with gzip.open(MERGES, "rt", encoding="utf-8") as file:
        lines = file.read().split("\n")
    pairs = [tuple(line.split(" ")) for line in lines[1:48895]]
    printable = [b for b in range(256) if 33 <= b <= 126 or 161 <= b <= 172 or 174 <= b <= 255]
    letters = {b: chr(b) for b in printable}
    for b in range(256):
        if b not in letters:
            letters[b] = chr(256 + len(letters) - len(printable))
    symbols = list(letters.values())
    symbols += [s + "</w>" for s in letters.values()]
    symbols += [a + b for a, b in pairs]
    symbols += SPECIAL
    return letters, {s: i for i, s in enumerate(symbols)}, {p: i for i, p in enumerate(pairs)}


@cache
def piece_ids(piece):
    letters, ids, ranks = tables()
    if piece in SPECIAL:
        return [ids[piece]]
    symbols = [letters[b] for b in piece.encode("utf-8")]
    symbols[-1] += "</w>"
    while True:
        known = [(ranks[pair], pair) for pair in pairwise(symbols) if pair in ranks]
        if not known:
            return [ids[s] for s in symbols]
        best = min(known)[1]
        merged = []
        while symbols:
            if tuple(symbols[:2]) == best:
                merged.append(symbols.pop(0) + symbols.pop(0))
            else:
                merged.append(symbols.pop(0))
        symbols = merged


def encode(text):
    return [i for piece in split(tidy(text)) for i in piece_ids(piece)]
