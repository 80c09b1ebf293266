"""Tag files: written tags are read back; errors name the line."""

from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tagmask.errors import InputError, OutputError
from tagmask.runtime.folders import FoundImage
from tagmask.runtime.tag_files import check_tags, names_to_write, read_tags, tag_lines, tagged, tags_of

NAMES = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=12)
TAGS = st.lists(st.integers(0, 30), unique=True, max_size=6).map(tuple)


@settings(deadline=None, max_examples=30)
@given(st.dictionaries(NAMES, TAGS, max_size=6))
def test_written_tags_are_read_back_in_order(
    tmp_path_factory: pytest.TempPathFactory, tags: dict[str, tuple[int, ...]]
) -> None:
    path = tmp_path_factory.mktemp("tags") / "tags.txt"
    with tag_lines(path) as write:
        for name, chosen in tags.items():
            write(name, chosen)
    tags_read = read_tags(path, 31)
    assert list(tags_read.items()) == list(tags.items())


def test_the_format_is_the_papers(tmp_path: Path) -> None:
    path = tmp_path / "new" / "tags.txt"
    with tag_lines(path) as write:
        write("2007_000032", [14, 0])
        assert path.with_name("tags.txt.partial").read_text() == "2007_000032 14 0\n"
        write("2007_000033", [])
    assert path.read_bytes() == b"2007_000032 14 0\n2007_000033\n"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\ufeffa 1 0\n", {"a": (1, 0)}),
        ("a 1\r\nb 2\r\n", {"a": (1,), "b": (2,)}),
        ("\n  \n a\t3  1 \n\n", {"a": (3, 1)}),
        ("a", {"a": ()}),
        ("a 01", {"a": (1,)}),
        ("7 2\n", {"7": (2,)}),
        ("straße 0\nзима 1\n", {"straße": (0,), "зима": (1,)}),
        ("", {}),
    ],
)
def test_files_of_other_programs_are_read(
    text: str, expected: dict[str, tuple[int, ...]], tmp_path: Path
) -> None:
    path = tmp_path / "tags.txt"
    path.write_bytes(text.encode())
    assert read_tags(path, 4) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a 1\nb 4\n", r"Line 2 of .*tags.txt has '4'\. Give class indices from 0 to 3"),
        ("a 1\n\nb -1\n", r"Line 3 of .* has '-1'"),
        ("a 1.0", r"Line 1 of .* has '1.0'"),
        ("a cat", r"Line 1 of .* has 'cat'"),
        ("a b.jpg 1", r"Line 1 of .* has 'b.jpg'"),
        ("a 1,2", r"Line 1 of .* has '1,2'"),
        ("a ²", r"Line 1 of .* has '²'"),
        ("a 1\nb 0 2 0\n", r"Line 2 of .* names a class twice: 'b 0 2 0'"),
        ("a 1 01", r"Line 1 of .* names a class twice"),
        ("a 1\nb 2\na 1\n", r"Line 3 of .* is the second for image 'a'\. Keep one"),
    ],
)
def test_a_bad_line_is_named(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "tags.txt"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        read_tags(path, 4)


def test_a_number_of_any_length_is_named(tmp_path: Path) -> None:
    path = tmp_path / "tags.txt"
    path.write_text("a " + "9" * 5000)
    with pytest.raises(InputError, match="Line 1 of"):
        read_tags(path, 4)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere.txt cannot be read: .*Give a file with lines such as"):
        read_tags(tmp_path / "nowhere.txt", 4)
    with pytest.raises(InputError, match="cannot be read"):
        read_tags(tmp_path, 4)
    with pytest.raises(InputError, match="cannot be read"):
        read_tags(Path("~nobody-here/tags.txt"), 4)
    (tmp_path / "utf16.txt").write_text("a 1\n", encoding="utf-16")
    with pytest.raises(InputError, match=r"utf16.txt cannot be read: it is not UTF-8 text"):
        read_tags(tmp_path / "utf16.txt", 4)


@pytest.mark.parametrize(
    "name",
    [
        *("a b", "a\tb", "a\u00a0b", "a\u2028b", ""),
        *(name for name in (" a", "a ", "a\n")),
    ],
)
def test_a_name_that_the_format_cannot_hold_is_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / "tags.txt"
    path.write_text("old 0\n")

    def write_two() -> None:
        with tag_lines(path) as write:
            write("fine", [1])
            write(name, [1])

    with pytest.raises(InputError, match="or write JSON lines"):
        write_two()
    assert path.read_text() == "old 0\n"
    assert path.with_name("tags.txt.partial").read_text() == "fine 1\n"


def test_a_folder_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"is a folder\. Give a file"), tag_lines(tmp_path) as _:
        pass


def found(*names: str, root: str = "p") -> list[FoundImage]:
    return [FoundImage(Path(root, name), PurePosixPath(name)) for name in names]


def test_whole_names_come_before_last_parts() -> None:
    images = found("train/1.png", "val/1.png", "val/2.jpg", "3.v2.png")
    tags = {"train/1": (0,), "val/1": (1,), "2": (2,), "3.v2": (3,)}
    check_tags(images, tags)
    assert [tags_of(image, tags) for image in images] == [(0,), (1,), (2,), (3,)]
    assert [line for _, line, _ in tagged([*images, *found("4.png")], tags)] == list(tags)
    with pytest.raises(InputError, match=r"No tags given for the image 'val/4'"):
        tags_of(found("val/4.png")[0], tags)


@pytest.mark.parametrize(
    ("names", "lines"),
    [
        (("train/1.png", "val/1.png"), {"1": (0,)}),
        (("val/1.png", "train/1.png"), {"1": (0,)}),
        (("train/1.png", "val/1.png"), {"train/1": (1,), "1": (0,)}),
        (("train/1.png", "val/1.png"), {"val/1": (1,), "1": (0,)}),
        (("1.png", "train/1.png"), {"1": (0,)}),
        (("0.png", "train/1.png", "val/1.png"), {"0": (), "1": (0,)}),
        (("train/1.png", "train/1.jpg"), {"train/1": (0,)}),
    ],
)
def test_a_line_that_may_mean_two_images_is_refused(
    names: tuple[str, ...], lines: dict[str, tuple[int, ...]]
) -> None:
    one, two = (name for name in names if name[0] != "0")
    with pytest.raises(InputError, match=rf"may mean p/{one} or p/{two}\. "):
        check_tags(found(*names), lines)


def test_equal_names_that_the_lines_tell_apart_are_fine() -> None:
    check_tags(found("1.png", "train/1.png"), {"1": (0,), "train/1": (1,)})
    check_tags(found("train/1.png", "val/1.png"), {"train/1": (1,)})
    check_tags(found("train/1.png", "val/1.png"), {"2": (1,)})


def test_equal_names_of_two_folders_are_refused() -> None:
    images = [*found("1.png", root="a"), *found("1.png", root="b")]
    with pytest.raises(InputError, match=r"may mean a/1\.png or b/1\.png\. Rename one of them"):
        check_tags(images, {"1": (0,)})
    with pytest.raises(InputError, match=r"Two images are named '1'"):
        names_to_write(images)


def test_names_are_written_whole_only_where_files_share_a_name() -> None:
    assert names_to_write(found("train/1.png", "val/2.png")) == ["1", "2"]
    assert names_to_write(found("train/1.png", "val/1.png", "2.png")) == ["train/1", "val/1", "2"]
    with pytest.raises(InputError, match="whitespace"):
        names_to_write(found("a b/1.png", "1.png"))
    with pytest.raises(InputError, match=r"Two images are named 'a/1'"):
        names_to_write(found("a/1.png", "a/1.jpg"))
