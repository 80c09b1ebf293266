"""The papers' figures: complete, with a source, and each with the recipe that should reproduce it."""

from dataclasses import replace
from pathlib import Path

import pytest

from tagmask import recipes
from tagmask.bench.catalogue import all_tables, cells, protocol_of, published, reference_column, table
from tagmask.bench.protocol import METRICS, Protocol, made_recipe
from tagmask.bench.trained import TRAINED, ModelFile
from tagmask.errors import InputError
from tagmask.settings.parse import parse_assignments
from tagmask.settings.recipes import TagRecipe
from tagmask.weak.config import TrainConfig

SOURCES = {"[calc]", "[fig]", "[issue]", "[measured]", "[paper]", "[readme]", "[second-hand]", "[unverified]"}


def figure(table_name: str, row: str, column: str) -> float | None:
    matches = [c for c in table(table_name).cells if (c.row, c.column.key) == (row, column)]
    assert len(matches) == 1
    return matches[0].figure


def test_every_figure_has_a_source_and_a_plausible_value() -> None:
    for cell in cells():
        assert cell.source in SOURCES, cell
        if cell.figure is not None and cell.column.metric in METRICS:
            assert 0 < cell.figure < 100, cell
        assert cell.figure is not None or cell.command is not None, cell


def test_row_and_column_names_are_unique() -> None:
    for each in all_tables().values():
        assert len(set(each.rows)) == len(each.rows), each.name
        places = [(cell.row, cell.column.key) for cell in each.cells]
        assert len(set(places)) == len(places), each.name


@pytest.mark.parametrize(
    ("name", "row", "column", "printed"),
    [
        ("sclip-1", "SCLIP", "voc21", 59.1),
        ("sclip-readme", "SCLIP", "voc21", 59.63),
        ("sclip-1", "SCLIP+PAMR", "coco-stuff", 23.9),
        ("sclip-4", "mode 1: short side 224", "voc21", 56.5),
        ("tagclip-1", "kept", "seg-voc2012", 16.2),
        ("tagclip-2", "TagCLIP", "tags-coco2014", 68.8),
        ("tagclip-3", "CLS-SEG + CRF", "seg-voc2012", 68.7),
        ("tagclip-4", "both", "tags-voc2012", 94.1),
        ("clip-es", "CLIP-ES + CRF", "pseudo-voc2012", 75.0),
        ("weakclip-voc", "WeakCLIP, ResNet38 (I)", "test-voc2012", 73.8),
        ("variants", "SC-CLIP", "cityscapes", 41.0),
        ("naclip-readme", "NACLIP+PAMR", "ade20k", 19.05),
    ],
)
def test_figures_are_those_of_the_papers(name: str, row: str, column: str, printed: float) -> None:
    assert figure(name, row, column) == printed


def test_printed_means_match_the_eight_figures() -> None:
    for name in ("sclip-1", "variants", "naclip-readme"):
        each = table(name)
        for row in each.rows:
            figures = {c.column.key: c.figure for c in each.cells if c.row == row and c.figure is not None}
            mean = figures.pop("average", None)
            if mean is not None and len(figures) == 8 and row != "SFP":  # its printed mean differs
                assert sum(figures.values()) / 8 == pytest.approx(mean, abs=0.06), (name, row)


def test_recipes_of_the_four_systems_have_a_figure_with_known_exceptions() -> None:
    systems = ("tagclip", "sclip", "sclip+pamr", "cls-seg", "cls-seg+crf", "clip-es", "clip-es+crf")
    ours = [name for name in recipes() if name.partition("/")[0] in systems]
    without = {name for name in ours if reference_column(name) is None}
    assert without <= {
        "tagclip/coco2017",
        "tagclip/coco-stuff",
        "clip-es/coco2014",
        "clip-es+crf/coco2014",
        "sclip+pamr/coco-stuff10k",
    }
    for later in ("naclip/voc21", "resclip/ade20k", "sc-clip/voc20", "sfp/coco-stuff", "clearclip/voc20"):
        assert later in recipes()
        assert reference_column(later) is not None
    for name in (
        "sclip/voc21",
        "sclip+pamr/ade20k",
        "tagclip/voc2007",
        "cls-seg+crf/coco-stuff",
        "clip-es/voc2012",
    ):
        column = reference_column(name)
        assert column is not None
        assert column.data is not None
        assert column.recipe == name.partition("/")[2]


def test_figures_without_a_known_recipe_are_only_cited() -> None:
    cell = next(c for c in cells() if c.recipe == "sclip/voc21" and not c.settings)
    assert cell.command == "run sclip/voc21"
    assert replace(cell, recipe="nobody/voc21").command is None
    assert replace(cell, settings=("method=nobody",)).command is None
    assert replace(cell, recipe=None).command is None
    # A tagging recipe cannot fill a column of masks.
    assert replace(cell, recipe="tagclip/voc2012").command is None
    for cell in cells():
        alone = protocol_of(cell) is None and cell.other_command is None
        assert (cell.command is None) == (alone and not cell.plus)
        assert cell.recipe is None or cell.recipe in (*recipes(), *TRAINED) or cell.command is None


