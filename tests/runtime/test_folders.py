"""Finding images in files and folders; naming outputs."""

from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tagmask.errors import InputError
from tagmask.runtime.folders import IMAGE_SUFFIXES, FoundImage, find_images, output_names

# --- finding files ---


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")


def names_of(found: list[FoundImage]) -> list[str]:
    return [str(image.name) for image in found]


def test_find_in_folders(tmp_path: Path) -> None:
    touch(tmp_path, "b.JPG", "a.png", "sub/c.webp", "sub/deep/d.tiff", "A.bmp", "a/z.gif")
    touch(tmp_path, "notes.txt", ".hidden.jpg", "._a.png", ".git/e.jpg", "sub/.x/f.jpg", "noext")
    found = find_images([tmp_path])
    assert names_of(found) == ["A.bmp", "a/z.gif", "a.png", "b.JPG", "sub/c.webp", "sub/deep/d.tiff"]
    assert [image.path for image in found] == [tmp_path / image.name for image in found]


def test_given_files_may_have_any_suffix(tmp_path: Path) -> None:
    touch(tmp_path, "photo", "x.dat", ".hidden.jpg")
    assert names_of(find_images([tmp_path / n for n in ("x.dat", "photo", ".hidden.jpg")])) == [
        "x.dat",
        "photo",
        ".hidden.jpg",
    ]


def test_find_hidden_folder_given_by_name(tmp_path: Path) -> None:
    touch(tmp_path, ".cache/a.jpg")
    assert names_of(find_images([tmp_path / ".cache"])) == ["a.jpg"]


def test_find_same_file_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "in/a.jpg", "in/sub/b.jpg")
    (tmp_path / "link.jpg").symlink_to(tmp_path / "in" / "a.jpg")
    monkeypatch.chdir(tmp_path)
    paths = [Path("in"), tmp_path / "in", Path("in/sub"), Path("in/../in/a.jpg"), tmp_path / "link.jpg"]
    assert names_of(find_images(paths)) == ["a.jpg", "sub/b.jpg"]
    assert names_of(find_images(paths[2:])) == ["b.jpg", "a.jpg"]


def test_links_to_one_file_in_one_folder_are_two_images(tmp_path: Path) -> None:
    touch(tmp_path, "store/blob")
    (tmp_path / "set").mkdir()
    for name in ("1.jpg", "2.jpg"):
        (tmp_path / "set" / name).symlink_to(tmp_path / "store" / "blob")
    assert names_of(find_images([tmp_path / "set"])) == ["1.jpg", "2.jpg"]


def test_links_to_folders_are_followed_and_loops_end(tmp_path: Path) -> None:
    touch(tmp_path, "in/a.jpg", "in/sub/b.jpg", "else/c.jpg")
    (tmp_path / "in/sub/up").symlink_to(tmp_path / "in")
    (tmp_path / "in/self").symlink_to(tmp_path / "in" / "self")
    (tmp_path / "in/0").symlink_to(tmp_path / "in" / "sub")
    (tmp_path / "in/more").symlink_to(tmp_path / "else")
    assert names_of(find_images([tmp_path / "in"])) == ["a.jpg", "more/c.jpg", "sub/b.jpg"]


def test_deep_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    deep = "/".join("d" * 300)
    touch(tmp_path, f"{deep}/a.jpg")
    assert names_of(find_images([Path()])) == [f"{deep}/a.jpg"]


def test_missing_paths_and_folders_without_images(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least one"):
        find_images([])
    with pytest.raises(InputError, match=r"no file or folder .*gone"):
        find_images([tmp_path / "gone"])
    touch(tmp_path, "notes.txt")
    with pytest.raises(InputError, match=r"No images in .*\.jpeg.*\.webp"):
        find_images([tmp_path])


def test_suffixes_are_lower_case_with_a_dot() -> None:
    assert {".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif"} <= IMAGE_SUFFIXES
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in IMAGE_SUFFIXES)


# --- naming outputs ---


def under(root: str, *names: str) -> list[FoundImage]:
    return [FoundImage(Path(root) / name, PurePosixPath(name)) for name in names]


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (under("/p", "a.jpg", "sub/a.jpg", "IMG_0.5.png"), ["a", "sub/a", "IMG_0.5"]),
        (under("/p", "a.jpg", "a.png", "b.png"), ["a.jpg", "a.png", "b"]),
        (under("/p", "a.jpg", "A.png", "b.png"), ["a.jpg", "A.png", "b"]),
        (under("/p", "a.jpg", "A.JPG"), ["a.jpg", "A.JPG-2"]),
        (under("/p", "Sub/a.jpg", "sub/a.jpg"), ["Sub/a.jpg", "sub/a.jpg-2"]),
        (under("/x/one", "a.jpg") + under("/x/two", "a.jpg", "b.jpg"), ["one/a", "two/a", "b"]),
        (under("/x/one", "a.jpg") + under("/x/two", "A.png"), ["one/a", "two/A"]),
        (under("/x/one", "a.jpg", "a.png") + under("/x/two", "a.jpg"), ["one/a.jpg", "one/a.png", "two/a"]),
        (
            under("/x/set", "a.jpg") + under("/y/set", "a.jpg") + under("/z/Set", "a.jpg"),
            ["set/a", "set/a-2", "Set/a-3"],
        ),
        (under("/x/set", "a.jpg") + under("/y/set", "a.jpg", "a-2.jpg"), ["set/a", "set/a-2", "a-2"]),
        (under("/p", "a.jpg", "a.png", "a.jpg.webp"), ["a.jpg", "a.png", "a.jpg-2"]),
        (
            under("/x/set", "a.jpg") + under("/y/set", "a.jpg") + under("/z", "set/a-2.jpg"),
            ["set/a", "set/a-3", "set/a-2"],
        ),
        (under("/p", "é.jpg", "é.png"), ["é.jpg", "é.png"]),
        (under("/", "a.jpg") + under("/x", "a.jpg"), ["a", "x/a"]),
        ([], []),
    ],
)  # fmt: skip
def test_output_names(found: list[FoundImage], expected: list[str]) -> None:
    assert [str(name) for name in output_names(found)] == expected


def test_output_names_of_relative_roots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "here/a.jpg", "there/a.jpg")
    monkeypatch.chdir(tmp_path / "here")
    found = find_images([Path(), Path("../there")])
    assert [str(name) for name in output_names(found)] == ["here/a", "there/a"]


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_output_names_are_distinct(data: st.DataObject) -> None:
    roots = st.sampled_from(["/x/s", "/y/s", "/y/S", "/s", "/"])
    parts = st.sampled_from(["a.jpg", "A.jpg", "a.png", "a", "a-2.jpg", "a.jpg-2.jpg", "a.jpg.png"])
    folders = st.sampled_from(["", "s/", "S/", "s/s/"])
    found = [
        under(data.draw(roots), data.draw(folders) + data.draw(parts))[0]
        for _ in range(data.draw(st.integers(0, 14)))
    ]
    names = output_names(found)
    lowered = []
    for name in names:
        assert not name.is_absolute()
        assert ".." not in name.parts
        assert str(name).lower() not in lowered
        lowered.append(str(name).lower())
