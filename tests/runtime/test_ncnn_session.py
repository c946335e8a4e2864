"""ncnn runs what lies in a folder like any other runtime, and says in one line what is wrong with it."""

import json
import sys

import numpy as np
import pytest

from fleetpose.errors import CheckpointError, ConfigError, MissingExtraError, ShapeError
from fleetpose.runtime.choice import open_session
from fleetpose.runtime.ncnn_session import NcnnSession

pytest.importorskip("ncnn", reason="the extra fleetpose[ncnn] is not installed")

#: Keeps the three channels and gives each field one of the copies.
PARAM = """7767517
2 4
Input image 0 1 image
Split copies 1 3 image heatmaps_s4 tags_s4 heatmaps_s2
"""


@pytest.fixture
def network(tmp_path, fake_description):
    (tmp_path / "description.json").write_text(fake_description.to_json())
    (tmp_path / "model.ncnn.bin").write_bytes(b"")
    (tmp_path / "model.ncnn.param").write_text(PARAM)
    return tmp_path / "model.ncnn.param"


def test_a_folder_of_ncnn_is_opened(network, fake_description):
    session = open_session(network.parent, threads=1)

    assert isinstance(session, NcnnSession)
    assert session.description == fake_description


def test_maps_come_by_name_and_in_the_order_of_the_picture(network):
    image = np.random.default_rng(0).standard_normal((1, 3, 32, 96)).astype(np.float32)

    maps = NcnnSession(network).run(image)

    assert list(maps) == ["heatmaps_s4", "tags_s4", "heatmaps_s2"]
    for values in maps.values():
        np.testing.assert_array_equal(values, image[0])


def test_maps_of_one_picture_outlive_the_next(network):
    session = NcnnSession(network)
    first = session.run(np.ones((1, 3, 32, 32), np.float32))

    session.run(np.zeros((1, 3, 32, 32), np.float32))

    assert (first["tags_s4"] == 1).all()


def test_a_picture_that_the_network_does_not_take_is_refused(network):
    with pytest.raises(ShapeError, match="multiples of 32 pixels"):
        NcnnSession(network).run(np.zeros((1, 3, 33, 32), np.float32))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("description.json", None, r"is not described: cannot read .*description\.json"),
        ("description.json", "{}", r"description\.json: model description has format None"),
        ("model.ncnn.bin", None, r"cannot read the model .*model\.ncnn\.bin: no such file"),
        ("model.ncnn.param", "hello", r"model\.ncnn\.param: it is no file of ncnn's"),
        ("model.ncnn.param", PARAM.replace("tags_s4", "tags_s8"), "has the outputs .*tags_s8.* but its desc"),
    ],
)
def test_a_damaged_folder_is_told_in_one_line(network, name, text, message, capfd):
    file = network.with_name(name)
    if text is None:
        file.unlink()
    else:
        file.write_text(text)

    with pytest.raises(CheckpointError, match=message) as caught:
        NcnnSession(network)

    capfd.readouterr()  # ncnn writes to the terminal itself
    assert "\n" not in str(caught.value)


def test_the_description_is_of_this_model(network):
    about = json.loads(network.with_name("description.json").read_text())
    network.with_name("description.json").write_text(json.dumps(about | {"name": "other"}))

    assert NcnnSession(network).description.name == "other"


def test_other_arithmetic_than_f32_is_refused(network):
    with pytest.raises(ConfigError, match="ncnn has no bf16 arithmetic here; use runtime openvino"):
        open_session(network, runtime="ncnn", precision="bf16")


def test_threads_are_at_least_one(network):
    with pytest.raises(ConfigError, match="threads must be at least 1, got 0"):
        NcnnSession(network, threads=0)


def test_without_ncnn_the_line_that_installs_it_is_named(network, monkeypatch):
    monkeypatch.setitem(sys.modules, "ncnn", None)

    with pytest.raises(MissingExtraError, match=r"pip install 'fleetpose\[ncnn\]'"):
        NcnnSession(network)
