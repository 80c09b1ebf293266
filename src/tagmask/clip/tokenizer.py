"""CLIP's tokenizer: text to token ids.

    text --clean--> lower-case text --split--> pieces --byte-pair merges--> ids --pad--> 77 columns

The merges and the vocabulary are OpenAI's. The `tokenizers` library applies the merges; cleaning, splitting
and padding are done here, so that no other normalisation takes place.
"""

import gzip
import html
import re
from collections.abc import Iterator, Sequence
from functools import cache
from importlib import resources
from itertools import groupby, islice
from operator import itemgetter
from typing import Final

import torch
from jaxtyping import Int64
from tokenizers import Encoding, Regex, Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, Split
from tokenizers.pre_tokenizers import Sequence as Steps
from torch import Tensor

from tagmask.errors import InputError, TextTooLongError

__all__ = ["CONTEXT", "END", "START", "VOCABULARY", "clean", "encode", "tokenize", "vocabulary"]

START: Final = 49406
"""Id of the start token."""

END: Final = 49407
"""Id of the end token. It is the largest id, which is how the text tower finds the last token."""

CONTEXT: Final = 77
"""Columns of a tokenised text, START and END included."""

VOCABULARY: Final = 49408
"""Number of ids: 256 bytes, 256 bytes that end a piece, 48894 merges, START and END."""

_SPECIAL: Final = {"<|startoftext|>": START, "<|endoftext|>": END}
_MERGES_FILE: Final = "bpe_simple_vocab_16e6.txt.gz"
_MERGES: Final = VOCABULARY - 2 * 256 - len(_SPECIAL)

# OpenAI compiles this pattern with IGNORECASE. After lower-casing, that still matters for two characters: the
# long s (U+017F) folds to s, and the iota below (U+0345) folds to a letter without being one, so no
# alternative matches it and it is dropped.
_PIECES: Final = (
    r"<\|[s\x{17F}]tartoftext\|>|<\|endoftext\|>|'[s\x{17F}]|'t|'re|'ve|'m|'ll|'d"
    r"|[\p{L}]+|[\p{N}]|[^\s\x{345}\p{L}\p{N}]+"
)


def tokenize(texts: Sequence[str], *, truncate: bool = False) -> Int64[Tensor, "q 77"]:
    """Turn each text into a row of 77 ids: START, the text, END, zeros.

    Args:
        texts: any texts, also empty ones (START END). The literal strings "<|startoftext|>" and
            "<|endoftext|>" become the special ids if they form a separate piece, as in OpenAI's
            tokenizer; a text tower that stops at the first END then ignores the rest.
        truncate: cut longer texts to 77 ids, the last of which is END, as OpenAI's option of this name does.

    Returns:
        Ids on the CPU, 0..49407, one row per text in the order given.

    Raises:
        InputError: `texts` is a single string.
        TextTooLongError: a text needs more than 77 ids, without `truncate`.

    Source:
        CLIP (Radford et al., ICML 2021), `simple_tokenizer.py` and `tokenize` as coded by the authors.

    Example:
        >>> tokenize(["a photo of a cat."])[0, :8].tolist()
        [49406, 320, 1125, 539, 320, 2368, 269, 49407]
    """
    if isinstance(texts, str):
        raise InputError(f"Expected a list of texts, not the single text {_short(texts)}. Write [text].")
    rows = torch.zeros((len(texts), CONTEXT), dtype=torch.int64)
    for row, text in zip(rows, texts, strict=True):
        ids = (START, *encode(text), END)
        if len(ids) > CONTEXT and truncate:
            ids = (*ids[: CONTEXT - 1], END)
        if len(ids) > CONTEXT:
            raise TextTooLongError(
                f"The text {_short(text)} has {len(ids)} tokens with start and end. CLIP reads at most "
                f"{CONTEXT}. Shorten it, or split it into several texts."
            )
        row[: len(ids)] = torch.tensor(ids)
    return rows


