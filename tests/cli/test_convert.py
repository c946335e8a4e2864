"""`fleetpose convert`: an authors' checkpoint becomes ours, or one line says why not."""

import json

import numpy as np
import pytest
import torch

from fleetpose.data.scenes import Source
from fleetpose.media.images import write_image
from fleetpose.models import build
from fleetpose.models.efficientnet import VARIANTS, EfficientNet
from fleetpose.runtime.session import OnnxSession
from fleetpose.skeletons import COCO
from fleetpose.train.checkpoint import load_checkpoint

# Our names of the parts of Lightweight OpenPose's smallest network, and the author's.
OFFICIAL_NAMES = (
    ("backbone.0.conv.", "model.0.0."),
    ("backbone.0.norm.", "model.0.1."),
    *(
        (f"backbone.{row}.{part}.{ours}.", f"model.{row}.{3 * part + offset}.")
        for row in range(1, 12)
        for part in (0, 1)
        for offset, ours in enumerate(("conv", "norm"))
    ),
    ("context.", "cpm."),
    *(
        (f"stages.0.{maps}.{ours}.", f"initial_stage.{maps}.{theirs}.0.")
        for maps in ("heatmaps", "pafs")
        for ours, theirs in ((0, 0), (2, 1))
    ),
    ("stages.0.trunk.", "initial_stage.trunk."),
)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return build("lightweight-openpose-r0", num_keypoints=3)


@pytest.fixture
def checkpoint(tmp_path, network):
    """Path of a checkpoint for three keypoints as the author's training writes it."""
    official = {}
    for key, value in network.state_dict().items():
        ours, theirs = next(pair for pair in OFFICIAL_NAMES if key.startswith(pair[0]))
        official[theirs + key.removeprefix(ours)] = value
    path = tmp_path / "checkpoint_iter_1.pth"
    torch.save({"state_dict": official, "iter": 1}, path)
    return path


def test_the_result_holds_name_keypoints_and_weights(fleetpose_here, tmp_path, checkpoint, network):
    code, out, err = fleetpose_here(
        "convert", checkpoint, "--as", "lightweight-openpose-r0", "--keypoints", 3
    )

    stored = load_checkpoint(tmp_path / "lightweight-openpose-r0.pt")
    assert (code, err) == (0, "")
    assert "lightweight-openpose-r0.pt: lightweight-openpose-r0 for 3 keypoints" in out
    assert (stored["model"], stored["num_keypoints"]) == ("lightweight-openpose-r0", 3)
    assert stored["ema"].keys() == network.state_dict().keys()
    assert all(torch.equal(stored["ema"][key], value) for key, value in network.state_dict().items())


def test_the_result_goes_where_it_is_wanted(fleetpose_here, tmp_path, checkpoint):
    target = tmp_path / "mine" / "pose.pt"

    code, out, _ = fleetpose_here(
        "convert", checkpoint, "--as", "lightweight-openpose-r0", "--keypoints", 3, "--out", target
    )

    assert code == 0
    assert str(target) in out
    assert target.is_file()


def test_entries_that_no_network_needs_are_listed(fleetpose_here, tmp_path):
    supernet = build("litepose-supernet", num_keypoints=2)
    official = {official_litepose_name(key): value for key, value in supernet.state_dict().items()}
    official["stage.0.0.Linear5x5.weight"] = torch.eye(25)
    torch.save(official, tmp_path / "supernet.pth")

    code, out, err = fleetpose_here("convert", "supernet.pth", "--as", "litepose-supernet", "--keypoints", 2)

    assert (code, err) == (0, "")
    assert "left out, because the network has no use for it: stage.0.0.Linear5x5.weight" in out


