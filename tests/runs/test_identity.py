import json
import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from tagmask.errors import InputError
from tagmask.runs.classes import read_classes
from tagmask.runs.identity import RunIdentity, differences, is_run_file, read_identity

FIELDS = {"words": ["cat", "dog"], "threshold": 0.5, "settings": {"steps": 10, "crf": False}}


def test_the_fingerprint_does_not_depend_on_order_or_on_what_is_recorded_beside_it():
    one = RunIdentity("mask", {"a": 1, "b": (1, 2)}, {"device": "cpu"})
    other = RunIdentity("mask", {"b": [1, 2], "a": 1}, {"device": "cuda"})
    assert one.fingerprint == other.fingerprint


@pytest.mark.parametrize(
    "other",
    [
        RunIdentity("tag", FIELDS),
        RunIdentity("mask", FIELDS, results_version=99),
        RunIdentity("mask", {**FIELDS, "words": ["dog", "cat"]}),
        RunIdentity("mask", {**FIELDS, "threshold": 0.25}),
        RunIdentity("mask", {**FIELDS, "head": "ab12"}),
    ],
)
def test_all_that_decides_results_changes_the_fingerprint_and_is_named(other):
    one = RunIdentity("mask", FIELDS)
    assert one.fingerprint != other.fingerprint
    assert len(differences(one, other)) == 1


def test_differences_are_told_in_words():
    old = RunIdentity("mask", {**FIELDS, "words": ["cat", "dog"], "background": ["sky", "sea"]})
    new = RunIdentity(
        "mask",
        {"words": ["cat"], "threshold": None, "settings": {"steps": 20, "crf": True}, "head": "x\x1b[1m"},
    )
    assert differences(old, new) == [
        "words were cat, dog, are cat",
        "threshold was 0.5, is not set",
        "settings.steps was 10, is 20",
        "settings.crf was off, is on",
        "background were sky, sea, are not set",
        "head was not set, is x\\x1b[1m",
    ]


def test_long_lists_tell_what_came_and_went():
    words = [f"thing {i}" for i in range(100)]
    old = RunIdentity("mask", {"words": words})
    assert differences(old, RunIdentity("mask", {"words": [*words[1:], "zebra"]})) == [
        "words no longer have thing 0 and now have zebra"
    ]
    assert differences(old, RunIdentity("mask", {"words": words[::-1]})) == [
        "words are in another order, or repeated"
    ]


def test_what_is_written_is_read_back_whatever_it_holds(tmp_path):
    @dataclass(frozen=True)
    class Settings:
        low: float = float("-inf")
        size: tuple[int, int] = (3, 4)

    fields = {"settings": Settings(), "scale": np.float32(0.5), "file": Path("a/b"), "name": "caf\udce9"}
    identity = RunIdentity("mask", fields, {"command": "tagmask mask"})
    path = tmp_path / "run.json"
    path.write_bytes(identity.encode())
    assert read_identity(path).metadata == {"command": "tagmask mask"}
    assert json.loads(path.read_bytes())["fields"]["settings"] == {"low": "-inf", "size": [3, 4]}
    assert not differences(read_identity(path), replace(identity, metadata={}))


HOSTILE = [
    b"[" * 100_000,
    b'{"tagmask_run": NaN}',
    b'{"tagmask_run": ' + b"1" * 5000 + b"}",
    b"\xff\xfe",
    b"\0",
]


@pytest.mark.parametrize(
    "content", [b"", b"[1]", b'{"run": 1}', b'{"tagmask_run": 1}', *HOSTILE], ids=range(9)
)
def test_files_that_are_no_run_are_refused(tmp_path, content):
    path = tmp_path / "run.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"run\.json"):
        read_identity(path)
    assert is_run_file(path) == (content == b'{"tagmask_run": 1}')


def test_a_run_changed_by_hand_and_one_of_a_newer_version_are_refused(tmp_path):
    path = tmp_path / "run.json"
    text = RunIdentity("mask", FIELDS).encode()
    path.write_bytes(text.replace(b'"dog"', b'"cow"'))
    with pytest.raises(InputError, match="changed by hand"):
        read_identity(path)
    path.write_bytes(text.replace(b'"tagmask_run": 1', b'"tagmask_run": 2'))
    with pytest.raises(InputError, match="newer"):
        read_identity(path)


@pytest.mark.parametrize("kind", ["pipe", "device", "large"])
def test_no_file_in_place_of_run_json_or_classes_json_hangs(kind, tmp_path):
    path = tmp_path / "run.json"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.touch()
        os.truncate(path, 1 << 30)
    for read in (read_identity, read_classes):
        with pytest.raises(InputError, match=r"run\.json cannot be read: it "):
            read(path)
    assert not is_run_file(path)
