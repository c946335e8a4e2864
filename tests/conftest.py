"""Fixtures that several folders of tests share."""

import os
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from fleetpose.codecs.description import METADATA_KEY, InputDescription, ModelCard, ModelDescription
from fleetpose.codecs.fields import Field, FieldKind, associative_embedding_fields
from fleetpose.skeletons import COCO

#: One colour per keypoint; all have a channel at 255, so that no mix with black is another's colour.
DOT_COLORS = np.array(
    [(r, g, b) for r in (0, 128, 255) for g in (0, 128, 255) for b in (0, 128, 255) if max(r, g, b) == 255]
)[:17]
#: The fake network takes dots within one such slot of the canvas's width for one person.
SLOT = 128


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory):
    """Measurements of tests stay out of the user's cache, and the other way round."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLEETPOSE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def shared():
    """Folder with data and golden outputs that are not part of the repository."""
    folder = Path(os.environ.get("FLEETPOSE_SHARED", Path(__file__).parents[2] / "shared"))
    if not folder.is_dir():
        pytest.skip(f"no shared data at {folder}; set FLEETPOSE_SHARED to their folder")
    return folder


@pytest.fixture(scope="session")
def stick_person():
    """Keypoints `[17, 2]` (x, y) of a standing person about 100 x 200 pixels, for `draw_dots`."""
    return np.array(
        [
            *[(60, 20), (68, 12), (52, 12), (78, 18), (42, 18)],
            *[(85, 50), (35, 50), (95, 85), (25, 85), (100, 120), (20, 120)],
            *[(78, 125), (42, 125), (80, 165), (40, 165), (82, 205), (38, 205)],
        ],
        float,
    )


@pytest.fixture(scope="session")
def draw_dots():
    """Function that draws people, each `[17, 2]` (x, y), as coloured dots that the fake network sees."""

    def draw(people, size=(256, 256), *, radius=6):
        image = np.zeros((*size, 3), np.uint8)
        for person in people:
            for (x, y), color in zip(np.rint(person).astype(int).tolist(), DOT_COLORS.tolist(), strict=True):
                cv2.circle(image, (x, y), radius, color, cv2.FILLED)
        return image

    return draw


@pytest.fixture(scope="session")
def fake_description():
    """What the fake network's file says about itself; mean and std are odd on purpose."""
    return ModelDescription(
        name="dots",
        family="test",
        skeleton=COCO,
        fields=associative_embedding_fields(17),
        codec={"type": "associative_embedding"},
        input=InputDescription(
            short_side=256, multiple=32, mean=(90.0, 20.0, 140.0), std=(30.0, 120.0, 75.0)
        ),
        card=ModelCard(
            licence="Apache-2.0",
            data=("drawn dots",),
            command="none",
            commit="none",
            hours=0.0,
            hardware="none",
            metrics={"coco_dev/AP": 12.34},
            params=1234,
            macs=5_678_000,
        ),
    )


@pytest.fixture(scope="session")
def dots_model(tmp_path_factory, fake_description):
    """Path of a model file that finds people drawn by `draw_dots`, to about a pixel."""
    path = tmp_path_factory.mktemp("models") / "dots.onnx"
    write_dots_model(path, fake_description)
    return path


@pytest.fixture(scope="session")
def crop_dots_model(tmp_path_factory, fake_description):
    """Path of a top-down model file that finds the one person drawn by `draw_dots` in a crop."""
    path = tmp_path_factory.mktemp("models") / "crop-dots.onnx"
    fields = (Field(FieldKind.HEATMAPS, 17, stride=4),)
    codec = {"type": "top_down", "input_size": [256, 192], "kernel_cells": 5}
    write_dots_model(path, replace(fake_description, name="crop-dots", fields=fields, codec=codec))
    return path


@pytest.fixture(scope="session")
def dots_predictor(dots_model):
    """Predictor on the fake network."""
    from fleetpose.runtime.predictor import load

    return load(dots_model, threads=1)


