"""MCTformer compared with recorded values of the authors' modules, step by step."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tagmask.bench.tag_metrics import average_precision
from tagmask.papers.mctformer import (
    PUBLISHED_MAPS,
    VERSIONS,
    MapSettings,
    MctFormer,
    MctOutput,
    MctShape,
    class_token_contrast,
    initialise,
    localisation_maps,
    localise,
    network_from,
    normalised,
    patch_positions,
    pooled_scores,
    training_losses,
)
from tests.golden import make_weights_mct

GATE = Path(__file__).parents[1] / "golden" / "mct_small.npz"
SHARED = Path(__file__).parents[3] / "shared" / "golden" / "mct_dev.npz"

FOLDERS = ("img/", "label/", "id/")
INPUTS = ("loss/y", "loss/p", "loss/tokens", "loss/targets", "pool/maps", "ap/logits", "ap/targets")
INNER = ("ms/sum", "head_range")
THIN = "gen/plus/s3/ms/map"
"""The small copy has every third row and column of it."""
BARS = {"tokens": 1e-4, "M": 1e-4, "R": 1e-4, "map": 2e-5, "sum": 2e-5, "grad": 1e-6}
"""Tolerances by the name's first or last part; else 1e-5."""

Arrays = dict[str, np.ndarray]


def tensors(kind: str) -> dict[str, Tensor]:
    return {name: torch.from_numpy(value) for name, value in make_weights_mct.make(kind).items()}


def network(kind: str) -> MctFormer:
    return network_from(tensors(kind), heads=3)


def pass_steps(kind: str, name: str, image: np.ndarray) -> Arrays:
    net, pixels, prefix = network(kind), normalised(image), f"{kind}/{name}/"
    assert net.shape.version == kind
    with torch.no_grad():
        output = net(pixels)
        attention = torch.cat([mean for _, mean in net.run_blocks(pixels, attention=True)])
    result = localise(net, pixels)
    steps = {
        "y": output.class_scores[0],
        "attn": attention,
        "class_tokens_last": output.class_tokens[-1, 0],
        "class_tokens": output.class_tokens[:, 0],
        "patch_tokens_last": output.patch_tokens[0],
        "S": result.fused[0],
        "A": result.affinity[0],
        "S_aff": result.refined[0],
    }
    for last in (1, 2, 3, 12):
        steps[f"Q{last}"] = localise(net, pixels, MapSettings(last=last)).class_attention[0]
    if kind != "v1":
        steps |= {"p": output.patch_scores[0], "M": output.patch_maps[0], "R": result.patch_cam[0]}
        steps["y_att"] = (output.class_scores[0] + output.patch_scores[0]) / 2
    return {prefix + step: np.asarray(value) for step, value in steps.items()}


def generation_steps(kind: str, image: np.ndarray, labels: np.ndarray) -> Arrays:
    net, present = network(kind), np.flatnonzero(labels).tolist()
    found: Arrays = {}
    for name, scales in (("s1", (1.0,)), ("s3", (1.0, 0.75, 1.25))):
        settings, prefix = replace(PUBLISHED_MAPS[kind], scales=scales), f"gen/{kind}/{name}/"
        for number, scale in enumerate(scales):
            pixels = normalised(image, scale)
            for mirrored in (0, 1):
                refined = localise(net, pixels.flip(3) if mirrored else pixels, settings).refined
                found[f"{prefix}ms/S_aff_pass{2 * number + mirrored}"] = refined[0].numpy()
        maps = localisation_maps(net, image, present, settings)
        found[f"{prefix}ms/keys"] = np.array(list(maps))
        found[f"{prefix}ms/map"] = np.stack(list(maps.values()))
        found[f"{prefix}none/file_written"] = np.array(bool(localisation_maps(net, image, [], settings)))
    return found


def loss_steps(given: Mapping[str, np.ndarray]) -> Arrays:
    y, p, tokens = (torch.from_numpy(given[f"loss/{name}"]).requires_grad_() for name in ("y", "p", "tokens"))
    targets = torch.from_numpy(given["loss/targets"])
    found: dict[str, Tensor] = {"plus/contrast_last2": class_token_contrast(tokens[-2:], targets)}
    for version in VERSIONS:
        output = MctOutput(y, None if version == "v1" else p, None, tokens, tokens[0])
        terms = training_losses(output, targets, contrast=version == "plus")
        found |= {f"{version}/{name}": value for name, value in terms.items()}
        for name, leaf in (("y", y), ("p", p), ("tokens", tokens)):
            (gradient,) = torch.autograd.grad(terms["total"], leaf, retain_graph=True, allow_unused=True)
            if gradient is not None:
                found[f"{version}/grad_{name}"] = gradient
    return {f"loss/{name}": value.detach().numpy() for name, value in found.items()}


def initial_steps(kind: str) -> Arrays:
    deit = tensors("deit3" if kind == "plus" else "deit")
    torch.manual_seed(0)
    net = MctFormer(network(kind).shape)
    fresh = initialise(net, deit)
    state = net.state_dict()
    made = [name for name in state if name == "cls_token" or (name.startswith("pos_embed") and
            (kind != "plus" or name != "pos_embed"))]  # fmt: skip
    for name in state.keys() - set(made) - set(fresh):
        assert torch.equal(state[name], deit[name]), name
    report = dict.fromkeys(made, "made") | dict.fromkeys(fresh, "fresh")
    report["copied"] = len(state) - len(made) - len(fresh)
    found = {name: state[name].numpy() for name in made}
    return {f"init/{kind}/{name}": value for name, value in found.items()} | {
        f"init/{kind}/report": np.array(json.dumps(report))
    }


