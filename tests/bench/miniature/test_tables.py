"""Tables on the miniature data set: they run, share forward passes, and are formatted."""

from xml.etree import ElementTree

import numpy as np
import pytest
import torch

import tagmask
from tagmask.bench import catalogue
from tagmask.bench.miniature import measurements
from tagmask.bench.miniature.bootstrap import miou
from tagmask.bench.miniature.calibration import calibration_lines
from tagmask.bench.miniature.claims import Claim, claim_lines
from tagmask.bench.miniature.ground_truth import objects_only, present, scenes, word_classes
from tagmask.bench.miniature.line_chart import lines_svg
from tagmask.bench.miniature.measurements import mask_counts, tag_scores
from tagmask.bench.miniature.page import MeasuredTable, markdown, svg
from tagmask.bench.miniature.printed import PRINTED, printed_names
from tagmask.bench.miniature.rows import MaskRow, Table, TagRow
from tagmask.bench.miniature.run import (
    Measurements,
    changes,
    class_iou,
    measure,
    measure_setups,
    table_names,
    tables,
    thresholds,
)
from tagmask.bench.miniature.setups import COLOURED, MANY_WORDS, OBJECT_BACKGROUND, MaskSetup, TagSetup
from tagmask.bench.miniature.tables import MASK_TABLES, TAG_TABLES
from tagmask.bench.miniature.tagclip_scores import corrupted_cosines
from tagmask.clip.load import Clip
from tagmask.miniature.scenes import BACKGROUND_NAMES, CLASS_NAMES, COLOURS, Scene
from tagmask.pipelines.background_choice import choose_background


@pytest.fixture(scope="module")
def clip() -> Clip:
    return tagmask.load("miniature")


@pytest.fixture(scope="module")
def two_scenes() -> list[Scene]:
    return scenes(2)


def test_names_of_tables_and_rows_are_unique() -> None:
    assert len(set(table_names())) == len(table_names())
    assert len(set(printed_names())) == len(printed_names())
    assert set(table_names()) < set(printed_names())
    for table in (*TAG_TABLES, *MASK_TABLES):
        assert len({row.label for row in table.rows}) == len(table.rows)
        assert set(table.why) <= {row.label for row in table.rows}


def test_counts_equal_those_of_each_setup_alone(clip: Clip, two_scenes: list[Scene]) -> None:
    setups = {name: MaskSetup(name) for name in ("clip", "sclip")} | {"true": MaskSetup("sclip", tags="true")}
    counts = mask_counts(clip, two_scenes, setups)
    truth_tags = present(two_scenes)
    for name in ("clip", "sclip", "true"):
        method = "sclip" if name == "true" else name
        segmenter = tagmask.Segmenter(clip, CLASS_NAMES, background=BACKGROUND_NAMES, method=method)
        for i, scene in enumerate(two_scenes):
            tags = np.flatnonzero(truth_tags[i]).tolist() if name == "true" else None
            labels, truth = segmenter(scene.image, tags=tags).labels, objects_only(scene.labels)
            expected = np.zeros((25, 25), np.int64)
            np.add.at(expected, (truth, labels), 1)
            # Methods that share a forward pass round differently, which may change single pixels.
            assert np.abs(counts[name][i] - expected).sum() <= 8


def test_scores_equal_those_of_the_tagger(clip: Clip, two_scenes: list[Scene]) -> None:
    scores = tag_scores(
        clip, two_scenes, {"default": TagSetup(), "coarse": TagSetup((("dmar", False), ("cwr", False)))}
    )
    tagger = tagmask.Tagger(clip, CLASS_NAMES, background=BACKGROUND_NAMES)
    np.testing.assert_allclose(scores["default"][1], tagger(two_scenes[1].image).scores, rtol=0, atol=1e-6)
    # Best patches of the value path are TagCLIP's coarse scores.
    patches = tag_scores(clip, two_scenes, {"patches": TagSetup(patches="maskclip")})["patches"]
    np.testing.assert_allclose(patches, scores["coarse"], rtol=0, atol=1e-5)


def test_shared_setups_are_measured_once(
    clip: Clip, two_scenes: list[Scene], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, ...]] = []
    compare = tagmask.Segmenter.compare

    def counted(self: tagmask.Segmenter, image: object, methods: list[str], **rest: object) -> object:
        calls.append(tuple(methods))
        return compare(self, image, methods, **rest)  # type: ignore[arg-type]

    monkeypatch.setattr(measurements.Segmenter, "compare", counted)
    small = measure(clip, two_scenes[:1], ["sclip-1"])
    # Three methods without PAMR and three with it, each group in one forward pass; the CRF row runs alone.
    assert sorted(calls) == [("clip", "maskclip", "sclip")] * 2
    (measured,) = tables(small)
    assert [len(ours) for ours in measured.ours] == [201] * 7
    assert len(class_iou(small.counts[MaskSetup("sclip")])) == 25


