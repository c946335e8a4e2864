"""A network written as an ONNX file computes the same, describes itself and names no machine."""

from dataclasses import replace

import cv2
import numpy as np
import onnx
import pytest
import torch
from torch import nn

from fleetpose.codecs.associative_embedding import AssociativeEmbeddingCodec
from fleetpose.codecs.description import InputDescription, ModelCard, ModelDescription
from fleetpose.codecs.fields import Field, FieldKind, associative_embedding_fields
from fleetpose.codecs.top_down import TopDownCodec
from fleetpose.errors import CheckpointError
from fleetpose.export import onnx_file
from fleetpose.export.onnx_file import export_onnx
from fleetpose.export.packing import pack_weights
from fleetpose.models import PoseNetwork, build
from fleetpose.runtime.predictor import Predictor, load
from fleetpose.runtime.session import OnnxSession
from fleetpose.runtime.torch_session import TorchSession
from fleetpose.skeletons import COCO


class TinyNetwork(PoseNetwork):
    """A strided stem, normalisation, and one head per field: the shortest bottom-up network."""

    size_multiple = 8

    def __init__(self):
        super().__init__()
        self.fields = associative_embedding_fields(len(COCO))
        self.input_size = (64, 64)
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(16))
        self.coarse = nn.Conv2d(16, 34, 3, stride=2, padding=1)
        self.fine = nn.Conv2d(16, 17, 3, padding=1)

    def forward(self, image):
        x = torch.relu(self.stem(image))
        heatmaps, tags = self.coarse(x).chunk(2, dim=1)
        return self.named(heatmaps, tags, self.fine(x))


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    made = TinyNetwork()
    made.stem[1].running_mean.normal_()
    made.stem[1].running_var.uniform_(0.5, 1.5)
    return made.eval()


@pytest.fixture(scope="module")
def description(network):
    return ModelDescription(
        name="tiny",
        family="tiny",
        skeleton=COCO,
        fields=network.fields,
        input=InputDescription(short_side=64, multiple=8, mean=(120.0, 110.0, 100.0), std=(60.0, 50.0, 40.0)),
        card=ModelCard("Apache-2.0", ("drawn",), "none", "none", 0.0, "none", {}, 1, 1),
        codec=AssociativeEmbeddingCodec(fields=network.fields).settings(),
    )


def test_the_file_computes_what_the_network_computes_at_any_size(network, description, tmp_path):
    path = tmp_path / "tiny.onnx"
    image = np.random.default_rng(0).standard_normal((1, 3, 40, 104)).astype(np.float32)

    difference = export_onnx(network, description, path)
    maps = OnnxSession(path).run(image)

    assert difference < 1e-4
    expected = TorchSession(network, description).run(image)
    assert maps.keys() == {"heatmaps_s4", "tags_s4", "heatmaps_s2"}
    for name, values in maps.items():
        np.testing.assert_allclose(values, expected[name], atol=1e-4)


