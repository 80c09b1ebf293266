"""Checkpoints of training: read without code, and only into the model that they belong to."""

from pathlib import Path

import pytest
import torch
from torch import nn

from tagmask.errors import WeightsError
from tagmask.weak.training_state import (
    load_optimiser,
    load_weights,
    read_training_state,
    write_training_state,
)


class Code:
    def __reduce__(self) -> tuple[object, ...]:
        return print, ("run",)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "checkpoint.pt"


def trained() -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.1)
    model(torch.ones(1, 3)).sum().backward()
    optimiser.step()
    return model, optimiser


def test_a_checkpoint_comes_back(path: Path) -> None:
    model, optimiser = trained()
    write_training_state(path, 7, model, optimiser)
    state = read_training_state(path)
    assert state is not None
    assert state.step == 7
    other = nn.Linear(3, 2)
    again = torch.optim.AdamW(other.parameters(), lr=0.1)
    load_weights(other, state.model, path)
    load_optimiser(again, state.optimiser, path)
    assert torch.equal(other.weight, model.weight)
    assert torch.equal(again.state[other.weight]["exp_avg"], optimiser.state[model.weight]["exp_avg"])


@pytest.mark.parametrize(
    "content",
    [Code(), {"step": Code()}, {"step": "x" * 5000}, {"step": 1, "model": 3, "optimiser": {}}, [1], {}],
)
def test_other_content_is_refused(path: Path, content: object, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(content, path)
    with pytest.raises(WeightsError, match=r"checkpoint\.pt cannot be read as a checkpoint") as error:
        read_training_state(path)
    assert "run" not in capsys.readouterr().out
    assert len(str(error.value).replace(str(path), "")) < 400


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bias": torch.tensor([1.0, torch.nan])}, "holds NaN or infinite values, in bias"),
        ({"bias": torch.ones(3)}, r"bias is \(3,\) instead of \(2,\)"),
        ({"bias": torch.ones(2, dtype=torch.int64)}, "bias is torch.int64 instead of torch.float32"),
        ({"bias": 3}, "missing: bias"),
        ({"bias": torch.ones(2).to_sparse()}, "missing: bias"),
        ({"more": torch.ones(2)}, "unexpected: more"),
    ],
)
def test_other_weights_are_refused(path: Path, change: dict[str, object], message: str) -> None:
    model, _ = trained()
    before = model.bias.clone()
    with pytest.raises(WeightsError, match=message) as error:
        load_weights(model, {**model.state_dict(), **change}, path)
    assert "checkpoint.pt" in str(error.value)
    assert torch.equal(model.bias, before)


@pytest.mark.parametrize("damage", ["groups", "key", "shape", "nan", "kind"])
def test_another_optimisers_state_is_refused(path: Path, damage: str) -> None:
    _, optimiser = trained()
    state = optimiser.state_dict()
    if damage == "groups":
        state["param_groups"] = []
    elif damage == "key":
        del state["param_groups"][0]["lr"]
    elif damage == "shape":
        state["state"][0]["exp_avg"] = torch.ones(5)
    elif damage == "nan":
        state["state"][1]["exp_avg"] = torch.full((2,), torch.nan)
    else:
        state["state"] = 3
    model = nn.Linear(3, 2)
    with pytest.raises(WeightsError, match=r"checkpoint\.pt (has|holds)"):
        load_optimiser(torch.optim.AdamW(model.parameters(), lr=0.1), state, path)