def encode(text: str) -> tuple[int, ...]:
    """Return the ids of a text of any length, without START and END.

    Example:
        >>> encode("A  PHOTO &amp; more")
        (320, 1125, 261, 750)
    """
    cleaned = clean(text)
    encoding = _tokenizer().encode(cleaned, add_special_tokens=False)
    if any(token in cleaned for token in _SPECIAL):
        return tuple(_with_special(cleaned, encoding))
    return tuple(encoding.ids)


def clean(text: str) -> str:
    r"""Repair, unescape, collapse whitespace and lower-case a text, as for CLIP's training texts.

    Source:
        `basic_clean`, `whitespace_clean` and the `lower()` of `encode`, as coded by the authors of CLIP.

    Example:
        >>> clean("  Salt &amp;amp; Pepper\n“CAFÉ” ")
        'salt & pepper "café"'
    """
    if not (text.isascii() and text.isprintable()):  # ftfy changes nothing else, and takes long to import
        text = _fix_text(text)
    repaired = html.unescape(html.unescape(text))
    return re.sub(r"\s+", " ", repaired).strip().lower()


def _fix_text(text: str) -> str:
    import ftfy  # on first use only

    fixed: str = ftfy.fix_text(text)
    return fixed


def _with_special(text: str, encoding: Encoding) -> Iterator[int]:
    """Return the ids, with one special id for each piece that spells a special token.

    Added tokens of the `tokenizers` library are not used, since they would also match inside a run of
    punctuation ("!!<|endoftext|>"), where OpenAI's pattern does not match.
    """
    tokens = zip(encoding.word_ids, encoding.ids, encoding.offsets, strict=True)
    for _, group in groupby(tokens, key=itemgetter(0)):
        _, ids, spans = zip(*group, strict=True)
        special = _SPECIAL.get(text[spans[0][0] : spans[-1][1]])
        yield from ids if special is None else (special,)


def vocabulary() -> dict[str, int]:
    """Return all 49408 symbols with their ids, as in the `vocab.json` of other tokenizers.

    Example:
        >>> vocabulary()["dog</w>"]
        1929
    """
    return _symbols(_read_merges()) | _SPECIAL


@cache
def _tokenizer() -> Tokenizer:
    """Build the tokenizer in memory, without normaliser, post-processor or file."""
    merges = _read_merges()
    tokenizer = Tokenizer(BPE(vocab=_symbols(merges), merges=merges, end_of_word_suffix="</w>"))
    tokenizer.pre_tokenizer = Steps(
        [
            Split(Regex(_PIECES), behavior="removed", invert=True),
            ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    return tokenizer


def _symbols(merges: list[tuple[str, str]]) -> dict[str, int]:
    letters = _byte_letters()
    symbols = [*letters, *(f"{letter}</w>" for letter in letters), *("".join(pair) for pair in merges)]
    return {symbol: number for number, symbol in enumerate(symbols)}


def _read_merges() -> list[tuple[str, str]]:
    """Read lines 2..48895; CLIP does not use the merges after them."""
    packed = resources.files(__package__).joinpath(_MERGES_FILE).open("rb")
    with packed, gzip.open(packed, "rt", encoding="utf-8") as lines:
        pairs = (line.split() for line in islice(lines, 1, 1 + _MERGES))
        return [(first, second) for first, second in pairs]


def _byte_letters() -> list[str]:
    """Return the printable letter of each byte, in the order of their ids.

    Printable bytes represent themselves and come first; the others follow as code points 256, 257, ...
    """
    printable = [
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), ord("ÿ") + 1),
    ]
    others = 256 - len(printable)
    return [chr(code) for code in (*printable, *range(256, 256 + others))]


def _short(text: str) -> str:
    """Quote a text for a message, truncated to 60 characters."""
    return repr(text if len(text) <= 60 else f"{text[:60]}…")
