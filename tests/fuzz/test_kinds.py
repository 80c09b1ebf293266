"""The short part of `make fuzz` that runs with all tests: a few inputs of each kind, always the same."""

import io
import sys
import zipfile

import pytest

if sys.platform != "linux":
    pytest.skip("forks, and reads /proc", allow_module_level=True)

import zlib
from collections import Counter
from dataclasses import replace
from functools import cache

from benchmarks.fuzz.archives import ZIP, zlib_bomb
from benchmarks.fuzz.judge import GOOD, Outcome
from benchmarks.fuzz.kind import Kind
from benchmarks.fuzz.kinds import GROUPS, KINDS, chosen
from benchmarks.fuzz.pickles import PICKLE
from benchmarks.fuzz.pieces import AVIF, JP2, JPEG, PNG, WEBP, Format, Piece
from benchmarks.fuzz.server import Server, batches

COUNT = 15
"""Inputs of each kind."""
SEED = 17

FORMATS = {"png": PNG, "jpeg": JPEG, "webp": WEBP, "jpeg2000": JP2, "avif": AVIF, "torch-legacy": PICKLE}


@cache
def kind(name: str) -> Kind:
    return KINDS[name]()


@pytest.mark.parametrize("name", list(KINDS))
def test_no_input_does_more_than_be_refused(name: str) -> None:
    found: list[Outcome] = []
    work = batches({name: COUNT}, COUNT)
    Server({name: kind(name)}, SEED).run(work, 1, lambda _, outcome: found.append(outcome))
    assert len(found) == COUNT
    assert [outcome for outcome in found if outcome.verdict not in GOOD] == []


@pytest.mark.parametrize("name", sorted(KINDS.keys() - {"shards"}))
def test_a_good_file_is_read(name: str) -> None:
    """Else its mutations would only show that everything is refused. (The shards are not complete.)"""
    good = replace(kind(name), samples=kind(name).samples[:1], mutators=(lambda data, *_: data,))
    (outcome,) = Server({name: good}).run_alone(name, [0])
    assert outcome.verdict == "ok", outcome


@pytest.mark.parametrize("name", ["png", "jpeg", "config", "cams-npy", "coco", "mat", "recipe"])
def test_inputs_are_the_same_again_and_differ(name: str) -> None:
    inputs = [kind(name).input(SEED, name, case) for case in range(8)]
    assert inputs == [kind(name).input(SEED, name, case) for case in range(8)]
    assert inputs != [kind(name).input(SEED + 1, name, case) for case in range(8)]
    assert Counter(inputs).most_common(1)[0][1] < 6


@pytest.mark.parametrize("name", [name for name in FORMATS if name in KINDS])
def test_pieces_make_the_whole(name: str) -> None:
    format_: Format = FORMATS[name]
    for sample in kind(name).samples[:4]:
        assert format_.join(format_.split(sample)) == sample
        assert name == "webp" or len(format_.split(sample)) >= 3


def test_a_bomb_is_zeros() -> None:
    assert zlib.decompress(zlib_bomb(3_000_000)) == bytes(3_000_000)
    assert len(zlib_bomb(300_000_000)) < 400_000


def test_entries_of_a_rewritten_archive_are_valid() -> None:
    pieces = [Piece(b"a/data.pkl", b"pickle" * 50), Piece(b"a/data/0", bytes(range(256)))]
    with zipfile.ZipFile(io.BytesIO(ZIP.join(pieces))) as archive:
        assert archive.testzip() is None
        assert [(name.encode(), archive.read(name)) for name in archive.namelist()] == [
            (piece.tag, piece.body) for piece in pieces
        ]


def test_names_of_groups_and_kinds() -> None:
    assert chosen(["images"]) == GROUPS["images"]
    assert chosen(["mat", "png"]) == ("png", "mat")
    with pytest.raises(KeyError, match="pgn"):
        chosen(["pgn"])