def official_litepose_name(key):
    for ours, theirs in (
        ("stem.2.conv.", "first.2."),
        ("stem.2.norm.", "first.3."),
        ("stem.", "first."),
        ("stages.", "stage."),
        ("upsamples.0.norm.", "deconv_bnrelu.0.0."),
        ("upsamples.1.norm.", "deconv_bnrelu.1.0."),
        ("upsamples.2.norm.", "deconv_bnrelu.2.0."),
        *((f"upsamples.{i}.{path}.", f"deconv_{path}.{i}.") for i in range(3) for path in ("refined", "raw")),
        *(
            (f"predict_{at}.{path}.{ours}.", f"final_{path}.{index}.conv.{theirs}.")
            for index, at in enumerate(("quarter", "half"))
            for path in ("refined", "raw")
            for ours, theirs in (("depthwise.conv", 0), ("depthwise.norm", 1), ("pointwise", 3))
        ),
    ):
        if key.startswith(ours):
            key = theirs + key.removeprefix(ours)
            break
    if key.startswith(("stage.", "first.0.", "first.1.")):
        for ours, theirs in (
            (".expand.", ".inv."),
            (".depthwise.", ".depth_conv."),
            (".project.", ".point_conv."),
            (".conv.", ".0."),
            (".norm.", ".1."),
        ):
            key = key.replace(ours, theirs)
    return key


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--as", "lightweight-openpose-r0"), "weights of lightweight-openpose-r0 for 3 keypoints"),
        (("--as", "lightweight-openpose", "--keypoints", 3), "weights of lightweight-openpose-r0 for 3"),
        (("--as", "hrnet-w32", "--keypoints", 3), "is not of hrnet-w32's family"),
        (("--as", "efficienthrnet-hm4-seg"), "nobody published weights"),
        (("--as", "lightweight-openpose-r4"), "did you mean"),
        (("--as", "lightweight-openpose-r0", "--keypoints", 0), "at least 1, but got 0"),
    ],
)
def test_a_checkpoint_of_something_else_is_answered_in_one_line(
    fleetpose_here, tmp_path, checkpoint, options, message
):
    code, out, err = fleetpose_here("convert", checkpoint, *options)

    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
    assert not list(tmp_path.glob("*.pt"))


def test_a_file_cut_short_is_answered_in_one_line(fleetpose_here, checkpoint):
    checkpoint.write_bytes(checkpoint.read_bytes()[:50_000])

    code, _, err = fleetpose_here("convert", checkpoint, "--as", "lightweight-openpose-r0", "--keypoints", 3)

    assert code == 2
    assert "checkpoint_iter_1.pth: is no PyTorch checkpoint, is cut short" in err
    assert err.count("\n") == 1


def test_a_missing_file_is_named(fleetpose_here):
    code, _, err = fleetpose_here("convert", "nowhere.pth", "--as", "litepose-xs")

    assert code == 2
    assert "nowhere.pth: cannot be read" in err


@pytest.fixture
def classifier_file(tmp_path):
    """Path of a classifier's checkpoint in the layout of lukemelas, and the classifier."""
    classifier = EfficientNet(config=VARIANTS["efficientnet-bm4"], num_classes=2)
    layers = {
        "expand.conv": "_expand_conv",
        "expand.norm": "_bn0",
        "depthwise.conv": "_depthwise_conv",
        "depthwise.norm": "_bn1",
        "squeeze_excite.reduce": "_se_reduce",
        "squeeze_excite.restore": "_se_expand",
        "project.conv": "_project_conv",
        "project.norm": "_bn2",
    }
    tops = {
        "backbone.stem.conv": "_conv_stem",
        "backbone.stem.norm": "_bn0",
        "head.conv": "_conv_head",
        "head.norm": "_bn1",
        "classifier": "_fc",
    }
    state = {}
    for key, value in classifier.state_dict().items():
        layer, _, entry = key.rpartition(".")
        if layer in tops:
            state[f"{tops[layer]}.{entry}"] = value
        else:
            _, _, block, *part = layer.split(".")
            state[f"_blocks.{block}.{layers['.'.join(part)]}.{entry}"] = value
    torch.save(state, tmp_path / "classifier.pth")
    return tmp_path / "classifier.pth", classifier


