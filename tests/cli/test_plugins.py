"""Plugins: the programs of the docs, as files and as installed packages, in `mask`, `bench` and `data`."""

import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage

import tagmask
from tagmask import catalogue, plugins
from tagmask.clip.load import Clip
from tagmask.data import catalogue as data_catalogue
from tests.cli.conftest import Command, noise_image

ROOT = Path(__file__).parents[2]
SMALL = ("--set", "short_side=48", "--set", "crop=48", "--set", "stride=48", "--set", 'templates=["a {}."]')


def program(page: str, name: str) -> str:
    """The Python block of a page that follows "This is `name`"."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    found = re.search(rf"This is `{name}`:\n\n```python\n(.*?)```", text, flags=re.DOTALL)
    assert found, f"docs/{page} has no {name}"
    return found[1]


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Forget what a test registers."""
    monkeypatch.setattr(catalogue, "_REGISTERED", {})
    monkeypatch.setattr(data_catalogue, "_REGISTERED", {})
    plugins.load_installed.cache_clear()
    yield
    plugins.load_installed.cache_clear()


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    file = tmp_path / "mine.py"
    file.write_text(program("methods.md", "mine.py"))
    return file


@pytest.fixture
def orchard(tmp_path: Path) -> Path:
    file = tmp_path / "orchard.py"
    file.write_text(program("data.md", "orchard.py"))
    return file


@pytest.fixture
def trees(tmp_path: Path) -> Path:
    """The data set of `orchard.py`: two images in each split."""
    for split in ("val", "train"):
        folder = tmp_path / "trees" / split
        folder.mkdir(parents=True)
        for seed in (1, 2):
            noise_image(seed, (48, 64)).save(folder / f"{seed}.jpg")
            labels = np.random.default_rng(seed).integers(0, 4, (48, 64), dtype=np.uint8)
            PILImage.fromarray(labels).save(folder / f"{seed}.png")
    return tmp_path / "trees"


def test_the_attention_of_the_docs_has_14_lines(mine: Path) -> None:
    assert len([line for line in mine.read_text().splitlines() if line.strip()]) <= 14


def test_mask_with_the_attention_of_the_docs(
    command: Command, mine: Path, few_photos: Path, tmp_path: Path
) -> None:
    # Noise has no good mask, but two attentions give two masks of it.
    out, other = tmp_path / "out", tmp_path / "other"
    words = ("-w", "cat", "-w", "dog", "--no-background", "--precision", "float32")
    command("--plugin", mine, "mask", few_photos, *words, "-o", out, "--method", "value-key")
    command("mask", few_photos, *words, "-o", other, "--method", "clip")
    settings = json.loads((out / "run.json").read_text())["fields"]["settings"]
    assert (settings["method"], settings["share"]) == ("value-key", 0.5)
    masks = [
        [np.array(PILImage.open(run / "masks" / f"{name}.png")) for name in "ab"] for run in (out, other)
    ]
    assert any((a != b).any() for a, b in zip(*masks, strict=True))