def all_steps(given: Mapping[str, np.ndarray]) -> Arrays:
    """Every recorded value whose inputs are given, by its name in the file."""
    found: Arrays = {}
    for kind in VERSIONS:
        for name in given:
            if name.startswith("img/") and not name.endswith(("ms", "none")):
                found |= pass_steps(kind, name.removeprefix("img/"), given[name])
        found |= generation_steps(kind, given["img/ms"], given["label/ms"])
        found |= initial_steps(kind)
        for classes in (20, 80):
            with torch.device("meta"):
                net = MctFormer(MctShape(kind, classes, grid=28 if kind == "plus" else 14))
            found[f"count/{kind}_{classes}"] = np.array(sum(p.numel() for p in net.parameters()))
        table = network(kind).pos_embed_pat if kind == "plus" else network(kind).pos_embed[:, 5:]
        for grid in ((3, 5), (4, 7), (4, 9), (7, 7), (9, 5)):
            rows = patch_positions(table[0].detach(), grid, nudged=kind != "plus")
            found[f"{kind}/pos/{grid[0]}x{grid[1]}"] = rows.unflatten(0, grid).numpy()
    if "pool/maps" in given:
        maps = torch.from_numpy(given["pool/maps"])
        for name, decay in (("", 0.996), ("_decay_0.9", 0.9), ("_decay_1.0", 1.0)):
            found[f"pool/score{name}"] = pooled_scores(maps, decay).numpy()
    labelled = given["ap/targets"].any(axis=1)
    logits, targets = (given[f"ap/{name}"][labelled].T for name in ("logits", "targets"))
    found["ap/value"] = average_precision(logits, targets, "steps")
    return found | loss_steps(given) | low_variance_steps(given)


def low_variance_steps(given: Mapping[str, np.ndarray]) -> Arrays:
    """Small inputs to the first LayerNorm show its epsilon."""
    if "img/sq" not in given:
        return {}
    weights = tensors("v2")
    for name in ("cls_token", "pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias"):
        weights[name] = weights[name] / 256
    net, pixels = network_from(weights, heads=3), normalised(given["img/sq"])
    with torch.no_grad():
        output = net(pixels)
        _, first = next(net.run_blocks(pixels, attention=True))
    steps = {"y": output.class_scores[0], "p": output.patch_scores[0], "attn0": first[0]}
    return {f"v2_lowvar/sq/{name}": value.numpy() for name, value in steps.items()}


def check(name: str, ours: np.ndarray, reference: np.ndarray) -> None:
    if reference.dtype.kind in "biu":
        np.testing.assert_array_equal(ours, reference)
    elif name.endswith("/report"):
        assert json.loads(str(ours)) == json.loads(str(reference))
    else:
        last = name.rpartition("/")[2]
        bar = next((bar for part, bar in BARS.items() if part == last or part in last.split("_")), 1e-5)
        assert ours.shape == reference.shape
        np.testing.assert_allclose(ours, reference, rtol=0, atol=bar, err_msg=name)


def results(pack: Mapping[str, np.ndarray]) -> list[str]:
    """Values to compute: no inputs, and nothing that the functions under test keep to themselves."""
    return [
        name
        for name in pack
        if not name.startswith(FOLDERS) and name not in INPUTS and not name.endswith(INNER)
    ]


@pytest.fixture(scope="module")
def gate() -> Arrays:
    return all_steps(dict(np.load(GATE)))


@pytest.mark.parametrize("name", results(np.load(GATE)))
def test_step_equals_the_reference(name: str, gate: Arrays) -> None:
    ours = gate[name][:, ::3, ::3] if name == THIN else gate[name]
    check(name, ours, np.load(GATE)[name])


@pytest.mark.parity
def test_every_array_of_the_whole_pack() -> None:
    pack = dict(np.load(SHARED))
    found = all_steps(pack)
    for name in results(pack):
        check(name, found[name], pack[name])


@pytest.mark.parity
@pytest.mark.parametrize("kind", VERSIONS)
def test_sums_before_normalisation(kind: str) -> None:
    """The recorded sum, normalised, is the recorded map; ours is compared with the map."""
    pack = np.load(SHARED)
    for name in pack.files:
        if name.startswith(f"gen/{kind}") and name.endswith("ms/sum"):
            total = pack[name]
            low, high = (each(total, axis=(1, 2), keepdims=True) for each in (np.min, np.max))
            check("map", (total - low) / (high - low + 1e-8), pack[name.replace("sum", "map")])


@pytest.mark.parametrize("kind", ["v1", "v2", "plus"])
def test_the_fresh_head_is_drawn_as_recorded(kind: str) -> None:
    torch.manual_seed(0)
    head = MctFormer(network(kind).shape).head
    if kind == "v1":
        assert abs(head.weight.std().item() - 0.02) < 0.005
        assert not head.bias.any()
    else:
        bound = (9 * 48) ** -0.5
        for values in (head.weight, head.bias):
            assert 0.5 * bound < values.abs().max().item() <= bound


@pytest.mark.parity
def test_the_small_copy_matches_the_reference() -> None:
    pack = np.load(SHARED)
    for name, values in np.load(GATE).items():
        np.testing.assert_array_equal(values, pack[name][:, ::3, ::3] if name == THIN else pack[name])
