"""Generated tables and pictures of the pages: none is stale, and every kind of fault is found.

The first test is the one that fails when a page has to be made anew: its messages say how (`make figures`).
"""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from benchmarks.figures import checks, lists, registry, report_pictures, stamps
from benchmarks.figures.__main__ import main, make
from benchmarks.figures.blocks import ROOT, Block, Page, pages
from benchmarks.figures.checks import Problem, date_measured, problems
from benchmarks.figures.registry import FIGURES, Figure, Made, by_name
from benchmarks.figures.report_pictures import BrowserMissingError
from benchmarks.figures.work import Work

from tagmask.bench.miniature.run import Measurements
from tagmask.bench.miniature.setups import MaskSetup, TagSetup
from tagmask.miniature.scenes import Scene

OTHER = "0123456789ab"


def test_no_table_or_picture_of_the_pages_is_stale() -> None:
    assert [str(problem) for problem in problems(pages())] == []


# -- Deliberate faults in a copy of the pages --------------------------------------------------------------


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A copy of all pages and their pictures."""
    for page in pages():
        target = tmp_path / page.path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(page.path, target)
    shutil.copytree(ROOT / "docs" / "images", tmp_path / "docs" / "images")
    return tmp_path


def found(root: Path) -> list[Problem]:
    return problems(pages(root))


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new, 1), encoding="utf-8")


def block_of(root: Path, name: str) -> tuple[Page, Block]:
    ((page, block),) = [(page, b) for page in pages(root) for b in page.blocks if b.name == name]
    return page, block


def other_model(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (checks, lists, registry):
        monkeypatch.setattr(module, "weights_hash", lambda: OTHER)


def measure_again(root: Path) -> None:
    """Write that the texts in `MEASURED` were measured with the present model, and sign them."""
    for page in pages(root):
        text = page.text
        for block in page.blocks:
            earlier = block.stamps.get("weights", "")
            if block.name in MEASURED and earlier != stamps.weights_hash():
                told = block.content.replace(
                    f"an earlier bundled model, `{earlier}`", "the bundled model `HASH`"
                )
                text = text.replace(block.content, told.replace("HASH", stamps.weights_hash()))
        page.path.write_text(text, encoding="utf-8")
    for name in MEASURED:
        main(["--sign", name], root)


MEASURED = ("weak", "training", "precision", "terminal")


def test_a_copy_without_faults_has_no_problem(root: Path) -> None:
    assert found(root) == []


def test_a_table_edited_by_hand(root: Path) -> None:
    edit(root / "docs" / "miniature.md", "| CLIP + PAMR | ", "| CLIP + PAMR | 9")
    (problem,) = found(root)
    assert (problem.page, problem.figure) == ("miniature.md", "sclip-1")
    assert "edited or exchanged by hand. Run `make figures ONLY=sclip-1`" in problem.text


@pytest.mark.parametrize("name", ["world.jpg", "report.png", "training.jpg", "miniature-sclip-1.svg"])
def test_a_picture_edited(root: Path, name: str) -> None:
    file = root / "docs" / "images" / name
    file.write_bytes(file.read_bytes() + b" ")
    assert [problem.figure for problem in found(root)] == [name.partition(".")[0].removeprefix("miniature-")]


def test_a_picture_exchanged_or_absent(root: Path) -> None:
    images = root / "docs" / "images"
    shutil.copy(images / "world.jpg", images / "methods.jpg")
    (images / "miniature-family.svg").unlink()
    assert [problem.figure for problem in found(root)] == ["methods", "family"]


def test_another_model(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measure_again(root)
    assert found(root) == []
    other_model(monkeypatch)
    text = {problem.figure: problem.text for problem in found(root)}
    for figure in FIGURES:
        assert (figure.name in text) == ("weights" in figure.stamps() or figure.name == "bundled-model")
    assert "it is stale: weights changed since it was made" in text["sclip-1"]
    assert "the catalogue changed" in text["bundled-model"]
    assert "quotes figures of an earlier bundled model" in text["miniature-prose"]
    assert "the text does not say so. `make figures` corrects that." in text["weak"]
    assert "weak-cost" not in text  # random weights

    for page in pages(root):
        page.path.write_text(date_measured(page).text, encoding="utf-8")
    assert "an earlier bundled model, `" in block_of(root, "weak")[1].content
    assert not {problem.figure for problem in found(root)} & {*MEASURED}
    monkeypatch.undo()
    assert {problem.figure for problem in found(root)} >= {"weak", "training"}  # it is the present one again


def test_a_hand_edit_of_measured_text_is_not_signed_by_dating_it(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit(root / "docs" / "training.md", "63.4", "66.4")
    other_model(monkeypatch)
    page = block_of(root, "weak")[0]
    dated = date_measured(page)
    assert next(b for b in dated.blocks if b.name == "weak") == block_of(root, "weak")[1]


def test_measured_text_is_signed(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit(root / "docs" / "training.md", "| 63.4 |", "| 66.4 |")
    assert main(["--check"], root) == 1
    assert "docs/training.md: weak" not in capsys.readouterr().out
    assert main(["--sign", "weak"], root) == 0
    assert found(root) == []
    with pytest.raises(SystemExit, match="No measured or reviewed block is called sclip-1"):
        main(["--sign", "sclip-1"], root)


def test_reviewed_text_names_its_weights(root: Path) -> None:
    edit(root / "docs" / "miniature.md", f"reviewed miniature-prose weights={stamps.weights_hash()}",
         f"reviewed miniature-prose weights={OTHER}")  # fmt: skip
    assert [problem.figure for problem in found(root)] == ["miniature-prose"]
    assert main(["--sign", "miniature-prose"], root) == 0


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ("<!-- /figure sclip-1 -->", "", "malformed"),
        ("<!-- figure world", "<!-- figure wörld", "malformed"),
        ("weights=none ", "", "must see the weights"),
        ("<!-- measured weak-cost: `", "<!-- measured weak-cost weights=none ", "malformed"),
    ],
)
def test_a_damaged_mark(root: Path, old: str, new: str, match: str) -> None:
    for page in pages(root):
        text = page.path.read_text(encoding="utf-8")
        page.path.write_text(text.replace(old, new), encoding="utf-8")
    try:
        texts = [problem.text for problem in found(root)]
    except ValueError as error:
        texts = [str(error)]
    assert any(match in text for text in texts), texts


def test_a_block_missing_or_doubled_or_unknown(root: Path) -> None:
    page, block = block_of(root, "tagclip-1")
    page.path.write_text(page.text.replace(str(block), ""), encoding="utf-8")
    assert [problem.figure for problem in found(root)] == ["tagclip-1"]
    page.path.write_text(page.text + str(block), encoding="utf-8")
    assert "stands 2 times" in found(root)[0].text
    page.path.write_text(page.text + str(replace(block, name="tagclip-9")), encoding="utf-8")
    assert [problem.figure for problem in found(root)] == ["tagclip-9"]


def test_figures_and_pictures_outside_a_block(root: Path) -> None:
    with (root / "docs" / "methods.md").open("a", encoding="utf-8") as page:
        page.write("\n| method | mIoU |\n|---|---|\n| `sclip` | 28.2 |\n| 1.5 ± 0.2 | x |\n| v2.0 | 1 |\n")
        page.write("\n![A photo](images/world.jpg)\n![Elsewhere](https://example.org/a.png)\n")
    assert [problem.figure for problem in found(root)] == [
        "images/world.jpg",
        "| `sclip` | 28.2 |",
        "| 1.5 ± 0.2 |",
    ]


def test_a_changed_catalogue(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = lists.tagmask.recipes()
    monkeypatch.setattr(lists.tagmask, "recipes", lambda: names[1:])
    stale = [problem.figure for problem in found(root)]
    assert stale == ["recipes"]


# -- Hashes ------------------------------------------------------------------------------------------------


def test_settings_change_the_hash_unless_they_are_off() -> None:
    plain, pamr = MaskSetup(), MaskSetup(settings=(("pamr_steps", 3),))
    assert stamps.settings_hash((plain,)) == stamps.settings_hash((MaskSetup("sclip"),))
    hashes = {
        stamps.settings_hash((each,)) for each in (plain, pamr, MaskSetup("maskclip"), MaskSetup(tags="true"))
    }
    assert len(hashes) == 4
    taggers = (TagSetup(), TagSetup(adapted=True), TagSetup(patches="clip"))
    assert len({stamps.settings_hash((each,)) for each in taggers}) == 3
    assert stamps.settings_hash((plain,), "a label") != stamps.settings_hash((plain,), "another")
    assert stamps.canonical({"new": None, "old": 1}) == stamps.canonical({"old": 1, "other": False})


def test_drawings_change_the_hash_but_rounding_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    original, before = stamps.unseen_scene, stamps.scenes_hash()

    def changed(amount: int, step: int) -> str:
        def draw(seed: int) -> Scene:
            scene = original(seed)
            image = scene.image.copy()
            image[::step, ::step] = np.where(image[::step, ::step] < 128, image[::step, ::step] + amount, 127)
            return replace(scene, image=image)

        monkeypatch.setattr(stamps, "unseen_scene", draw)
        return stamps.scenes_hash.__wrapped__()

    assert changed(0, 999) == before
    assert changed(20, 2) != before


@pytest.mark.parametrize("name", ["world", "page"])
def test_pictures_depend_on_drawings_and_layout(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "world":
        before, sheet = stamps.drawings_hash(), np.asarray(stamps.world()).copy()
        sheet[:96, :96] //= 2
        monkeypatch.setattr(stamps, "world", lambda: sheet)
        assert stamps.drawings_hash.__wrapped__() != before
    else:
        before, render = stamps.page_hash(), stamps.render
        monkeypatch.setattr(stamps, "render", lambda *rest: render(*rest).replace("<header>", "<header >"))
        assert stamps.page_hash.__wrapped__() != before


# -- Making ------------------------------------------------------------------------------------------------


def test_a_made_figure_is_written_with_its_hashes(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = root / "docs" / "methods.md"
    with page.open("a", encoding="utf-8") as file:
        file.write("\n<!-- figure new -->\n<!-- /figure new -->\nAfter it.\n")
    made = Made("![Bars](images/new.svg)\n\n| a | 1.5 |\n", {"new.svg": b"<svg/>"})
    new = Figure("new", "tagmask new", lambda: {"weights": OTHER}, lambda work: made)
    figures = (*FIGURES, new)
    assert "not made yet" in problems(pages(root), figures)[0].text
    make(new, Work(0), root)
    assert (root / "docs" / "images" / "new.svg").read_bytes() == b"<svg/>"
    block = block_of(root, "new")[1]
    assert (block.command, block.stamps["weights"], block.content) == ("tagmask new", OTHER, made.text)
    assert page.read_text(encoding="utf-8").endswith("<!-- /figure new -->\nAfter it.\n")
    assert problems(pages(root), figures) == []
    changed = replace(new, stamps=lambda: {"weights": "ffffffffffff"})
    assert "weights changed" in problems(pages(root), (*FIGURES, changed))[0].text
    renamed = replace(new, command="tagmask other")
    assert "its command is now" in problems(pages(root), (*FIGURES, renamed))[0].text


def test_quick_figures_are_made_by_name(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit(root / "README.md", "| tags | `tagclip` |", "| tags | `tigclap` |")
    before = (root / "docs" / "miniature.md").read_bytes()
    assert main(["recip*", "world", "--skip", "world"], root) == 0
    assert "1 of 1: recipes" in capsys.readouterr().out
    assert found(root) == []
    assert (root / "docs" / "miniature.md").read_bytes() == before
    assert main(["--stale"], root) == 0
    assert capsys.readouterr().out == ""
    with pytest.raises(SystemExit):
        main(["no-such-figure"], root)


def test_without_a_browser_other_figures_are_made(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(report_pictures.shutil, "which", lambda name: None)
    with pytest.raises(BrowserMissingError):
        report_pictures.report_pictures("report")
    assert main(["report", "recipes"], root) == 1
    printed = capsys.readouterr()
    assert "report: Chromium is not installed" in printed.err
    assert "recipes" in printed.out


def test_every_command_is_one_that_exists() -> None:
    for name, figure in by_name().items():
        words = figure.command.split()
        assert words[0] == "tagmask" or words[:2] == ["python", "-m"]
        if "--table" in words:
            assert words[words.index("--table") + 1] == name


def test_tables_share_measurements(monkeypatch: pytest.MonkeyPatch) -> None:
    known = []

    def measure(clip: object, scenes: object, setups: list[MaskSetup], before: Measurements) -> Measurements:
        known.append(set(before.counts))
        return replace(
            before, counts={**before.counts, **{each: np.zeros((1, 25, 25), int) for each in setups}}
        )

    monkeypatch.setattr("benchmarks.figures.work.measure_setups", measure)
    monkeypatch.setattr(Work, "clip", None)
    work, first, second = Work(1), MaskSetup(), MaskSetup("clip")
    work.measure([first])
    assert set(work.measure([second]).counts) == {first, second}
    assert known == [set(), {first}]
