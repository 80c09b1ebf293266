import json
import os
import time

import pytest

from tagmask.errors import ImageError, InputError
from tagmask.runs import folder as module
from tagmask.runs.classes import Classes
from tagmask.runs.folder import RunFolder
from tagmask.runs.identity import RunIdentity, read_identity
from tagmask.runs.ownership import claim_output, leave_out_outputs
from tagmask.runs.reader import Run
from tagmask.runs.rows import ImageResult
from tagmask.runs.shards import Shard
from tagmask.runtime.folders import find_images
from tests.runs.many_images import many_images
from tests.runs.stub_producer import IDENTITY, opened, produce


def planned(run, photos, **more):
    with opened(run) as folder:
        return folder.plan(find_images([photos]), **more)


def test_a_run_is_written_whole_and_gone_on_with(run, photos, tree):
    produce(photos, run)
    names = [f"{'a' if i % 2 else 'b'}/{i:02d}" for i in range(10)]
    files = {"run.json", "run.db", "classes.json"}
    files |= {f"masks/{n}.png" for n in names} | {f"overlays/{n}.jpg" for n in names}
    assert set(tree(run)) == files
    with Run(run) as done:
        assert [row.key for row in done] == sorted(f"photos/{n}.png" for n in names)
        assert done.counts == {"todo": 0, "done": 10, "failed": 0}
    before = tree(run)
    plan = planned(run, photos)
    assert (plan.total, plan.done, plan.todo, plan.summary()) == (10, 10, 0, "10 of 10 were done")
    assert {k: v for k, v in tree(run).items() if k != "run.db"} == {
        k: v for k, v in before.items() if k != "run.db"
    }


def test_what_changed_joined_failed_vanished_or_lost_its_mask_is_told_apart(run, photos):
    produce(photos, run)
    with opened(run) as folder:
        (image,) = (task for task in folder.plan(find_images([photos]), again=True) if task.name == "a/01")
        for task in folder.plan(find_images([photos])):
            if task.name == "a/01":
                torn = f"{photos}/a/01.png is torn"
                assert folder.fail(task, ImageError(torn)) == torn
            else:
                folder.done(task, ImageResult())
    with Run(run) as rows:
        assert [row.error for row in rows.failed] == ["a/01.png is torn"]
    (photos / "a/03.png").write_bytes(b"changed")
    os.utime(photos / "a/05.png", ns=(1, 1))
    (photos / "a/07.png").unlink()
    (run / "masks/a/09.png").unlink()
    (photos / "a/new.png").write_bytes(b"new")
    plan = planned(run, photos)
    assert [task.name for task in plan] == ["a/01", "a/03", "a/05", "a/09", "a/new"]
    counts = {
        name: getattr(plan, name) for name in ("total", "done", "retried", "changed", "missing", "vanished")
    }
    assert counts == {"total": 10, "done": 5, "retried": 1, "changed": 2, "missing": 1, "vanished": 1}
    assert plan.vanished_keys == ("photos/a/07.png",)
    assert image.key == "photos/a/01.png"
    assert [task.name for task in planned(run, photos)] == [task.name for task in plan]  # killed before work


def test_images_that_are_not_given_this_time_are_kept_and_not_done(run, photos):
    produce(photos / "a", run)
    plan = planned(run, photos / "b")
    assert (plan.total, plan.todo, plan.not_given, plan.vanished) == (5, 5, 5, 0)


def test_names_stay_and_newcomers_take_free_ones(run, photos):
    produce(photos, run)
    (photos / "a/01.jpg").write_bytes(b"01")
    (photos / "A").mkdir()
    (photos / "A/03.png").write_bytes(b"03")
    (run / "masks/a/mine.png").write_bytes(b"of a person")
    (photos / "a/mine.png").write_bytes(b"mine")
    with opened(run) as folder:
        new = {task.key: task.name for task in folder.plan(find_images([photos]))}
    assert new == {
        "photos/a/01.jpg": "a/01.jpg",
        "photos/A/03.png": "A/03.png",
        "photos/a/mine.png": "a/mine-2",
    }
    with Run(run) as done:
        assert done["photos/a/01.png"].name == "a/01"
        assert done["photos/a/03.png"].name == "a/03"


def test_again_redoes_all_and_corrections_stay_stale_where_the_source_changed(run, photos):
    produce(photos, run)
    corrected = run / "corrected/a/01.png"
    corrected.parent.mkdir(parents=True)
    corrected.write_bytes(b"corrected")
    with opened(run) as folder:
        for row in list(folder.database.rows()):
            if row.name in ("a/01", "a/03"):
                folder.database.set_review(row.id, "corrected")
    (photos / "a/01.png").write_bytes(b"changed")
    plan = planned(run, photos, again=True)
    assert plan.todo == 10
    produce(photos, run)
    with Run(run) as done:
        stale = {row.name: row.stale for row in done.select(review="corrected")}
        assert done.mask_path(done["photos/a/01.png"]) == corrected
    assert stale == {"a/01": True, "a/03": False}
    assert corrected.read_bytes() == b"corrected"


