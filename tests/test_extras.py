"""Optional packages: imported late, and refused before any work with the command that installs them."""

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tagmask.bridges import cvat
from tagmask.checks import EXTRAS, check_installed
from tagmask.errors import InputError
from tagmask.exporters import ExportOptions
from tagmask.exporters.hf import needs_pyarrow
from tagmask.proposals.opening import proposal_source
from tagmask.results import Segmentation
from tagmask.settings.engine import engine_settings
from tagmask.weak.export import needs_onnx
from tagmask.weak.students.catalogue import build_student
from tagmask.weak.train_log import need_tensorboard

SEGMENTATION = Segmentation(("cat",), np.zeros((2, 2), np.uint8), None, False, "float32")


def import_fiftyone_bridge() -> None:
    spec = importlib.util.find_spec("tagmask.bridges.fiftyone")
    assert spec is not None
    assert spec.loader is not None
    spec.loader.exec_module(importlib.util.module_from_spec(spec))


DOORS: dict[str, Callable[[], object]] = {
    "app": lambda: check_installed("`tagmask serve`", "app"),  # the commands: tests/cli
    "coco": SEGMENTATION.to_coco,
    "cvat": lambda: cvat.create("cat;dog", "miniature"),
    "export": needs_onnx,
    "fiftyone": import_fiftyone_bridge,
    "openvino": lambda: engine_settings("openvino"),
    "parquet": lambda: needs_pyarrow(ExportOptions(parquet=True)),
    "sam": lambda: proposal_source(f"sam2:{Path(__file__).parent}"),
    "students": lambda: build_student("deit-s", 3),
    "supervision": SEGMENTATION.to_supervision,
    "tensorboard": need_tensorboard,
}
"""What a user calls that needs each extra."""


def test_every_extra_has_a_door() -> None:
    assert DOORS.keys() == EXTRAS.keys()


@pytest.mark.parametrize("extra", DOORS)
def test_without_its_packages_an_extra_is_refused_with_the_install_command(
    extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tagmask.checks.find_spec", lambda module: None)
    with pytest.raises(InputError, match=rf" needs .*\. Run: pip install 'tagmask\[{extra}\]'"):
        DOORS[extra]()


def test_optional_packages_are_imported_late() -> None:
    optional = {module for packages in EXTRAS.values() for module in packages}
    code = (
        "import sys, tagmask.cli.main, tagmask.api, tagmask.exporters, tagmask.weak.run_all; "
        f"print(sorted(set(sys.modules) & {optional!r}))"
    )
    result = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert result.stdout.strip() == "[]"