def test_a_networks_backbone_takes_a_classifiers_weights(fleetpose_here, tmp_path, classifier_file):
    path, classifier = classifier_file

    code, out, err = fleetpose_here(
        "convert", path, "--as", "efficienthrnet-hm4", "--backbone", "efficientnet-bm4"
    )

    weights = load_checkpoint(tmp_path / "efficienthrnet-hm4.pt")["ema"]
    assert (code, err) == (0, "")
    assert "all but the weights of efficientnet-bm4 are new" in out
    assert weights.keys() == build("efficienthrnet-hm4").state_dict().keys()
    for key in ("stem.conv.weight", "blocks.5.squeeze_excite.reduce.bias", "blocks.9.project.norm.weight"):
        assert torch.equal(weights[f"trunk.backbone.{key}"], classifier.backbone.state_dict()[key])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--as", "efficienthrnet-hm3", "--backbone", "efficientnet-bm4"), "cannot begin with the weights"),
        (("--as", "litepose-xs", "--backbone", "efficientnet-bm4"), "built on something else"),
        (("--as", "efficienthrnet-hm4", "--backbone", "efficientnet-b0"), "is no classifier efficientnet-b0"),
        (("--as", "efficienthrnet-hm4", "--backbone", "efficientnet-b9"), "did you mean"),
        (
            (
                "--as",
                "efficientnet-bm4",
            ),
            "--as efficienthrnet-h0 --backbone efficientnet-b0",
        ),
    ],
)
def test_a_classifier_that_does_not_fit_is_answered_in_one_line(
    fleetpose_here, classifier_file, options, message
):
    code, out, err = fleetpose_here("convert", classifier_file[0], *options)

    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


@pytest.fixture
def converted(fleetpose_here, tmp_path, two_convolutions):
    """A network, and the path of its checkpoint as `fleetpose convert` wrote it."""
    torch.manual_seed(0)
    network = build(two_convolutions, num_keypoints=17)
    torch.save(network.state_dict(), tmp_path / "theirs.pth")
    assert fleetpose_here("convert", "theirs.pth", "--as", two_convolutions)[0] == 0
    return network, tmp_path / "two-convolutions.pt"


def test_training_begins_with_a_converted_checkpoint(tmp_path, two_convolutions, converted):
    from fleetpose.train import engine
    from fleetpose.train.config import OptimiserSettings, Phase, TrainConfig

    original, path = converted
    (tmp_path / "labels.json").write_text(json.dumps(one_picture(tmp_path)))
    config = TrainConfig(
        model=two_convolutions,
        sources=(Source(images=tmp_path, annotations=tmp_path / "labels.json"),),
        phases=(Phase(size=(32, 32), batch=1, steps=1),),
        init=path,
        optimiser=OptimiserSettings(lr=1e-9, warmup_steps=0, ema_decay=0.0),
        threads=1,
        workers=0,
    )

    engine.train(config, tmp_path / "run", accelerator="cpu")

    trained = load_checkpoint(tmp_path / "run" / "last.pt")["ema"]
    for key, value in original.state_dict().items():
        torch.testing.assert_close(trained[key], value, atol=1e-6, rtol=0)


def one_picture(folder):
    """Write a picture of a person and return its labels."""
    write_image(folder / "1.png", np.full((40, 40, 3), 90, np.uint8))
    person = {"id": 1, "image_id": 1, "category_id": 1, "keypoints": [20, 20, 2] * 17, "bbox": [5, 5, 30, 30]}
    return {
        "images": [{"id": 1, "file_name": "1.png", "height": 40, "width": 40}],
        "annotations": [{**person, "area": 900, "num_keypoints": 17, "iscrowd": 0}],
        "categories": [{"id": 1, "name": "person", "keypoints": list(COCO.keypoints)}],
    }


def test_a_converted_checkpoint_becomes_a_model_file(fleetpose_here, tmp_path, converted):
    original, path = converted
    images = np.random.default_rng(0).standard_normal((1, 3, 32, 48), np.float32)

    code, out, err = fleetpose_here("export", path, "pose.onnx")

    maps = OnnxSession(tmp_path / "pose.onnx", threads=1).run(images)
    assert (code, err) == (0, "")
    assert "pose.onnx" in out
    for key, values in original(torch.from_numpy(images)).items():
        np.testing.assert_allclose(maps[key], values[0].detach(), atol=1e-5)
