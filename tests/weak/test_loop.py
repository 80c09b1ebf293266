"""The training loop: it learns, stops and resumes; a killed run gives the result of an uninterrupted one."""

import errno
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tagmask import __version__
from tagmask.errors import InputError, OutputError, TrainingError, WeightsError
from tagmask.files import unwritable
from tagmask.weak import training_state
from tagmask.weak.loop import Report, fit
from tagmask.weak.samples import Batch, TrainingCrop, batches, sample_index
from tagmask.weak.stop_signals import signals_held
from tagmask.weak.students.kind import ParameterGroup
from tagmask.weak.train_log import read_log
from tagmask.weak.training_folder import read_metadata
from tagmask.weak.training_state import read_training_state
from tests.weak.tiny import TinySamples, TinyTask, config, start


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    fit(TinyTask(), TinySamples(), config(), folder, metadata={"words": ["a", "b", "c"]})
    return folder


def assert_same_run(one: Path, other: Path) -> None:
    assert read_log(one) == read_log(other)
    first, second = load_file(one / "model.safetensors"), load_file(other / "model.safetensors")
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_loss_falls_and_is_logged(uninterrupted: Path) -> None:
    rows = read_log(uninterrupted)
    assert [row["step"] for row in rows] == list(range(1, 41))
    assert set(rows[0]) == {"step", "entropy", "size", "total", "gradient", "lr"}
    assert np.mean([row["entropy"] for row in rows[-8:]]) < 0.8 * np.mean(
        [row["entropy"] for row in rows[:4]]
    )
    assert rows[5]["lr"] == pytest.approx(0.01, rel=0.05)
    assert rows[0]["lr"] < 1e-7
    assert sorted(file.name for file in (uninterrupted / "pictures").iterdir()) == [
        "step-000020.jpg",
        "step-000040.jpg",
    ]
    assert read_metadata(uninterrupted, "weakclip") == {
        "tagmask": __version__,
        "words": ["a", "b", "c"],
        "finished": True,
        "steps": 40,
    }


def test_only_trained_weights_are_saved(uninterrupted: Path) -> None:
    saved = load_file(uninterrupted / "model.safetensors")
    assert "1.weight" in saved
    assert "2.running_mean" in saved
    assert "0.weight" not in saved


def test_groups_have_separate_rates_and_decay(tmp_path: Path) -> None:
    task = TinyTask(dropout=0.0)
    before = {name: value.clone() for name, value in task.model.state_dict().items()}
    one = config(
        "steps=1", "warmup=0", "optimiser.kind=sgd", "lr=0.01", "weight_decay=0.5", "schedule.kind=constant"
    )
    fit(task, TinySamples(), one, tmp_path)
    fresh = TinyTask(dropout=0.0)
    fresh.model.train()
    (batch,) = batches(TinySamples(), 504, [range(4)])
    fresh.losses(batch)["total"].backward()
    head, rest = fresh.model[5].weight, fresh.model[1].weight
    wanted_head = before["5.weight"] - 0.03 * head.grad
    wanted_rest = before["1.weight"] - 0.01 * (rest.grad + 0.5 * before["1.weight"])
    assert torch.allclose(task.model[5].weight, wanted_head, atol=1e-7)
    assert torch.allclose(task.model[1].weight, wanted_rest, atol=1e-7)


def test_gradients_are_clipped(tmp_path: Path) -> None:
    task = TinyTask(dropout=0.0)
    before = torch.cat([p.detach().flatten() for group in task.groups()[:1] for p in group.parameters])
    one = config("steps=1", "warmup=0", "optimiser.kind=sgd", "lr=1", "weight_decay=0", "optimiser.clip=1e-3")
    fit(task, TinySamples(), one, tmp_path)
    after = torch.cat([p.detach().flatten() for group in task.groups()[:1] for p in group.parameters])
    assert 1e-5 < float((after - before).norm()) <= 1.001e-3
    assert read_log(tmp_path)[0]["gradient"] > 0.01