def test_known_setups_are_not_measured_again(clip: Clip, two_scenes: list[Scene]) -> None:
    counts = np.zeros((2, 25, 25), np.int64)
    known = Measurements((), two_scenes, {}, {MaskSetup("sclip"): counts})
    both = measure_setups(clip, two_scenes, [MaskSetup("sclip"), MaskSetup("clip")], known)
    assert both.counts[MaskSetup("sclip")] is counts
    assert both.counts[MaskSetup("clip")].sum() == sum(scene.labels.size for scene in two_scenes)


def test_claims_say_whether_each_pair_is_in_order() -> None:
    names = ("clip", "maskclip", "sclip")
    setups = [MaskSetup(name) for name in names]
    # The diagonal grows from setup to setup, in every scene.
    counts = {
        setup: np.stack([np.diag([right] * 25) + 10 - right // 10 for _ in range(3)])
        for setup, right in zip(setups, (10, 20, 30), strict=True)
    }
    measured = Measurements((), scenes(3), {}, counts)
    clip, maskclip, sclip = setups
    lines = list(
        claim_lines(
            measured,
            [
                Claim("chain", ((sclip, maskclip), (maskclip, clip))),
                Claim("pairs", ((sclip, clip), (maskclip, sclip))),
                Claim("same", ((clip, clip),)),
            ],
        )
    )
    assert lines[2].startswith("| chain | ")
    assert lines[2].count(" > ") == 2
    assert lines[2].endswith("| yes |")
    assert lines[3].count(", ") == 1
    assert " < " in lines[3]
    assert lines[3].endswith("| no |")
    assert " = " in lines[4]
    assert lines[4].endswith("| no |")  # never above itself


def test_calibration_table(clip: Clip) -> None:
    setups = (TagSetup((("method", "clip"),)), TagSetup((("method", "piaa"),), adapted=True))
    lines = list(calibration_lines(clip, setups, labelled=(2, 3), tested=2))
    assert lines[0] == "| method | default | 2 scenes | 3 scenes |"
    assert [line.split(" | ")[0] for line in lines[2:4]] == ["| `clip`", "| `piaa`"]
    assert all(len(line.split(" | ")) == 4 for line in lines[2:4])


COLUMNS = {
    "mAP on VOC2007 test": ["tags-voc2007"],
    "mAP on VOC2012 val": ["tags-voc2012"],
    "mIoU on VOC2012 val": ["seg-voc2012"],
    "mIoU on VOC2012 (val; train for true tags)": ["seg-voc2012", "pseudo-voc2012"],
}
"""The columns of `bench list` that a table's figures come from; VOC21 for all others."""


def test_published_figures_are_those_of_the_catalogue_and_marked_where_unverified() -> None:
    checked = 0
    for table in (*TAG_TABLES, *MASK_TABLES):
        columns = COLUMNS.get(table.paper, ["voc21"])
        for row in table.rows:
            if row.paper is None:
                assert not row.unverified
                continue
            found = [c for c in catalogue.cells() if c.figure == row.paper and c.column.key in columns]
            assert found, f"{table.name}, {row.label}: {row.paper} is not in bench/figures"
            assert row.unverified == (not any(c.verified for c in found)), (table.name, row.label)
            checked += 1
    assert checked > 40


def test_every_part_prints_its_rows_and_draws_its_picture(clip: Clip) -> None:
    rng = np.random.default_rng(0)
    few = scenes(2)
    tags = {s: rng.random((2, 24), np.float32) for p in PRINTED for s in p.setups if isinstance(s, TagSetup)}
    masks = {
        s: rng.integers(1, 9, (2, 25, 25)) for p in PRINTED for s in p.setups if isinstance(s, MaskSetup)
    }
    measured = Measurements((), few, tags, masks)
    for part in PRINTED:
        if part.setups:
            lines = list(part.lines(clip, measured))
            assert lines[0].startswith("| ")
            assert not any(line.startswith("#") for line in lines)
        if part.picture is not None:
            assert part.picture(measured).startswith("<svg")


def test_higher_thresholds_choose_fewer_tags(two_scenes: list[Scene]) -> None:
    scores = np.random.default_rng(0).random((2, 24)).astype(np.float32)
    tags = [at.tags for at in thresholds(scores, two_scenes)]
    assert tags == sorted(tags, reverse=True)
    assert tags[0] > tags[-1] >= 1


@pytest.fixture
def measured() -> MeasuredTable:
    rows = (
        MaskRow("a <b>", MaskSetup("clip"), 20.0),
        MaskRow("better", MaskSetup(), 40.0, unverified=True),
        MaskRow("other", MaskSetup("gem")),
    )
    table = Table("t", "A table & more", "mIoU on X", rows, why={"better": "because"}, note="A note.")
    ours = tuple(np.concatenate([[value], np.full(200, value)]) for value in (30.0, 25.0, 10.0))
    return MeasuredTable(table, "mIoU", ours)


def test_markdown(measured: MeasuredTable) -> None:
    assert list(markdown(measured)) == [
        "### A table & more",
        "",
        "| | mIoU here | paper: mIoU on X | the paper's order |",
        "|---|---|---|---|",
        "| a <b> | 30.0 ± 0.0 | 20.0 | no: over better |",
        "| better | 25.0 ± 0.0 | 40.0 (unverified) | no: under a <b> |",
        "| other | 10.0 ± 0.0 |  |  |",
        "",
        "*better*: because",
        "",
        "A note.",
        "",
    ]


def test_svg(measured: MeasuredTable) -> None:
    drawn = svg(measured)
    assert "a &lt;b&gt;" in drawn
    assert "A table &amp; more" in drawn
    assert drawn.count("class='b'") == 3
    assert (drawn.count("class='p'"), drawn.count("class='p u'")) == (1, 1)
    assert "dashed: unverified" in drawn
    assert "paper: 40.0 (unverified)</title>" in drawn
    widths = [
        float(part.split("'")[0])
        for part in drawn.split("class='b' x='210' y=")[1:]
        for part in [part.split("width='")[1]]
    ]
    assert widths == sorted(widths, reverse=True)


def test_bars_mention_the_paper_only_if_it_has_a_figure(measured: MeasuredTable) -> None:
    assert "diamonds: the paper" in svg(measured)
    rows = (MaskRow("other", MaskSetup("gem")),)
    assert "diamonds" not in svg(MeasuredTable(Table("t", "T", "none", rows), "mIoU", measured.ours[2:]))


def test_lines_are_drawn_in_scale() -> None:
    rows = (
        *(TagRow(f"alone {x}", TagSetup(), point=("one & only", x)) for x in range(3)),
        *(TagRow(f"more {x}", TagSetup(), point=("several", x)) for x in range(2)),
    )
    values = (80.0, 84.0, 82.0, 83.0, 81.0)
    ours = tuple(np.concatenate([[value], np.full(200, value)]) for value in values)
    drawn = lines_svg(MeasuredTable(Table("t", "A <table>", "none", rows, axis="layer"), "mAP", ours))
    assert ElementTree.fromstring(drawn).attrib["aria-label"] == "A <table>"
    assert "one &amp; only" in drawn
    first, second = (
        [tuple(map(float, point.split(","))) for point in line.split("'")[0].split()]
        for line in drawn.split("points='")[1:]
    )
    # x grows in equal steps, y falls in proportion to the value; the lines stand side by side.
    assert np.ptp(np.diff([x for x, _ in first])) < 0.2
    heights = [y for _, y in (*first, *second)]
    slope = (heights[1] - heights[0]) / 4
    assert slope < 0
    np.testing.assert_allclose(heights, [heights[0] + slope * (value - 80) for value in values], atol=0.2)
    assert second[0][0] - first[0][0] == pytest.approx(4)


def test_setups_that_share_a_forward_pass_equal_the_tagger(clip: Clip, two_scenes: list[Scene]) -> None:
    setups = {
        "printed": TagSetup((("as_", "printed"),)),
        "kept": TagSetup((("last_attention", True), ("cwr", False))),
        "one layer": TagSetup((("attention_layers", (11,)), ("cwr", False))),
    }
    scores = tag_scores(clip, two_scenes, setups)
    for name, setup in setups.items():
        tagger = tagmask.Tagger(clip, CLASS_NAMES, background=BACKGROUND_NAMES, **dict(setup.settings))
        expected = [tagger(scene.image).scores for scene in two_scenes]
        np.testing.assert_allclose(scores[name], expected, rtol=0, atol=2e-5)


def test_corruption_is_drawn_from_the_scene_and_has_the_given_size() -> None:
    cosines = torch.full((400, 6), 0.2)
    noisy = TagSetup(noise=8.0)
    first = corrupted_cosines(cosines, noisy, 50.0, seed=3)
    assert torch.equal(first, corrupted_cosines(cosines, noisy, 50.0, seed=3))
    assert not torch.equal(first, corrupted_cosines(cosines, noisy, 50.0, seed=4))
    assert float((50 * (first - cosines)).std()) == pytest.approx(8, rel=0.05)
    # Half the noise is the same noise, halved.
    half = corrupted_cosines(cosines, TagSetup(noise=4.0), 50.0, seed=3)
    torch.testing.assert_close(2 * (half - cosines), first - cosines, rtol=0, atol=1e-6)
    false = corrupted_cosines(cosines, TagSetup(false_patches=0.05), 50.0, seed=3)
    changed = (false != cosines).any(dim=1)
    assert int(changed.sum()) == 20
    assert (false[changed].sort(dim=1).values == torch.tensor([-1.0] * 5 + [1.0])).all()
    assert len(false[changed].argmax(dim=1).unique()) > 3
    assert corrupted_cosines(cosines, TagSetup(), 50.0, seed=3) is cosines


def test_changes_are_those_of_scores_and_tags() -> None:
    coded = np.array([[0.1, 0.5, 0.2], [0.4, 0.1, 0.1]], np.float32)
    other = np.array([[0.1, 0.3, 0.3], [0.4, 0.1, 0.2]], np.float32)
    found = changes(other, coded)
    assert (found.mean, found.greatest) == (pytest.approx(0.15), pytest.approx(0.2))
    assert found.tags == 0.5


def test_background_lists_are_those_of_the_segmenter_and_the_tagger(
    clip: Clip, two_scenes: list[Scene]
) -> None:
    scene = two_scenes[:1]
    lists = {"own": BACKGROUND_NAMES, "one": ["grass"], "auto": choose_background(clip, CLASS_NAMES)}
    counts = mask_counts(clip, scene, {name: MaskSetup(background=name) for name in lists})
    scores = tag_scores(clip, scene, {name: TagSetup(background=name) for name in lists})
    for name, background in lists.items():
        segmenter = tagmask.Segmenter(clip, CLASS_NAMES, background=background)
        labels, truth = segmenter(scene[0].image).labels, objects_only(scene[0].labels)
        expected = np.zeros((25, 25), np.int64)
        np.add.at(expected, (truth, labels), 1)
        np.testing.assert_array_equal(counts[name][0], expected)
        tagger = tagmask.Tagger(clip, CLASS_NAMES, background=background)
        np.testing.assert_allclose(scores[name][0], tagger(scene[0].image).scores, rtol=0, atol=1e-6)
    assert not np.array_equal(counts["one"], counts["own"])
    assert "wall" in OBJECT_BACKGROUND
    assert "tree" not in OBJECT_BACKGROUND


def test_names_in_a_colour_are_right_where_such_an_object_is_visible(two_scenes: list[Scene]) -> None:
    assert len(set(MANY_WORDS)) == 200
    for scene in two_scenes:
        table = word_classes(scene)
        assert table[:25].tolist() == list(range(25))
        for label, (kind, colour) in enumerate(COLOURED, 25):
            visible = any((thing.kind, thing.colour) == (kind, colour) for thing in scene.content.things)
            assert table[label] == (kind + 1 if visible else 25)
            assert MANY_WORDS[label - 1] == f"{tuple(COLOURS)[colour]} {CLASS_NAMES[kind]}"
        assert len({kind for kind, _ in COLOURED}) == 24


def test_other_words_are_missing_from_the_class_and_belong_to_none() -> None:
    counts = np.zeros((1, 2, 3), np.int64)
    counts[0] = [[6, 0, 2], [1, 3, 0]]
    # Class 0: 6 of 8 true and 7 predicted pixels; class 1: 3 of 4 true and 3 predicted ones.
    (value,) = miou(counts, np.ones((1, 1), np.int64))
    assert value == pytest.approx(100 * (6 / 9 + 3 / 4) / 2)


def test_many_words_are_measured(clip: Clip, two_scenes: list[Scene]) -> None:
    scene = two_scenes[:1]
    quick = (("templates", ("a {}.",)),)
    counts = mask_counts(clip, scene, {"many": MaskSetup(settings=quick, names="many")})["many"]
    assert counts.shape == (1, 25, 26)
    assert counts.sum() == scene[0].labels.size
    segmenter = tagmask.Segmenter(clip, MANY_WORDS, background=BACKGROUND_NAMES, **dict(quick))
    found = word_classes(scene[0])[segmenter(scene[0].image).labels]
    assert counts[0, :, 25].sum() == (found == 25).sum()
    assert tag_scores(clip, scene, {"many": TagSetup(quick, names="many")})["many"].shape == (1, 24)
