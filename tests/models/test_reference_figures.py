"""Our true parameters and multiply-adds against those measured on the authors' code."""

import pytest

from fleetpose.models import build, efficientnet
from fleetpose.models.counting import count
from fleetpose.models.layers import without_values

#: name, keypoints, (H, W), parameters, 10**9 multiply-adds as far as they were written down.
FIGURES = [
    ("efficienthrnet-h0", 17, (512, 512), 19_725_359, 23.958),
    ("efficienthrnet-hm1", 17, (480, 480), 13_004_446, 13.130),
    ("efficienthrnet-hm2", 17, (448, 448), 8_263_495, 7.030),
    ("efficienthrnet-hm3", 17, (416, 416), 5_360_390, 3.759),
    ("efficienthrnet-hm4", 17, (384, 384), 2_764_706, 1.8075),
    ("litepose-xs", 14, (256, 256), 1_675_552, 0.883),
    ("litepose-s", 14, (448, 448), 2_731_240, 3.614),
    ("litepose-m", 14, (448, 448), 3_533_808, 5.264),
    ("litepose-l", 14, (512, 512), 5_738_120, 9.962),
    ("litepose-xs", 17, (256, 256), 1_675_912, 0.886),
    ("litepose-s", 17, (448, 448), 2_731_624, 3.624),
    ("litepose-m", 17, (448, 448), 3_534_336, 5.276),
    ("litepose-l", 17, (512, 512), 5_738_672, 9.979),
    ("higherhrnet-w32", 17, (512, 512), 28_645_331, 46.203),
    ("higherhrnet-w48", 17, (640, 640), 63_827_139, 149.469),
    ("higherhrnet-w16", 14, (512, 512), 7_205_194, 11.219),
    ("higherhrnet-w24", 14, (512, 512), 16_110_074, 23.783),
    ("higherhrnet-c2", 14, (512, 512), 6_713_546, 8.878),
    ("higherhrnet-c3", 14, (512, 512), 7_621_334, 8.735),
    ("higherhrnet-c4", 14, (512, 512), 7_375_166, 7.875),
    ("hrnet-w32", 17, (256, 192), 28_536_113, 7.645),
    ("hrnet-w48", 17, (256, 192), 63_595_745, 15.692),
    ("hrnet-w48", 17, (384, 288), 63_595_745, 35.307),
    ("simplebaseline-r50", 17, (256, 192), 33_999_697, 5.426),
    ("simplebaseline-r101", 17, (256, 192), 52_991_825, 9.063),
    ("simplebaseline-r152", 17, (256, 192), 68_635_473, 12.699),
    ("lightweight-openpose", 18, (368, 368), 4_091_698, 8.882),
    ("lightweight-openpose", 18, (256, 456), 4_091_698, 7.656),
    ("lightweight-openpose-r0", 18, (368, 368), 2_483_065, 5.488),
    ("lightweight-openpose-r2", 18, (368, 368), 5_700_331, 12.275),
    ("lightweight-openpose-r3", 18, (368, 368), 7_308_964, 15.669),
    ("slimdeconv-b0", 17, (256, 192), 3_662_269, 0.376),
    ("slimdeconv-b1", 17, (256, 192), 6_167_905, 0.556),
    ("slimdeconv-b2", 17, (256, 192), 7_270_723, 0.639),
    ("slimdeconv-b3", 17, (256, 192), 10_172_777, 0.932),
    ("slimdeconv-b4", 17, (256, 192), 16_814_217, 1.452),
    ("slimdeconv-b5", 17, (256, 192), 27_362_673, 2.276),
    ("slimdeconv-b6", 17, (256, 192), 39_481_113, 3.245),
    ("slimdeconv-b1", 17, (128, 96), 6_167_905, 0.140),
    ("slimdeconv-b1", 17, (160, 128), 6_167_905, 0.232),
    ("slimdeconv-b1", 17, (192, 160), 6_167_905, 0.348),
    ("slimdeconv-b1", 17, (224, 160), 6_167_905, 0.406),
    ("slimdeconv-b1", 17, (384, 288), 6_167_905, 1.250),
    ("slimdeconv-r18", 17, (256, 192), 11_472_177, 1.807),
    ("slimdeconv-r34", 17, (256, 192), 21_580_337, 3.618),
    ("slimdeconv-r50", 17, (256, 192), 24_590_129, 4.071),
]
#: Left out of the default run: siblings have the same layers, fewer of them.
LARGE = {
    *("efficienthrnet-hm1", "higherhrnet-w24", "higherhrnet-w32", "higherhrnet-w48", "higherhrnet-c2"),
    *("hrnet-w48", "simplebaseline-r152", "slimdeconv-b5", "slimdeconv-b6"),
}
#: name, parameters for 1000 and 100 classes, 10**9 multiply-adds for 1000, size.
CLASSIFIERS = [
    ("efficientnet-b0", 5_288_548, 4_135_648, 0.386, 224),
    ("efficientnet-bm1", 4_548_152, 3_503_252, 0.2545, 195),
    ("efficientnet-bm2", 3_463_750, 2_512_450, 0.1477, 170),
    ("efficientnet-bm3", 2_795_998, 1_931_098, 0.0875, 145),
    ("efficientnet-bm4", 2_056_282, 1_270_582, 0.0464, 128),
]
#: Without and with the predictions of the earlier passes, which serve training, and 10**9 multiply-adds.
EFFICIENTPOSE = [
    ("efficientpose-rt", 435_676, 441_000, 0.369),
    ("efficientpose-i", 689_880, 696_260, 0.744),
    ("efficientpose-ii", 1_684_464, 1_691_900, 3.630),
    ("efficientpose-iii", 3_157_612, 3_166_104, 11.232),
    ("efficientpose-iv", 6_448_266, 6_458_870, 35.575),
]


@pytest.mark.parametrize(
    ("name", "num_keypoints", "size", "params", "giga"),
    [pytest.param(*row, marks=[pytest.mark.slow] * (row[0] in LARGE)) for row in FIGURES],
)
def test_parameters_are_exact_and_multiply_adds_as_far_as_written_down(
    name, num_keypoints, size, params, giga
):
    with without_values():
        network = build(name, num_keypoints=num_keypoints)

    cost = count(network, size)

    assert cost.params == params
    assert cost.operations / 1e9 == pytest.approx(giga, rel=1e-3, abs=0.0005)


@pytest.mark.parametrize(("name", "imagenet", "cifar", "giga", "resolution"), CLASSIFIERS)
def test_classifiers_cost_what_was_measured(name, imagenet, cifar, giga, resolution):
    with without_values():
        large, small = (efficientnet.efficientnet(name, num_classes=classes) for classes in (1000, 100))

    cost = count(large, (resolution, resolution))

    assert large.input_size == (resolution, resolution)
    assert (cost.params, count(small, (resolution, resolution)).params) == (imagenet, cifar)
    assert cost.operations / 1e9 == pytest.approx(giga, rel=1e-3, abs=0.0005)


@pytest.mark.parametrize(("name", "published", "trained", "giga"), EFFICIENTPOSE)
def test_efficientposes_cost_what_was_measured(name, published, trained, giga):
    with without_values():
        network = build(name, num_keypoints=16)

    cost = count(network, network.input_size)

    heads = sum(
        parameter.numel()
        for label, head in network.heads.items()
        if label != "pass2"
        for parameter in head.parameters()
    )
    assert (cost.params - heads, cost.params) == (published, trained)
    assert cost.operations / 1e9 == pytest.approx(giga, rel=1e-3)
