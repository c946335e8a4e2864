"""The page for browsers finds what Python finds: its script is run in Node."""

import base64
import json
import os
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from fleetpose.codecs.candidates import CandidateCodec
from fleetpose.codecs.description import ModelDescription
from fleetpose.codecs.expected_oks import person_scores
from fleetpose.codecs.fields import Field, FieldKind
from fleetpose.codecs.top_down import TopDownCodec
from fleetpose.errors import CheckpointError
from fleetpose.export.web import PAGE_FILES, RUNTIME_FILES, RUNTIME_FOLDER, RUNTIME_VARIABLE, write_web
from fleetpose.geometry import fit_box, fit_canvas, invert, transform_points
from fleetpose.runtime.canvas import draw_canvas
from fleetpose.runtime.predictor import load
from fleetpose.runtime.session import OnnxSession, read_description
from fleetpose.runtime.top_down import rescore
from fleetpose.skeletons import COCO

onnx = pytest.importorskip("onnx")

PAGE = Path(__file__).parents[2] / "src/fleetpose/export/web_page"
RUNNER = Path(__file__).with_name("run_page.mjs")
RUNTIME = Path(os.environ.get(RUNTIME_VARIABLE) or RUNTIME_FOLDER).resolve()

needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
needs_runtime = pytest.mark.skipif(
    not all((RUNTIME / name).is_file() for name in RUNTIME_FILES),
    reason=f"onnxruntime-web is not at {RUNTIME}; set {RUNTIME_VARIABLE} to its folder dist",
)


def _node(folder, image, outputs=None):
    """What the script finds in a picture, and what it gave the network."""
    rgba = cv2.cvtColor(image, cv2.COLOR_RGB2RGBA)
    picture = {"width": image.shape[1], "height": image.shape[0], "data": base64.b64encode(rgba).decode()}
    (folder / "picture.json").write_text(json.dumps(picture))
    if outputs is not None:
        plain = {
            name: {
                "dims": list(values.shape),
                "data": [None if value == -np.inf else value for value in values.ravel().tolist()],
            }
            for name, values in outputs.items()
        }
        (folder / "outputs.json").write_text(json.dumps(plain))
    arguments = ["node", RUNNER, folder, folder / "picture.json"]
    arguments += ["-", RUNTIME] if outputs is None else [folder / "outputs.json"]
    result = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert result.stderr == ""
    return json.loads(result.stdout)


def _assert_same_people(found, keypoints, scores, *, atol):
    assert len(found) == len(scores)
    np.testing.assert_allclose([one["score"] for one in found], scores, atol=1e-4)
    np.testing.assert_allclose([one["keypoints"] for one in found], keypoints, atol=atol)


def _page(folder, source, **settings):
    folder.mkdir(exist_ok=True)
    write_web(onnx.load(str(source)), folder / "model.onnx", read_description(source), **settings)
    return folder


@pytest.fixture
def crowd(draw_dots, stick_person):
    """Two people, and a third who lacks a leg, in a picture that is no multiple of anything."""
    people = [stick_person + 20, np.add(stick_person, (140, 60)), np.add(0.7 * stick_person, (280, 40))]
    image = draw_dots(people, (301, 421))
    image[170:, 290:340] = 0
    return image


@needs_node
def test_candidates_become_the_same_people(tmp_path, dots_model, crowd):
    folder = _page(tmp_path / "page", dots_model)
    session = OnnxSession(folder / "model.onnx", threads=1)
    about = session.description
    affine, size = fit_canvas(crowd.shape[:2], short_side=256, multiple=32)
    outputs = session.run(draw_canvas(crowd, affine, size, about.input))

    answer = _node(folder, crowd, outputs)

    expected = load(folder / "model.onnx", runtime="onnx", threshold=0)(crowd)
    assert len(expected) == 3
    _assert_same_people(answer["people"], expected.keypoints, expected.scores, atol=1e-2)