def test_bench_with_the_attention_and_the_data_set_of_the_docs(
    command: Command,
    mine: Path,
    orchard: Path,
    trees: Path,
    tmp_path: Path,
    sclip_model: Clip,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tagmask.cli.bench.load_weights", lambda *options: sclip_model)
    both = ("--plugin", mine, "--plugin", orchard, "bench")
    options = ("--data", trees, *SMALL, "-o", tmp_path / "results")
    done = command(*both, "value-key/orchard", *options, "--set", "share=0.8")
    assert re.search(r"^value-key/orchard .*share=0\.8 on orchard, 2 images: mIoU \d", done.stdout)
    other = command(*both, "run", "sclip/orchard", *options, "--split", "train", "--refine", "pamr")
    assert "on orchard train, 2 images: mIoU" in other.stdout
    shared = command(*both, "sclip/orchard", *options, "--set", "method=value-key")
    assert "method=value-key on orchard, 2 images: mIoU" in shared.stdout
    results = [json.loads(file.read_text()) for file in (tmp_path / "results").glob("*/result.json")]
    assert list(results[0]["classes"]) == ["background", "apple", "leaf", "branch, twig"]
    assert sorted(result["about"]["recipe"]["method"] for result in results) == [
        "sclip", "value-key", "value-key"
    ]  # fmt: skip


def test_data_commands_know_a_registered_data_set(command: Command, orchard: Path, trees: Path) -> None:
    listed = command("--plugin", orchard, "data", "list").stdout
    assert re.search(r"^orchard +custom data set\n +val, train$", listed, flags=re.MULTILINE)
    assert (
        "2 of 2 are valid" in command("--plugin", orchard, "data", "check", "orchard", trees, "--read").stdout
    )
    (trees / "val" / "1.png").unlink()
    checked = command("--plugin", orchard, "data", "check", "orchard", trees, code=1)
    assert re.search(r"! masks +1 of 2 files exist; missing: .*1\.png", checked.stdout)
    unknown = command("--plugin", orchard, "data", "check", "orchid", trees, code=2)
    assert "Unknown data set 'orchid'. Did you mean orchard? See `tagmask data list`." in unknown.stderr
    split = command("--plugin", orchard, "bench", "sclip/orchard", "--data", trees, "--split", "test", code=2)
    assert "Unknown split of orchard 'test'. Give one of val, train" in split.stderr


def test_folders_of_masks_are_scored_on_a_registered_data_set(
    command: Command, orchard: Path, trees: Path, tmp_path: Path
) -> None:
    (tmp_path / "masks").mkdir()
    for seed in (1, 2):
        (tmp_path / "masks" / f"{seed}.png").write_bytes((trees / "val" / f"{seed}.png").read_bytes())
    scored = command(
        "--plugin", orchard, "bench", "masks", tmp_path / "masks", "--dataset", "orchard", "--data", trees
    )
    assert "mIoU 100.00" in scored.stdout


def test_recipes_of_registered_methods_are_sclip_s(mine: Path) -> None:
    plugins.run_files([mine])
    base, own = tagmask.recipe("sclip+pamr/voc21"), tagmask.recipe("value-key+pamr/voc21")
    assert (own.name, own.method) == ("value-key+pamr/voc21", "value-key")
    changed = {"name", "method", "variant"}
    assert {name: value for name, value in vars(own).items() if name not in changed} == {
        name: value for name, value in vars(base).items() if name not in changed
    }
    with pytest.raises(
        tagmask.TagmaskError, match=r"Unknown recipe 'value-key/voc22'\. Did you mean value-key"
    ):
        tagmask.recipe("value-key/voc22")


def test_every_method_has_a_recipe_for_a_registered_data_set(orchard: Path) -> None:
    plugins.run_files([orchard])
    words = ("apple", "leaf", "branch, twig")
    for gives in ("masks", "tags"):
        for name in catalogue.method_names(gives):
            made = tagmask.recipe(f"{name}/orchard")
            assert (made.name, made.method, made.words) == (f"{name}/orchard", name, words)
            assert made.gives == "masks" or name not in catalogue.method_names("masks")
    with pytest.raises(tagmask.TagmaskError, match=r"Unknown method 'scilp'\. Did you mean sclip"):
        tagmask.recipe("scilp/orchard")


def test_a_data_set_without_words_has_no_recipes() -> None:
    scenes = data_catalogue.DATASETS["miniature"].open
    tagmask.register_dataset("scenes", lambda root, split: scenes(root, "test"))
    assert len(data_catalogue.open_dataset("scenes", Path()).samples) == 300
    with pytest.raises(tagmask.TagmaskError, match="Unknown recipe 'sclip/scenes'"):
        tagmask.recipe("sclip/scenes")


def test_background_of_a_registered_data_set(orchard: Path) -> None:
    scenes = data_catalogue.DATASETS["miniature"].open
    for name, background in (("open", None), ("closed", []), ("own", ["grass", "sky"])):
        tagmask.register_dataset(name, scenes, words=["cat", "tree"], background=background)
    made = {name: tagmask.recipe(f"sclip/{name}") for name in ("open", "closed", "own")}
    assert "sky" in made["open"].background
    assert "tree" not in made["open"].background
    assert made["closed"].background == ()
    assert made["own"].background == ("grass", "sky")


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("voc21", {}, "Data set 'voc21' is built in. Register yours under another name"),
        ("coco-stuff-10k", {}, "Data set 'coco-stuff-10k' is built in"),
        ("My Trees", {}, "Invalid data set name 'My Trees'. Use lower-case letters, digits and hyphens"),
        ("trees", {"splits": {}}, "Data set 'trees' has no splits"),
        ("trees", {"words": ["cat", "cat"]}, "words has 'cat' twice"),
        ("trees", {"words": "cat"}, "words is 'cat'. Give a list of texts"),
    ],
)
def test_invalid_data_sets_are_refused(name: str, settings: dict[str, object], message: str) -> None:
    with pytest.raises(tagmask.TagmaskError, match=re.escape(message)):
        tagmask.register_dataset(name, data_catalogue.DATASETS["miniature"].open, **settings)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("none.py", None, "is not a Python file"),
        ("text.txt", "x", "is not a Python file"),
        ("bad.py", "1 +", "failed: SyntaxError"),
        (
            "taken.py",
            "import tagmask\ntagmask.register_method('sclip', lambda x: None)",
            "'sclip' is built in",
        ),
    ],
)
def test_invalid_files_are_refused(
    name: str, text: str | None, message: str, command: Command, tmp_path: Path
) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    assert message in command("--plugin", tmp_path / name, "methods", code=2).stderr


# -- Installed packages ------------------------------------------------------------------------------------


def install(folder: Path, name: str, program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install a package of one module, whose entry point names it."""
    (folder / f"{name}.py").write_text(program)
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{plugins.GROUP}]\n{name} = {name}\n")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, name, raising=False)


@pytest.mark.parametrize(
    "ask",
    [
        lambda: catalogue.method("value-key", "masks"),
        lambda: data_catalogue.entry("orchard"),
        lambda: tagmask.recipe("value-key/voc21"),
        lambda: tagmask.recipe("sclip/orchard"),
        lambda: tagmask.methods()["value-key"],
        lambda: data_catalogue.known_datasets()["orchard"],
    ],
    ids=["method", "data set", "method's recipe", "data set's recipe", "methods", "data sets"],
)
def test_an_installed_plugin_is_imported_when_it_is_needed(
    ask: Callable[[], object], mine: Path, orchard: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site"
    site.mkdir()
    install(site, "installed_plugin", mine.read_text() + orchard.read_text(), monkeypatch)
    assert catalogue.method("sclip", "masks")
    assert data_catalogue.entry("voc21")
    assert tagmask.recipe("sclip/voc21")
    assert "installed_plugin" not in sys.modules
    assert ask()
    assert "installed_plugin" in sys.modules
    monkeypatch.delitem(sys.modules, "installed_plugin")


def test_a_broken_installed_plugin_is_named_and_left_out(
    command: Command, mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site"
    site.mkdir()
    install(site, "broken_plugin", "1 / 0\n", monkeypatch)
    install(site, "sound_plugin", mine.read_text(), monkeypatch)
    listed = command("methods")
    assert "value-key" in listed.stdout
    assert "The plugin broken_plugin (broken_plugin) failed: ZeroDivisionError" in listed.stderr
    monkeypatch.delitem(sys.modules, "sound_plugin")