def test_photos_moved_with_their_folder_are_the_same_photos(run, photos, tmp_path):
    produce(photos, run)
    photos.parent.joinpath("elsewhere").mkdir()
    moved = photos.rename(photos.parent / "elsewhere/photos")
    assert planned(run, moved).done == 10
    with Run(run) as done:
        assert {row.source.parent.parent for row in done} == {moved}


def test_another_fingerprint_is_refused_untouched_naming_each_difference(run, photos, tree):
    produce(photos, run)
    before = tree(run)
    with pytest.raises(InputError, match=r"words were cat, dog, are cat; refine was not set, is pamr"):
        opened(run, RunIdentity("mask", {"words": ["cat"], "refine": "pamr"}))
    assert tree(run) == before


@pytest.mark.parametrize(
    "name",
    [
        "masks/x.png",
        "overlays/x.jpg",
        "corrected/x.png",
        "classes.json",
        "annotations.json",
        "run.json",
        "run.lock",
        "run.db",
    ],
)
def test_what_tagmask_did_not_write_is_refused_untouched(run, name, tree):
    (run / name).parent.mkdir(parents=True)
    (run / name).write_bytes(b"of a person")
    before = tree(run)
    with pytest.raises(InputError, match=name.partition("/")[0]):
        opened(run)
    assert tree(run) == before


def test_outputs_of_before_there_were_runs_are_refused_untouched(run, tree):
    for folder in ("masks", "overlays"):
        (run / folder).mkdir(parents=True)
        (run / folder / "x.png").write_bytes(b"old")
    (run / "classes.json").write_text('{"nothing": 255, "classes": [{"index": 0, "name": "cat"}]}')
    before = tree(run)
    with pytest.raises(InputError, match="Choose another folder, or move masks away"):
        opened(run)
    assert tree(run) == before


def test_links_that_lead_nowhere_are_in_the_way_too(run):
    run.mkdir()
    (run / "classes.json").symlink_to(run / "nowhere")
    with pytest.raises(InputError, match=r"classes\.json"):
        opened(run)
    assert not (run / "nowhere").exists()


def test_empty_folders_are_not_in_the_way(run):
    (run / "masks").mkdir(parents=True)
    opened(run).close()


def test_a_run_that_lost_its_database_is_refused(run, photos):
    produce(photos, run)
    (run / "run.db").unlink()
    with pytest.raises(InputError, match=r"lost its run\.db"):
        opened(run)


def test_parts_of_dead_processes_are_swept_and_nothing_else(run, photos):
    produce(photos, run)
    plain = ".tagmask-0123456789abcdef.part"
    dead, alive = (f".tagmask-{pid}-0123456789abcdef.part" for pid in (2**22 + 1, os.getpid()))
    fresh, minutes, hours = 0, 120, 7200
    swept = [
        ("masks", plain, fresh),
        ("masks/a", alive, fresh),
        ("overlays/b", dead, fresh),
        ("", plain, fresh),
    ]
    swept += [("", dead, fresh), ("corrected", dead, minutes), ("corrected", plain, hours)]
    kept = [("", alive, fresh), ("corrected/x", dead, fresh), ("corrected/x", plain, minutes)]
    kept += [("masks", ".tagmask-0.part", hours), ("", "other.part", hours), ("corrected", "x.png", hours)]
    for folder, name, age in swept + kept:
        path = run / folder / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_bytes(b"part")
        os.utime(path, (time.time() - age, time.time() - age))
    opened(run).close()
    assert [(folder, name) for folder, name, _ in swept if (run / folder / name).exists()] == []
    assert [(folder, name) for folder, name, _ in kept if not (run / folder / name).exists()] == []


def test_outputs_of_earlier_runs_are_not_photos(photos, tmp_path):
    produce(photos, photos)
    found = find_images([photos])
    assert len(found) == 30
    assert len(leave_out_outputs(found)) == 10
    (photos / "albums/masks").mkdir(parents=True)
    (photos / "albums/masks/carnival.png").write_bytes(b"a photo of masks")
    assert len(leave_out_outputs(find_images([photos]))) == 11
    assert len(leave_out_outputs(find_images([photos / "masks"]))) == 10  # asked for by name
    with pytest.raises(InputError, match="masks or overlays"):
        leave_out_outputs(find_images([photos / "masks"]), photos)