@needs_node
@pytest.mark.parametrize(
    ("seed", "grouping"),
    [
        (0, {}),
        (1, {"is_refined": False}),
        (2, {"max_people": 3}),
        (3, {"window": 3}),
        (4, {"min_keypoints": 9, "tag_threshold": 2.5}),
    ],
)
def test_noisy_candidates_are_grouped_alike(tmp_path, fake_description, grouping, seed):
    rng = np.random.default_rng(seed)
    outputs = _candidates(rng)
    codec = CandidateCodec(fields=fake_description.fields)
    settings = codec.settings()
    about = replace(fake_description, codec={**settings, "grouping": settings["grouping"] | grouping})
    folder = _bare_page(tmp_path, about)

    answer = _node(folder, np.zeros((256, 256, 3), np.uint8), outputs)

    keypoints, scores = CandidateCodec.from_description(about).decode(outputs)
    is_on = ((keypoints[..., 2] > 0) & (np.abs(keypoints[..., :2] - 127.5) < 128).all(axis=-1)).any(axis=1)
    keypoints, scores = keypoints[is_on], scores[is_on]
    keypoints[..., :2] = np.where(keypoints[..., 2:] > 0, np.clip(keypoints[..., :2], 0, 255), 0)
    assert len(scores) > 2
    _assert_same_people(answer["people"], keypoints, scores, atol=1e-2)


def _candidates(rng):
    """Candidates on a grid of 128 x 128 with tags of about six people, noise and a plateau."""
    heat = np.full((17, 132, 132), 0.0, np.float32)
    cells = np.sort(rng.choice(128 * 128, (17, 40), replace=True), axis=1)
    row, column = np.divmod(cells, 128)
    k = np.arange(17)[:, None]
    heat[:, 2:130, 2:130] = rng.random((17, 128, 128)) * 0.02
    heat[k, row + 2, column + 2] = rng.random((17, 40)) * 0.6
    heat[0, row[0, 0] + 2, column[0, 0] + 3] = heat[0, row[0, 0] + 2, column[0, 0] + 2] = 0.7
    heat[:, :2] = heat[:, 130:] = heat[:, :, :2] = heat[:, :, 130:] = -np.inf
    order = np.argsort(-heat[k, row + 2, column + 2], axis=1, kind="stable")
    row, column = np.take_along_axis(row, order, 1), np.take_along_axis(column, order, 1)
    heights = np.stack(
        [heat[k, row + dy, column + dx] for dy in range(5) for dx in range(5)],
        axis=-1,
    ).reshape(17, 40, 5, 5)
    tags = 1.5 * rng.integers(0, 6, (17, 40, 1, 1)) + rng.normal(0, 0.3, (17, 40, 3, 3))
    return {
        "candidate_cells": (row * 128 + column).astype(np.int64),
        "candidate_heights": heights,
        "candidate_tags": tags.astype(np.float32),
        "grid_size": np.array([128, 128]),
    }


def _bare_page(folder, about: ModelDescription):
    (folder / "description.json").write_text(about.to_json())
    for name in PAGE_FILES:
        shutil.copy(PAGE / name, folder)
    return folder


@needs_node
@pytest.mark.parametrize(
    "settings",
    [
        *({"decoding": "dark", "kernel_cells": side} for side in (3, 5, 7, 9, 11)),
        {"decoding": "quarter", "is_corner_aligned": True},
        {"decoding": "parabola"},
        {"decoding": "expected_oks", "sigmas": COCO.sigmas},
        {"decoding": "expected_oks", "sigmas": COCO.sigmas, "person_share": 0.6},
    ],
)
def test_heatmaps_of_a_crop_give_the_same_keypoints(tmp_path, fake_description, settings):
    codec = TopDownCodec(fields=(Field(FieldKind.HEATMAPS, 17, stride=4),), input_size=(128, 96), **settings)
    about = replace(fake_description, fields=codec.fields, codec=codec.settings())
    rng = np.random.default_rng(1)
    places = np.column_stack([rng.uniform(-3, 99, 17), rng.uniform(-3, 131, 17), np.full(17, 2)])
    maps = codec.encode(places)["heatmaps_s4"] + rng.normal(0, 0.03, (17, 32, 24)).astype(np.float32)
    maps[3] = -1.0
    image = np.zeros((230, 170, 3), np.uint8)

    answer = _node(_bare_page(tmp_path, about), image, {"heatmaps_s4": maps[None]})

    affine = fit_box(np.array([-0.5, -0.5, 169.5, 229.5]), (128, 96), padding=1.25)
    expected = codec.decode({"heatmaps_s4": maps})
    points = np.clip(transform_points(expected, invert(affine))[:, :2], 0, [169, 229])
    expected[:, :2] = np.where(expected[:, 2:] > 0, points, 0)
    (person,) = answer["people"]
    np.testing.assert_allclose(person["keypoints"], expected, atol=5e-3)
    scores, box = expected[None, :, 2], np.ones(1)
    score = (
        person_scores(scores, box) if codec.has_expected_scores else rescore(expected[None], box, above=0.2)
    )
    assert person["score"] == pytest.approx(score[0], abs=1e-4)


