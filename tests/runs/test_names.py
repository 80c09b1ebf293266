import os
from pathlib import Path, PurePosixPath

from tagmask.runs.names import image_keys, text_names
from tagmask.runtime.folders import FoundImage


def found(root: str, name: str) -> FoundImage:
    return FoundImage(Path(root) / name, PurePosixPath(name))


def test_keys_do_not_depend_on_where_the_folder_lies():
    assert image_keys([found("/x/photos", "a/1.png")]) == image_keys([found("/y/photos", "a/1.png")])


def test_a_folder_keeps_its_label_whatever_is_given_before_it(tmp_path):
    for name in "xyz":
        (tmp_path / name / "p").mkdir(parents=True)
    known = {"p": tmp_path / "y/p"}
    keys = image_keys([found(str(tmp_path / n / "p"), "1.png") for n in "xyz"], lambda: dict(known))
    assert keys == ["p-2/1.png", "p/1.png", "p-3/1.png"]


def test_a_folder_that_was_moved_keeps_its_label_and_another_one_of_its_name_does_not(tmp_path):
    (tmp_path / "new/p").mkdir(parents=True)
    image = found(str(tmp_path / "new/p"), "1.png")
    assert image_keys([image], lambda: {"p": tmp_path / "old/p"}) == ["p/1.png"]
    (tmp_path / "old/p").mkdir(parents=True)
    assert image_keys([image], lambda: {"p": tmp_path / "old/p"}) == ["p-2/1.png"]


def test_keys_are_text_and_no_two_names_share_one():
    names = [os.fsdecode(b"caf\xe9.png"), "caf\\xe9.png", "caf\\\\xe9.png", "caf\u00e9.png"]
    keys = image_keys([found("/p", name) for name in names])
    assert len(set(keys)) == len(names)
    assert [key.encode().decode() for key in keys] == keys


def test_names_of_outputs_are_text_and_apart():
    names = text_names([found("/p", os.fsdecode(b"caf\xe9.png")), found("/p", "caf%E9.jpg")])
    assert [str(name) for name in names] == ["caf%E9.png", "caf%E9.jpg"]