def test_figures_of_trained_networks_run_with_their_protocol_and_training() -> None:
    commands = {(c.table, c.row, c.column.key): c for c in cells("weakclip")}
    whole = commands["weakclip-readme", "WeakCLIP", "train-voc2012"]
    assert whole.command == "run weakclip/voc2012 --model MODEL"
    server = commands["weakclip-voc", "WeakCLIP, DeiT-S (I)", "test-voc2012"]
    assert server.command == "run student/voc2012 --model MODEL --split test --submission FILE.tar"
    plain = commands["weakclip-parts", "+ pyramid adapter", "train-voc2012"]
    assert plain.command is not None
    assert plain.command.endswith("--set scales=[1.0] --set flip=false --set crf=none")
    settings = TrainConfig().fingerprint_fields()
    for cell in commands.values():
        for name, value in parse_assignments(cell.training).items():
            assert type(settings[name]) is type(value), (cell.row, name)
    # The columns of trained networks take no recipe of a CLIP, and the others none of a trained network.
    assert all((c.recipe in TRAINED) == c.column.trained for c in cells() if c.recipe is not None)


def model(**training: object) -> ModelFile:
    return ModelFile(Path("m"), "weakclip", {f"model.{k}": v for k, v in training.items()}, None)


def test_published_figures_of_trained_networks_are_found_by_training() -> None:
    def rows(file: ModelFile, name: str = "weakclip/voc2012", split: str | None = "train", **changes: object):
        measured = Protocol(recipe=made_recipe(name, changes))
        return {(c.table, c.row) for c in published(measured, "voc2012", split, file)}

    one = {"scales": (1.0,), "flip": False, "crf": None}
    full = model(freeze="paper", contexts=8, co_attention=True, decoder="guided")
    assert rows(full) == {("weakclip-readme", "WeakCLIP")}
    checkpoint = ("weakclip-readme", "the released checkpoint, before multi-scale inference and CRF")
    assert rows(full, **one) == {checkpoint, ("weakclip-parts", "+ text-guided decoder")}
    frozen = model(freeze="paper", contexts=0, co_attention=False, decoder="none")
    assert rows(frozen, **one) == {checkpoint, ("weakclip-parts", "direct CLIP, frozen")}
    resnet = model(kind="deeplab-resnet38")
    assert rows(resnet, "student/voc2012", None) == {
        ("weakclip-readme", "WeakCLIP"), ("weakclip-voc", "WeakCLIP, ResNet38 (I)")
    }  # fmt: skip
    assert rows(model(kind="small"), "student/voc2012", None) == set()


def test_ablation_sets_the_tagger_s_parts() -> None:
    commands = {(c.row, c.column.key): c.command for c in table("tagclip-4").cells}
    assert commands["coarse", "seg-voc2012"] == (
        "run cls-seg/voc2012 --set tagger.dmar=false --set tagger.cwr=false"
    )
    assert commands["coarse + CWR", "tags-voc2012"] == "run tagclip/voc2012 --set dmar=false"
    assert all(commands.values())


def protocol(name: str, **settings: object) -> Protocol:
    column, recipe = reference_column(name), made_recipe(name, settings)
    assert column is not None
    return Protocol(recipe=recipe, metric=column.metric, average=column.average, groups=column.groups)


def test_published_figures_are_found_by_settings() -> None:
    def figures(name: str, data: str, **settings: object) -> set[tuple[str, float | None]]:
        return {(c.table, c.figure) for c in published(protocol(name, **settings), data, None)}

    plain = {("sclip-1", 59.1), ("sclip-readme", 59.63)}
    assert figures("sclip/voc21", "voc21") == plain
    refined = figures("sclip/voc21", "voc21", pamr_steps=10)
    assert refined == figures("sclip+pamr/voc21", "voc21") == {("sclip-1", 61.7)}
    assert figures("sclip/voc21", "voc21", logit_scale=64.0) == set()
    assert figures("sclip/voc21", "voc20") == set()
    both = figures("tagclip/voc2012", "voc2012")
    assert {("tagclip-4", 94.1), ("tagclip-files", 84.12)} <= both
    assert isinstance(protocol("tagclip/voc2012").recipe, TagRecipe)


def test_figures_are_found_by_pattern() -> None:
    assert {c.table for c in cells("tagclip-4")} == {"tagclip-4"}
    assert {c.row for c in cells("no*body")} == set()
    assert {c.row for c in cells("groupv?t")} == {"GroupViT"}
    assert {c.recipe for c in cells("cls-seg/voc2012")} == {"cls-seg/voc2012"}


def test_unknown_tables_are_refused() -> None:
    with pytest.raises(InputError, match=r"Unknown table .tagclip-44.\. Did you mean tagclip-4"):
        table("tagclip-44")


def test_columns_name_known_data_sets_and_splits() -> None:
    catalogue = pytest.importorskip("tagmask.data.catalogue")
    for column in {cell.column for cell in cells() if cell.column.data is not None}:
        split = catalogue.split_of(column.data, column.split)
        images = catalogue.DATASETS[column.data].splits[split]
        # A labelled column leaves out images without labels; the length of PASCAL Context's list is unknown.
        assert column.images in (images, None) or (column.labelled and column.images < images), column
