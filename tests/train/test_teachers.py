"""What a teacher says, whoever it is: matched by name, in the student's maps."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from fleetpose.codecs.fields import Field, FieldKind
from fleetpose.codecs.top_down import TopDownCodec
from fleetpose.errors import CheckpointError, ConfigError
from fleetpose.models import build
from fleetpose.settings import to_plain
from fleetpose.train.checkpoint import save_checkpoint
from fleetpose.train.config import LossSettings, Phase, TeacherSettings, TrainConfig
from fleetpose.train.tasks import task_of
from fleetpose.train.teachers import HeatmapTeacher, KeypointTeacher, LiteRtModel, open_teacher
from fleetpose.weights import default_refiner

HEATMAPS = (Field(FieldKind.HEATMAPS, 3, stride=4),)
CODEC = TopDownCodec(fields=HEATMAPS, input_size=(32, 32), sigma_cells=1.0)
NAMES = ("a", "b", "c")


class Maps:
    """Teacher whose heatmaps of b and x are 1 and 2 everywhere."""

    names = ("x", "b")
    heatmaps = (Field(FieldKind.HEATMAPS, 2, stride=8), Field(FieldKind.HEATMAPS, 2, stride=2))

    def run(self, images):
        self.size = tuple(images.shape[2:])
        maps = torch.tensor([2.0, 1.0]).view(1, 2, 1, 1).expand(len(images), 2, 16, 16)
        return {"heatmaps_s2": maps, "heatmaps_s8": 10 * maps[..., :4, :4]}


class Points:
    """Teacher that finds b at (10, 20), half sure."""

    names = ("b",)

    def find(self, _):
        return np.array([[10.0, 20.0, 0.5]])


@pytest.fixture
def batch():
    """Two black crops with empty targets."""
    images = torch.zeros(2, 32, 32, 3, dtype=torch.uint8)
    labels = {"targets": {"heatmaps_s4": torch.zeros(2, 3, 8, 8)}}
    return images, torch.zeros(2, 3, 32, 32), labels


def test_heatmaps_come_from_the_finest_maps_into_the_channels_of_the_same_name(batch):
    teacher = HeatmapTeacher(Maps(), heatmaps=HEATMAPS, names=NAMES, size=None)

    taught, masks = teacher(*batch)

    assert taught["heatmaps_s4"].shape == (2, 3, 8, 8)
    assert taught["heatmaps_s4"].amax(dim=(0, 2, 3)).tolist() == [0, 1, 0]
    assert masks["heatmaps_s4"].flatten().tolist() == [0, 1, 0]


def test_a_teacher_may_see_larger_pictures(batch):
    source = Maps()

    HeatmapTeacher(source, heatmaps=HEATMAPS, names=NAMES, size=(64, 48))(*batch)

    assert source.size == (64, 48)


def test_what_labels_leave_out_a_teacher_does_too(batch):
    images, normalised, labels = batch
    mask = torch.ones(2, 3, 8, 8)
    mask[0] = 0
    teacher = HeatmapTeacher(Maps(), heatmaps=HEATMAPS, names=NAMES, size=None)

    _, masks = teacher(images, normalised, {**labels, "masks": {"heatmaps_s4": mask}})

    assert masks["heatmaps_s4"].sum(dim=(2, 3)).tolist() == [[0, 0, 0], [0, 64, 0]]


def test_keypoints_become_peaks_as_high_as_their_scores(batch):
    taught, masks = KeypointTeacher(Points(), codec=CODEC, names=NAMES)(*batch)

    found = CODEC.decode({"heatmaps_s4": taught["heatmaps_s4"][0].numpy()})
    np.testing.assert_allclose(found[1, :2], (10, 20), atol=0.5)
    assert float(taught["heatmaps_s4"].max()) <= 0.5
    assert found[[0, 2]].max() == 0
    assert masks["heatmaps_s4"].flatten().tolist() == [0, 1, 0]


def test_a_teacher_of_other_keypoints_is_refused():
    with pytest.raises(ConfigError, match="knows x, b, none of which"):
        HeatmapTeacher(Maps(), heatmaps=HEATMAPS, names=("a", "c"), size=None)


@pytest.fixture
def student(tmp_path):
    """Settings of a top-down student whose teacher is a checkpoint."""
    torch.manual_seed(0)
    config = TrainConfig(
        model="slimdeconv-plain",
        sources=(),
        phases=(Phase(size=(64, 64), batch=1, steps=1),),
        loss=LossSettings(),
    )
    network = build("slimdeconv-plain")
    state = {"ema": network.state_dict(), "config": to_plain(config), "progress": {}}
    save_checkpoint(tmp_path / "teacher.pt", state)
    return replace(config, teacher=TeacherSettings(tmp_path / "teacher.pt")), network.eval()


def test_a_checkpoint_teaches_what_its_network_returns(student):
    config, network = student
    teacher = open_teacher(config, task_of(network, config).codec)
    images = torch.randn(2, 3, 64, 64)
    labels = {"targets": {"heatmaps_s4": torch.zeros(2, 17, 16, 16)}}

    taught, _ = teacher(torch.zeros(2, 64, 64, 3, dtype=torch.uint8), images, labels)

    with torch.no_grad():
        expected = network(images)["heatmaps_s4"]
    torch.testing.assert_close(taught["heatmaps_s4"], expected, rtol=1e-3, atol=2e-4)  # another memory layout


def test_a_model_file_teaches_what_the_runtime_reads_of_it(student):
    pytest.importorskip("onnxruntime")
    from fleetpose.geometry import IMAGE_MEAN, IMAGE_STD
    from fleetpose.runtime.canvas import normalise
    from fleetpose.runtime.session import OnnxSession

    path = default_refiner()
    session = OnnxSession(path, threads=1)
    config, network = student
    config = replace(config, teacher=TeacherSettings(path))
    teacher = open_teacher(config, task_of(network, config).codec)
    pictures = np.random.default_rng(0).integers(0, 256, (2, 128, 96, 3), dtype=np.uint8)
    images = (pictures.astype(np.float32) - IMAGE_MEAN) / IMAGE_STD
    labels = {"targets": {"heatmaps_s4": torch.zeros(2, 17, 32, 24)}}

    taught, masks = teacher(
        torch.from_numpy(pictures), torch.from_numpy(images).permute(0, 3, 1, 2).float(), labels
    )

    for picture, maps in zip(pictures, taught["heatmaps_s4"].numpy(), strict=True):
        runtime = session.run(normalise(picture, session.description.input))["heatmaps_s4"]
        # Nobody is in noise, so the maps are low; they still have a shape.
        assert np.ptp(runtime) > 0.002
        np.testing.assert_allclose(maps, runtime, atol=0.05 * np.ptp(runtime))
    assert masks["heatmaps_s4"].min() == 1


def test_a_model_file_that_does_not_say_what_it_is_cannot_teach(student, tmp_path):
    pytest.importorskip("onnxruntime")
    config, network = student
    codec = task_of(network, config).codec
    (tmp_path / "junk.onnx").write_bytes(b"junk")

    with pytest.raises(CheckpointError, match=r"there is no model file .*none\.onnx"):
        open_teacher(replace(config, teacher=TeacherSettings(tmp_path / "none.onnx")), codec)
    with pytest.raises(CheckpointError, match=r"junk\.onnx is no ONNX file"):
        open_teacher(replace(config, teacher=TeacherSettings(tmp_path / "junk.onnx")), codec)


@pytest.mark.parametrize(
    ("path", "message"),
    [("a.h5", "a .pt, .onnx or .tflite file"), ("a.tflite", "one person per picture")],
)
def test_files_that_cannot_teach_are_refused(student, path, message, tmp_path):
    config, _ = student
    bottom_up = replace(config, model="litepose-xs", teacher=TeacherSettings(tmp_path / path))

    with pytest.raises(ConfigError, match=message):
        open_teacher(bottom_up, task_of(build("litepose-xs"), bottom_up).codec)


@pytest.mark.parametrize("kind", ["checkpoint", "file"])
def test_a_network_of_one_person_cannot_teach_one_of_several(student, kind):
    config, _ = student
    if kind == "file":
        pytest.importorskip("onnxruntime")
        config = replace(config, teacher=TeacherSettings(default_refiner()))
    bottom_up = replace(config, model="litepose-xs")

    with pytest.raises(ConfigError, match=r"one person per picture, so it can teach .* not litepose-xs"):
        open_teacher(bottom_up, task_of(build("litepose-xs"), bottom_up).codec)


@pytest.mark.parametrize("kind", ["checkpoint", "file"])
@pytest.mark.parametrize("size", [None, (50, 50)])
def test_a_teacher_that_cannot_see_the_pictures_is_refused_before_training(student, kind, size):
    config, network = student
    path = config.teacher.path
    if kind == "file":
        pytest.importorskip("onnxruntime")
        path = default_refiner()
    codec = task_of(network, config).codec
    config = replace(config, teacher=TeacherSettings(path, size=size))
    assert open_teacher(replace(config, teacher=TeacherSettings(path, size=(64, 96))), codec)
    if size is None:
        config = replace(config, phases=(*config.phases, Phase(size=(64, 50), batch=1, steps=1)))

    with pytest.raises(ConfigError, match=r"cannot look; set teacher\.size: .* got .*50"):
        open_teacher(config, codec)


@pytest.mark.parametrize("name", ["EfficientPoseRT", "movenet_singlepose_lightning_int8_4"])
def test_published_networks_find_the_person_whatever_the_crops_shape(shared, name):
    pytest.importorskip("ai_edge_litert")
    cv2 = pytest.importorskip("cv2")
    path = shared / f"peers/{name}.tflite"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    import json

    labels = json.loads((shared / "data/lsp_train/lsp_train.json").read_text())
    names = labels["categories"][0]["keypoints"]
    model, errors = LiteRtModel(path), []
    for annotation in labels["annotations"][:12]:
        record = next(one for one in labels["images"] if one["id"] == annotation["image_id"])
        image = cv2.imread(str(shared / "data/lsp_train/images" / record["file_name"]))[:, :, ::-1]
        points = np.array(annotation["keypoints"], float).reshape(-1, 3)
        low, high = points[points[:, 2] > 0, :2].min(axis=0), points[points[:, 2] > 0, :2].max(axis=0)
        room = 0.2 * max(high - low)
        (x1, y1), (x2, y2) = np.maximum(low - room, 0).astype(int), (high + room).astype(int)
        found = dict(zip(model.names, model.find(np.ascontiguousarray(image[y1:y2, x1:x2])), strict=True))
        shared_names = [one for one in names if one in found and points[names.index(one), 2] > 0]
        errors += [
            np.linalg.norm(found[one][:2] + np.array([x1, y1]) - points[names.index(one), :2])
            / max(high - low)
            for one in shared_names
        ]

    assert len(errors) > 40
    assert np.median(errors) < 0.06