@needs_node
@pytest.mark.parametrize("size", [(301, 421), (1103, 1777), (90, 120)])
def test_the_network_is_given_the_same_picture(tmp_path, fake_description, size):
    codec = CandidateCodec(fields=fake_description.fields)
    about = replace(fake_description, codec=codec.settings())
    coarse = np.random.default_rng(0).integers(0, 256, (9, 12, 3), np.uint8)
    image = cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC)

    answer = _node(_bare_page(tmp_path, about), image, _candidates(np.random.default_rng(0)))

    affine, canvas_size = fit_canvas(size, short_side=256, multiple=32)
    expected = draw_canvas(image, affine, canvas_size, about.input)[0]
    found = np.array(answer["input"]["tensor"]).reshape(expected.shape)
    assert tuple(answer["input"]["size"]) == canvas_size
    steps = np.abs(found - expected) * np.reshape(about.input.std, (3, 1, 1))
    assert np.percentile(steps, 99.9) < 2.5  # of 255: OpenCV rounds places to a 32nd of a pixel
    assert steps.mean() < 0.5


@needs_node
@needs_runtime
def test_the_whole_page_finds_the_same_people_within_half_a_pixel(tmp_path, dots_model, crowd):
    answer = _node(_page(tmp_path / "page", dots_model), crowd)

    _assert_within_half_a_pixel(answer, load(dots_model, runtime="onnx", threshold=0)(crowd), people=3)


@needs_node
@needs_runtime
def test_the_whole_page_finds_the_same_person_in_a_crop(tmp_path, crop_dots_model, draw_dots, stick_person):
    image = draw_dots([stick_person + 30], (280, 200))

    answer = _node(_page(tmp_path / "page", crop_dots_model, has_half_weights=True), image)

    _assert_within_half_a_pixel(answer, load(crop_dots_model, runtime="onnx", threshold=0)(image), people=1)


def _assert_within_half_a_pixel(answer, expected, *, people):
    assert len(answer["people"]) == len(expected) == people
    found = np.array([one["keypoints"] for one in answer["people"]])
    np.testing.assert_allclose(found[..., :2], expected.keypoints[..., :2], atol=0.5)
    np.testing.assert_allclose(found[..., 2], expected.keypoints[..., 2], atol=0.02)


def test_a_page_names_no_host_and_all_that_it_needs(tmp_path, dots_model, monkeypatch):
    monkeypatch.setenv(RUNTIME_VARIABLE, str(tmp_path / "none"))

    folder = _page(tmp_path / "page", dots_model)

    assert sorted(path.name for path in folder.iterdir()) == sorted(
        [*PAGE_FILES, "README.md", "description.json", "model.onnx"]
    )
    assert "npm install onnxruntime-web" in (folder / "README.md").read_text()
    for name in PAGE_FILES:
        assert not re.search(r"https?://", (folder / name).read_text())
    assert all(name in (folder / "README.md").read_text() for name in RUNTIME_FILES)
    assert "./ort.wasm.min.mjs" in (folder / "index.html").read_text()


def test_the_files_of_the_browsers_runtime_come_along_where_they_are_at_hand(
    tmp_path, dots_model, monkeypatch
):
    runtime = tmp_path / "dist"
    runtime.mkdir()
    for name in RUNTIME_FILES:
        (runtime / name).write_text(name)
    monkeypatch.setenv(RUNTIME_VARIABLE, str(runtime))

    folder = _page(tmp_path / "page", dots_model)

    assert all((folder / name).read_text() == name for name in RUNTIME_FILES)
    assert "npm" not in (folder / "README.md").read_text()


def test_what_the_script_cannot_decode_is_refused(tmp_path, dots_model):
    description = replace(read_description(dots_model), codec={"type": "part_affinity"})

    with pytest.raises(CheckpointError, match="decodes by part_affinity, which the page does not"):
        write_web(onnx.load(str(dots_model)), tmp_path / "model.onnx", description)