class TinyCropNetwork(PoseNetwork):
    """Down by eight and up by two: the shortest top-down network, with layers that look at the map's size."""

    size_multiple = 8

    def __init__(self):
        super().__init__()
        self.fields = (Field(FieldKind.HEATMAPS, len(COCO), stride=4),)
        self.input_size = (64, 48)
        self.stem = nn.Conv2d(3, 64, 3, stride=8, padding=1)
        self.gate = nn.Conv2d(64, 64, 1)
        self.up = nn.ConvTranspose2d(64, 100, 4, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(100)
        self.head = nn.Conv2d(100, len(COCO), 1)

    def forward(self, image):
        x = self.stem(image)
        x = x * torch.sigmoid(self.gate(x.mean(dim=(2, 3), keepdim=True)))
        skipped = nn.functional.interpolate(x, scale_factor=2.0, mode="bilinear")[:, :1]
        return self.named(self.head(torch.relu(self.norm(self.up(x)))) + skipped)


@pytest.fixture(scope="module")
def crop_network():
    torch.manual_seed(0)
    return TinyCropNetwork().eval()


@pytest.fixture(scope="module")
def crop_description(description, crop_network):
    codec = TopDownCodec(fields=crop_network.fields, input_size=(64, 48)).settings()
    return replace(description, fields=crop_network.fields, codec=codec)


@pytest.mark.parametrize("weights", ["float32", "half", "packed"])
def test_a_top_down_file_takes_any_number_of_crops(crop_network, crop_description, tmp_path, weights):
    path = tmp_path / "crops.onnx"
    crops = np.random.default_rng(0).standard_normal((5, 3, 64, 48)).astype(np.float32)

    export_onnx(crop_network, crop_description, path, has_half_weights=weights == "half")
    if weights == "packed":
        pack_weights(path)
    session = OnnxSession(path, threads=1)
    maps = session.run_batch(crops)["heatmaps_s4"]

    assert session.takes_batches
    assert maps.shape == (5, 17, 16, 12)
    for values, crop in zip(maps, crops, strict=True):
        np.testing.assert_allclose(values, session.run(crop[None])["heatmaps_s4"], atol=1e-5)
    if weights == "float32":
        expected = TorchSession(crop_network, crop_description).run_batch(crops)["heatmaps_s4"]
        np.testing.assert_allclose(maps, expected, atol=1e-4)
    model = onnx.load(path)
    first = {
        value.type.tensor_type.shape.dim[0].dim_param for value in (*model.graph.input, *model.graph.output)
    }
    assert len(first) == 1
    assert "" not in first


def test_a_bottom_up_file_takes_one_picture(network, description, tmp_path):
    path = tmp_path / "tiny.onnx"

    export_onnx(network, description, path)

    assert not OnnxSession(path).takes_batches


def test_a_picture_gives_the_same_people_in_pytorch_and_in_onnx_runtime(network, description, tmp_path):
    path = tmp_path / "tiny.onnx"
    picture = cv2.GaussianBlur(
        np.random.default_rng(1).integers(0, 255, (90, 70, 3), dtype=np.uint8), (0, 0), 3
    )
    export_onnx(network, description, path)

    from_file = load(path, threshold=0.0)(picture)
    from_network = Predictor(TorchSession(network, description), threshold=0.0)(picture)

    assert len(from_file) > 0
    np.testing.assert_allclose(from_file.keypoints, from_network.keypoints, atol=1e-2)


def test_half_weights_halve_the_file_and_change_little(network, description, tmp_path):
    export_onnx(network, description, tmp_path / "full.onnx")

    difference = export_onnx(network, description, tmp_path / "half.onnx", has_half_weights=True)

    text = len(description.to_json())
    full, half = ((tmp_path / name).stat().st_size - text for name in ("full.onnx", "half.onnx"))
    assert half < 0.65 * full
    assert 1e-6 < difference < 5e-3


def test_the_file_says_what_it_is_and_not_where_it_was_made(network, description, tmp_path):
    path = tmp_path / "tiny.onnx"

    export_onnx(network, description, path)

    assert OnnxSession(path).description == description
    content = path.read_bytes()
    assert b"fleetpose/" not in content
    assert b".py" not in content
    onnx.checker.check_model(onnx.load(path))


def test_a_file_that_computes_something_else_is_not_written(network, description, tmp_path, monkeypatch):
    def spoil(model):
        for weights in model.graph.initializer:
            values = onnx.numpy_helper.to_array(weights)
            if values.ndim == 4:
                weights.CopyFrom(onnx.numpy_helper.from_array(values * np.float32(1.5), weights.name))

    monkeypatch.setattr(onnx_file, "halve_weights", spoil)

    with pytest.raises(CheckpointError, match=r"differs from the network by .* was not written"):
        export_onnx(network, description, tmp_path / "tiny.onnx", has_half_weights=True)

    assert not list(tmp_path.iterdir())


def test_exporting_leaves_the_mode_of_the_network_alone(network, description, tmp_path):
    network.train()

    export_onnx(network, description, tmp_path / "tiny.onnx")

    assert network.training
    network.eval()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["litepose-xs", "efficienthrnet-hm4"])
def test_every_shipped_network_exports(name, tmp_path):
    network = build(name)
    described = ModelDescription(
        name=name,
        family=name.partition("-")[0],
        skeleton=COCO,
        fields=network.fields,
        input=InputDescription(256, network.size_multiple, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
        card=ModelCard("Apache-2.0", (), "", "", 0.0, "", {}, 1, 1),
        codec=AssociativeEmbeddingCodec(fields=network.fields).settings(),
    )

    assert export_onnx(network, described, tmp_path / "model.onnx") < 1e-3