def test_shards_have_the_names_of_the_full_listing(run, photos, tmp_path):
    (photos / "a/01.jpg").write_bytes(b"01")
    names = {}
    for i in (1, 2):
        with opened(tmp_path / f"run{i}") as folder:
            plan = folder.plan(find_images([photos]), shard=Shard(i, 2))
            names |= {task.key: task.name for task in plan}
            assert 0 < plan.todo == plan.total < 11
    with opened(run) as folder:
        assert names == {task.key: task.name for task in folder.plan(find_images([photos]))}


def test_outputs_beside_the_images_are_claimed_once_and_never_taken(run):
    with opened(run) as folder:
        path = claim_output(folder.path, "annotations.json")
        path.write_text("ours")
        assert claim_output(folder.path, "annotations.json") == path
        (run / "other.json").write_text("of a person")
        with pytest.raises(InputError, match="in the way"):
            claim_output(folder.path, "other.json")
    with opened(run) as folder:
        claim_output(folder.path, "annotations.json")


def test_classes_say_what_masks_hold_and_changed_ones_are_refused(run):
    opened(run).close()
    described = json.loads((run / "classes.json").read_text())
    assert described["ignore_index"] == 255
    assert described["classes"][1] == {"index": 1, "name": "cat", "colour": [128, 0, 0]}
    with pytest.raises(InputError, match="changed by hand"):
        opened(run, classes=Classes(("background", "cow", "dog"), 255))


def test_a_run_without_images_keeps_its_settings_and_its_lock_only(run):
    with opened(run, classes=None, images=False) as folder:
        assert {path.name for path in run.iterdir()} == {"run.json", "run.lock"}
        with pytest.raises(InputError):
            _ = folder.database
    assert {path.name for path in run.iterdir()} == {"run.json"}


def test_names_with_bytes_that_are_no_text(run, tmp_path):
    photos = tmp_path / "odd"
    photos.mkdir()
    for i, name in enumerate([b"caf\xe9.png", b"new\nline.png", b"-w.png", "cafe\u0301.png".encode()]):
        (photos / os.fsdecode(name)).write_bytes(bytes([i]))
    produce(photos, run)
    with Run(run) as done:
        assert len([done.mask(row) for row in done]) == 4
        assert all(row.source.exists() for row in done)
    assert planned(run, photos).done == 4


def test_a_run_that_began_while_this_one_waited_for_the_lock_is_seen(run, monkeypatch):
    take = module.RunLock.take

    def late(path, *, network):
        (run / "run.json").write_bytes(RunIdentity("mask", {"words": ["cow"]}).encode())
        return take(path, network=network)

    monkeypatch.setattr(module.RunLock, "take", late)
    with pytest.raises(InputError, match="words were cow, are cat, dog"):
        opened(run)
    assert {path.name for path in run.iterdir()} == {"run.json"}  # and the lock is free


def test_memory_and_descriptors_stay_flat_over_twenty_thousand_images(run):
    measured = many_images(run, 20_000)
    assert measured["grown_bytes"] < 200_000
    assert measured["grown_descriptors"] <= 0
    assert measured["again_done"] == 2000
    assert measured["listed"] == 20_000


def test_images_known_by_their_keys_alone(run, photos):
    keys = ["b", "a/c", "a", "A", "a//c", "\\xe9"]
    with RunFolder.open(run, IDENTITY) as folder:
        plan = folder.plan_keys(keys[:4])
        assert [task.key for task in plan] == keys[:4]
        assert (plan.total, plan.todo, plan.done) == (4, 4, 0)
        tasks = list(plan)
        folder.done(tasks[0], ImageResult(record={"kept": 1}))
        folder.fail(tasks[1], ValueError("bad"), record={"failed": "method"})
    with Run(run) as rows:
        assert (rows["b"].record, rows["b"].status) == ({"kept": 1}, "done")
        assert (rows["a/c"].record, rows["a/c"].error) == ({"failed": "method"}, "unexpected ValueError: bad")
    with RunFolder.open(run, IDENTITY) as folder:
        plan = folder.plan_keys([*keys[::-1]])
        assert [task.key for task in plan] == ["\\xe9", "a//c", "A", "a", "a/c"]
        assert (plan.total, plan.done, plan.retried, plan.vanished, plan.not_given) == (6, 1, 1, 0, 0)
        assert {task.id for task in plan if task.key in keys[:4]} == {task.id for task in tasks[1:]}
        assert folder.database.row("a/c").record is None
        assert folder.plan_keys(["a"]).not_given == 5
        assert folder.database.row("b").record == {"kept": 1}


def test_more_is_recorded_under_the_same_fingerprint(run):
    with opened(run) as folder:
        before = read_identity(run / "run.json")
        folder.record(finished=True, steps=3)
        folder.record(steps=4)
        assert folder.recorded == {**before.metadata, "finished": True, "steps": 4}
    assert read_identity(run / "run.json").fingerprint == before.fingerprint
    opened(run).close()