@pytest.fixture(scope="session")
def crop_dots_batch_model(tmp_path_factory, crop_dots_model):
    """Path of the same, but with a free first axis: it takes several crops at once."""
    onnx = pytest.importorskip("onnx")
    model = onnx.load(str(crop_dots_model))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "crops"
    path = tmp_path_factory.mktemp("models") / "crop-dots.onnx"
    onnx.save(model, str(path))
    return path


def write_dots_model(path, description):
    """Write an ONNX network without learned weights that answers coloured dots with heatmaps and tags.

    A cell's heat is how near its colour is to a keypoint's, 1 - (distance / 90)^2 or 0, smoothed so that a
    dot's top is its centre. The tag is ten times the number of the slot of the canvas's width.
    """
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    def constant(name, values, dtype=np.float32):
        return numpy_helper.from_array(np.asarray(values, dtype), name)

    def gaussian(sigma):
        line = np.exp(-0.5 * (np.arange(-4, 5) / sigma) ** 2)
        kernel = np.outer(line, line)
        return np.repeat((kernel / kernel.sum())[None, None], 17, axis=0)

    colors = DOT_COLORS.astype(float)
    # |rgb - c|^2 = |rgb|^2 - 2 c rgb + |c|^2 is a 1 x 1 convolution of (rgb, rgb^2).
    weight = np.concatenate([2 * colors, -np.ones((17, 3))], axis=1) / 90**2
    bias = 1 - (colors**2).sum(axis=1) / 90**2
    initializers = [
        constant("std", np.reshape(description.input.std, (1, 3, 1, 1))),
        constant("mean", np.reshape(description.input.mean, (1, 3, 1, 1))),
        constant("weight", weight[:, :, None, None]),
        constant("bias", bias),
        constant("smooth_s2", gaussian(1.5)),
        constant("smooth_s4", gaussian(1.0)),
        constant("zero", 0.0),
        constant("one", 1.0),
        constant("slot_share", 4 / SLOT),
        constant("ten", 10.0),
        constant("width_axis", 3, np.int64),
    ]
    node = helper.make_node
    nodes = [
        node("Mul", ["image", "std"], ["scaled"]),
        node("Add", ["scaled", "mean"], ["rgb"]),
        node("Mul", ["rgb", "rgb"], ["squares"]),
        node("Concat", ["rgb", "squares"], ["features"], axis=1),
        node("Conv", ["features", "weight", "bias"], ["nearness"]),
        node("Relu", ["nearness"], ["heat"]),
        node("AveragePool", ["heat"], ["pooled_s2"], kernel_shape=[2, 2], strides=[2, 2]),
        node("AveragePool", ["heat"], ["pooled_s4"], kernel_shape=[4, 4], strides=[4, 4]),
        node("Conv", ["pooled_s4", "smooth_s4"], ["heatmaps_s4"], pads=[4] * 4, group=17),
        node("Conv", ["pooled_s2", "smooth_s2"], ["heatmaps_s2"], pads=[4] * 4, group=17),
        node("Mul", ["pooled_s4", "zero"], ["nothing"]),
        node("Add", ["nothing", "slot_share"], ["steps"]),
        node("CumSum", ["steps", "width_axis"], ["slots"]),
        node("Floor", ["slots"], ["slot"]),
        node("Mul", ["slot", "ten"], ["tags_s4"]),
    ]
    outputs = [
        helper.make_tensor_value_info(
            field.name, TensorProto.FLOAT, [1, field.channels, f"h{field.stride}", f"w{field.stride}"]
        )
        for field in description.fields
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, "H", "W"])
    graph = helper.make_graph(nodes, "dots", [image], outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {METADATA_KEY: description.to_json()})
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


@pytest.fixture(scope="session")
def matlab_cells():
    """Function that makes a Matlab structure array of dicts with the same keys."""

    def cells(entries):
        array = np.zeros((1, len(entries)), [(key, "O") for key in entries[0]])
        for number, entry in enumerate(entries):
            for key, value in entry.items():
                array[0, number][key] = value
        return array

    return cells
