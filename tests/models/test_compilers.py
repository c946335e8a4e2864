"""Networks survive the compilers: ONNX Runtime and `torch.compile` compute what PyTorch does.

The default run takes one narrow and shallow member of each family, since the time goes with the number of
layers; other makes of a family, and every name, are tried under `slow`.
"""

from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
import torch

from fleetpose.export import onnx_file
from fleetpose.export.onnx_file import export_onnx
from fleetpose.models import FAMILIES, MODELS, build, hrnet
from fleetpose.models.efficienthrnet import EfficientHRNet, EfficientHRNetConfig
from fleetpose.models.efficientnet import EfficientNet, EfficientNetConfig
from fleetpose.models.efficientpose import EfficientPose, EfficientPoseConfig
from fleetpose.models.higherhrnet import HigherHRNet, HigherHRNetConfig
from fleetpose.models.hrnet import HighResolutionConfig, HRNet
from fleetpose.models.layers import Padding
from fleetpose.models.lightweight_openpose import LightweightOpenPose
from fleetpose.models.litepose import LitePose, LitePoseConfig, Stage
from fleetpose.models.resnet import ResNetConfig
from fleetpose.models.segmentation import EfficientHRNetSegmentation, SegmentationConfig
from fleetpose.models.simplebaseline import SimpleBaseline
from fleetpose.models.slimdeconv import Skip, SlimDeconv, SlimDeconvConfig
from fleetpose.models.supernet import LitePoseSupernet, SearchSpace

BACKBONE = EfficientNetConfig(0.25, 0.1, resolution=64)  # one block per stage
TRUNK = EfficientHRNetConfig((64, 64), backbone=BACKBONE, widths=(8, 8, 8, 8), modules=(1, 1, 1))
HIGH_RESOLUTION = HighResolutionConfig(4, bottleneck=4, blocks=((0, 1), (0, 0, 0), (0, 0, 0, 0)))
LITEPOSE = LitePoseConfig(
    (64, 64),
    stem=8,
    stages=(Stage(8, 1, 2), Stage(8, 1, 2), Stage(16, 1, 2), Stage(16, 2, 1)),
    deconv=(8, 8, 8),
)
SAME = replace(BACKBONE, padding=Padding.TENSORFLOW)
SMALL_MEMBERS = {
    "litepose": lambda: LitePose(config=LITEPOSE, num_keypoints=3),
    "litepose-plain": lambda: LitePose(
        config=replace(LITEPOSE, is_plain=True, sharpness=10.0, tag_ramp=0.1), num_keypoints=3
    ),
    "litepose-supernet": lambda: LitePoseSupernet(space=SearchSpace(LITEPOSE), num_keypoints=3),
    "efficienthrnet": lambda: EfficientHRNet(config=TRUNK, num_keypoints=3),
    "efficienthrnet-lite": lambda: EfficientHRNet(
        config=replace(TRUNK, backbone=BACKBONE.as_lite()), num_keypoints=3
    ),
    "efficienthrnet-pose-seg": lambda: EfficientHRNetSegmentation(
        config=SegmentationConfig(TRUNK, has_pose=True), num_keypoints=3, num_classes=4
    ),
    "efficientnet": lambda: EfficientNet(config=BACKBONE, num_classes=50),
    "efficientpose": lambda: EfficientPose(
        config=EfficientPoseConfig(
            (64, 64),
            high_level=replace(SAME, stages=SAME.stages[:3]),
            low_level=replace(SAME, stages=SAME.stages[:2]),
            blocks=2,
        ),
        num_keypoints=3,
    ),
    "higherhrnet": lambda: HigherHRNet(
        config=HigherHRNetConfig((64, 64), trunk=HIGH_RESOLUTION, deconv=4, blocks=1), num_keypoints=3
    ),
    "hrnet": lambda: HRNet(config=HIGH_RESOLUTION, num_keypoints=3),
    "lightweight-openpose": lambda: LightweightOpenPose(refinements=1, num_keypoints=3, num_limbs=2),
    "simplebaseline": lambda: SimpleBaseline(
        config=ResNetConfig((1, 1, 1, 1), is_bottleneck=True), num_keypoints=3
    ),
    "slimdeconv": lambda: SlimDeconv(
        config=SlimDeconvConfig(encoder=BACKBONE, skip=Skip.CONCAT), num_keypoints=3
    ),
    "slimdeconv-plain": lambda: build("slimdeconv-plain", num_keypoints=3),
}
#: Of families that have another member here.
OTHER_MAKES = {"litepose-plain", "efficienthrnet-lite"}
small_member = pytest.mark.parametrize(
    "member",
    [pytest.param(name, marks=[pytest.mark.slow] * (name in OTHER_MAKES)) for name in SMALL_MEMBERS],
)


def small(member):
    """Build a small member; HRNets have one module per stage where the papers' have up to four."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hrnet, "_MODULES", (1, 1, 1))
        return SMALL_MEMBERS[member]()


def test_every_family_has_a_small_member():
    modules = [type(make()).__module__ for name, make in SMALL_MEMBERS.items() if name not in OTHER_MAKES]

    assert sorted(modules) == sorted(family.build.__module__ for family in FAMILIES)


@small_member
def test_onnx_runtime_computes_the_same(draw_images, draw_weights, member):
    """At one size, which takes a third of the time that `export_onnx` takes for free sizes."""
    network = draw_weights(small(member), 0.7)
    images = draw_images(1, 3, 64, 96)
    names = [field.name for field in network.fields]

    with onnx_file._quiet():
        program = torch.onnx.export(network, (images,), output_names=names, dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString())
    maps = session.run(names, {session.get_inputs()[0].name: images.numpy()})

    with torch.no_grad():
        expected = network(images)
    for name, values in zip(names, maps, strict=True):
        assert np.abs(values - expected[name].numpy()).max() < 1e-4 * expected[name].std()


@pytest.mark.slow
@small_member
def test_onnx_runtime_computes_the_same_at_any_size(tmp_path, fake_description, draw_weights, member):
    network = draw_weights(small(member), 0.7)
    description = replace(fake_description, fields=network.fields)

    assert export_onnx(network, description, tmp_path / "small.onnx") < 1e-4


@small_member
def test_a_compiled_network_computes_the_same(draw_images, draw_weights, member):
    network = draw_weights(small(member), 0.7)

    assert largest_difference(network, draw_images(2, 3, 64, 96), backend="eager") < 1e-4


@pytest.mark.slow
@small_member
def test_a_network_compiled_to_machine_code_computes_the_same(draw_images, draw_weights, member):
    network = draw_weights(small(member), 0.7)

    assert largest_difference(network, draw_images(2, 3, 64, 96), backend="inductor") < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(MODELS))
def test_onnx_runtime_computes_the_same_by_every_name(tmp_path, fake_description, drawn_network, name):
    network = drawn_network(name)
    description = replace(fake_description, fields=network.fields)

    assert export_onnx(network, description, tmp_path / "pose.onnx") < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(MODELS))
def test_every_name_can_be_compiled(images, drawn_network, name):
    assert largest_difference(drawn_network(name), images, backend="aot_eager") < 1e-4


def largest_difference(network, images, *, backend):
    """In standard deviations of the output, over all outputs."""
    torch.compiler.reset()
    compiled = torch.compile(network, backend=backend, fullgraph=True)

    with torch.no_grad():
        expected = network(images)
        got = compiled(images)

    assert list(got) == list(expected)
    return max(float((got[key] - maps).abs().max() / maps.std()) for key, maps in expected.items())