def test_a_killed_run_resumes(uninterrupted: Path, tmp_path: Path) -> None:
    process = start(tmp_path, "slow")
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) >= 16:
            break
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    saved = read_training_state(tmp_path / "checkpoint.pt")
    assert saved is not None
    assert 10 <= saved.step < 40
    assert not (tmp_path / "model.safetensors").exists()
    fit(TinyTask(), TinySamples(), config(), tmp_path)
    assert_same_run(uninterrupted, tmp_path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_after_the_checkpoint_of_its_step(
    number: signal.Signals, uninterrupted: Path, tmp_path: Path
) -> None:
    process = start(tmp_path, "slow")
    assert process.stdout is not None
    assert process.stdout.readline() == "4\n"
    process.send_signal(number)
    steps = [4, *map(int, process.stdout.read().split())]
    process.stdout.close()
    assert process.wait() == -number
    saved = read_training_state(tmp_path / "checkpoint.pt")
    assert saved is not None
    assert saved.step == steps[-1] == read_log(tmp_path)[-1]["step"]
    assert saved.step < 10  # the first checkpoint that is due
    fit(TinyTask(), TinySamples(), config(), tmp_path)
    assert_same_run(uninterrupted, tmp_path)


def test_a_second_signal_is_not_held() -> None:
    def twice() -> None:
        with signals_held() as held:
            signal.raise_signal(signal.SIGINT)
            assert held()
            signal.raise_signal(signal.SIGINT)
            raise AssertionError("not reached")

    with pytest.raises(KeyboardInterrupt):
        twice()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_run_stopped_between_checkpoints_resumes(uninterrupted: Path, tmp_path: Path) -> None:
    class Stopped(TinyTask):
        steps = 0

        def losses(self, batch: Batch) -> dict[str, Tensor]:
            self.steps += 1
            if self.steps == 27:
                raise KeyboardInterrupt
            return super().losses(batch)

    with pytest.raises(KeyboardInterrupt):
        fit(Stopped(), TinySamples(), config(), tmp_path)
    with (tmp_path / "log.csv").open("a") as log:
        log.write("27,0.1,0.")  # as a kill leaves it
    reports: list[Report] = []
    fit(TinyTask(), TinySamples(), config("workers=1"), tmp_path, watch=reports.append)
    assert reports[0].step == 24
    assert reports[-1].seconds_left == 0
    assert_same_run(uninterrupted, tmp_path)


def test_a_finished_run_is_not_repeated(uninterrupted: Path) -> None:
    class Never(TinyTask):
        def losses(self, batch: Batch) -> dict[str, Tensor]:
            raise AssertionError("no step is left")

    assert fit(Never(), TinySamples(), config(), uninterrupted) == uninterrupted / "model.safetensors"


def test_a_run_killed_before_it_was_marked_finished_resumes(uninterrupted: Path, tmp_path: Path) -> None:
    shutil.copytree(uninterrupted, tmp_path / "run")
    run = tmp_path / "run" / "run.json"
    run.write_text(run.read_text().replace('"finished": true', '"finished": false'))
    with pytest.raises(InputError, match="is not finished"):
        read_metadata(tmp_path / "run", "weakclip")
    task = TinyTask()
    task.model[1].weight.data += 1
    fit(task, TinySamples(), config(), tmp_path / "run")
    assert_same_run(uninterrupted, tmp_path / "run")
    assert read_metadata(tmp_path / "run", "weakclip")["steps"] == 40


@pytest.mark.parametrize("name", ["stage.json", "model.safetensors", "checkpoint.pt"])
def test_folders_with_files_of_no_run_are_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"{}")
    with pytest.raises(InputError, match=r"Choose another folder"):
        fit(TinyTask(), TinySamples(), config(), tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_other_seeds_are_refused(tmp_path: Path) -> None:
    one = config("steps=1", "warmup=0")
    fit(TinyTask(), TinySamples(), one, tmp_path, inputs={"masks": "abc"})
    with pytest.raises(InputError, match=r"holds a run with other settings: masks was abc, is def\."):
        fit(TinyTask(), TinySamples(), one, tmp_path, inputs={"masks": "def"})


def test_other_settings_or_weights_are_refused(uninterrupted: Path) -> None:
    with pytest.raises(InputError, match=r"optimiser\.lr was 0\.01, is 0\.02"):
        fit(TinyTask(), TinySamples(), config("lr=0.02"), uninterrupted)
    task = TinyTask()
    task.model[0].weight.data += 1
    with pytest.raises(InputError, match="frozen was"):
        fit(task, TinySamples(), config(), uninterrupted)


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_divergence_stops_and_keeps_the_last_checkpoint(where: str, tmp_path: Path) -> None:
    class Diverging(TinyTask):
        steps = 0

        def losses(self, batch: Batch) -> dict[str, Tensor]:
            self.steps += 1
            losses = super().losses(batch)
            if self.steps == 14:
                bad = self.model[1].weight.sum() * 0
                broken = bad / 0 if where == "loss" else (bad.abs() + 0).sqrt()
                losses["total"] = losses["total"] + broken
            return losses

    with pytest.raises(
        TrainingError, match=r"Training diverged at step 14 of .*nan.*checkpoint of step 10 is kept"
    ):
        fit(Diverging(), TinySamples(), config(), tmp_path)
    saved = read_training_state(tmp_path / "checkpoint.pt")
    assert saved is not None
    assert all(torch.isfinite(value).all() for value in saved.model.values())
    assert len(read_log(tmp_path)) == 13
    assert not (tmp_path / "model.safetensors").exists()


def test_a_full_disk_stops_with_the_reason_and_keeps_the_last_checkpoint(
    uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, written = training_state.atomic_open, []

    @contextmanager
    def full(path: Path) -> Iterator[BinaryIO]:
        written.append(path)
        if len(written) == 2:
            raise unwritable(path, OSError(errno.ENOSPC, "No space left on device"))
        with real(path) as file:
            yield file

    monkeypatch.setattr(training_state, "atomic_open", full)
    with pytest.raises(OutputError, match=r"checkpoint\.pt cannot be written: No space left on device"):
        fit(TinyTask(), TinySamples(), config(), tmp_path)
    saved = read_training_state(tmp_path / "checkpoint.pt")
    assert saved is not None
    assert saved.step == 10
    monkeypatch.undo()
    fit(TinyTask(), TinySamples(), config(), tmp_path)
    assert_same_run(uninterrupted, tmp_path)


def test_a_full_disk_under_the_log_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.open

    def full(self: Path, mode: str = "r", *rest: object, **more: object) -> object:
        if self.name == "log.csv" and mode == "ab":
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(self, mode, *rest, **more)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(OutputError, match=r"log\.csv cannot be written: No space left"):
        fit(TinyTask(), TinySamples(), config(), tmp_path)


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    fit(TinyTask(), TinySamples(), config(), tmp_path)
    (tmp_path / "model.safetensors").unlink()
    file = tmp_path / "checkpoint.pt"
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(WeightsError, match=r"checkpoint\.pt cannot be read.*Remove its folder"):
        fit(TinyTask(), TinySamples(), config(), tmp_path)


def test_an_invalid_sample_raises_its_own_error_also_from_a_worker(tmp_path: Path) -> None:
    class Bad(TinySamples):
        def sample(self, epoch: int, index: int) -> TrainingCrop:
            if index == 3:
                raise InputError("the mask of image-3 holds label 9")
            return super().sample(epoch, index)

    for workers in (0, 1):
        with pytest.raises(InputError, match=r"^the mask of image-3 holds label 9$"):
            fit(TinyTask(), Bad(), config(f"workers={workers}"), tmp_path / str(workers))


def test_every_epoch_is_a_new_permutation_of_all_images() -> None:
    epochs = [[sample_index(7 * e + p, 7, seed=1) for p in range(7)] for e in range(3)]
    for number, epoch in enumerate(epochs):
        assert {e for e, _ in epoch} == {number}
        assert sorted(index for _, index in epoch) == list(range(7))
    assert len({tuple(index for _, index in epoch) for epoch in epochs}) == 3


def test_bfloat16_trains_too(tmp_path: Path) -> None:
    task = TinyTask()
    fit(task, TinySamples(), config("precision=bfloat16"), tmp_path)
    rows = read_log(tmp_path)
    assert rows[-1]["entropy"] < rows[0]["entropy"]
    assert task.model[1].weight.dtype == torch.float32


def test_missing_tensorboard_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tagmask.checks.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'tagmask\[tensorboard\]'"):
        fit(TinyTask(), TinySamples(), config("tensorboard=true"), tmp_path)


def test_a_task_without_trainable_weights_is_saved_unchanged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Fixed(TinyTask):
        def groups(self) -> list[ParameterGroup]:
            return [ParameterGroup("none", ())]

    task = Fixed()
    before = {name: tensor.clone() for name, tensor in task.model.state_dict().items()}
    path = fit(task, TinySamples(), config(), tmp_path, metadata={"words": ["a", "b", "c"]})
    after = task.model.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert path.exists()
    metadata = read_metadata(tmp_path, "weakclip")
    assert (metadata["words"], metadata["steps"]) == (["a", "b", "c"], 0)
    [record] = caplog.records
    assert record.getMessage().startswith("Nothing to train: ")
    assert read_log(tmp_path) == []
    fit(Fixed(), TinySamples(), config(), tmp_path)  # like any finished run, it is not changed
