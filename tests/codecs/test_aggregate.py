import numpy as np
import pytest

from fleetpose.codecs.aggregate import AggregationSettings, aggregate, decode_passes
from fleetpose.codecs.associative_embedding import AssociativeEmbeddingCodec
from fleetpose.codecs.fields import associative_embedding_fields
from fleetpose.errors import ConfigError, ShapeError
from fleetpose.skeletons import COCO

CODEC = AssociativeEmbeddingCodec(fields=associative_embedding_fields(17))
SIZE = (96, 128)


def _people(seed=0):
    rng = np.random.default_rng(seed)
    points = rng.uniform([8, 12], [50, 84], (1, 17, 2)) + np.array([[[0, 0]], [[62, 0]]])
    return np.concatenate([points, np.full((2, 17, 1), 2.0)], axis=-1)


def _maps(people, scale=1.0):
    """What a perfect network returns for people at a scale of the canvas; tags say left or right half."""
    h, w = int(SIZE[0] * scale), int(SIZE[1] * scale)
    scaled = people.copy()
    scaled[..., :2] = (people[..., :2] + 0.5) * scale - 0.5
    maps = CODEC.encode(scaled, size=(h, w))
    tags = np.where(np.arange(w // 4) < w // 8, 0.0, 5.0 * scale).astype(np.float32)
    return {**maps, "tags_s4": np.broadcast_to(tags, (17, h // 4, w // 4)).copy()}


def _by_x(keypoints):
    return keypoints[np.argsort(keypoints[:, :, 0].mean(axis=1))]


@pytest.mark.parametrize("is_projected", [False, True])
@pytest.mark.parametrize("has_all_tags", [False, True])
@pytest.mark.parametrize("scales", [(1.0,), (0.5, 1.0, 2.0), (2.0, 1.0), (0.75, 1.0)])
def test_people_are_found_where_they_stand_at_any_scales(scales, has_all_tags, is_projected):
    settings = AggregationSettings(scales=scales, has_all_tags=has_all_tags, is_projected=is_projected)
    people = _people()

    passes = [_maps(people, scale) for scale in scales]
    keypoints, scores = decode_passes(passes, CODEC, settings, size=SIZE)

    assert len(scores) == 2
    np.testing.assert_allclose(_by_x(keypoints)[..., :2], people[..., :2], atol=0.5)


def test_one_look_decodes_as_the_codec_does_alone():
    maps = _maps(_people(1))

    keypoints, scores = decode_passes([maps], CODEC, AggregationSettings(), size=SIZE)

    plain, plain_scores = CODEC.decode(maps)
    np.testing.assert_allclose(keypoints, plain, atol=1e-4)
    np.testing.assert_allclose(scores, plain_scores, atol=1e-6)


def test_heatmaps_are_averaged_and_tags_kept_of_the_base_look_alone():
    people = _people()
    passes = [_maps(people, 0.5), _maps(people, 1.0)]

    _, tags = aggregate(passes, CODEC, base=1)
    heatmaps, all_tags = aggregate(passes, CODEC, base=1, has_all_tags=True)

    assert heatmaps.shape == (17, 48, 64)
    assert tags.shape == (17, 48, 64, 1)
    assert tags.max() == 5
    assert all_tags.max(axis=(0, 1, 2)).tolist() == [2.5, 5]
    alone = [aggregate([one], CODEC, size=(48, 64))[0] for one in passes]
    np.testing.assert_allclose(heatmaps, np.mean(alone, axis=0), atol=1e-6)


def test_tags_of_a_flip_test_stay_side_by_side():
    maps = _maps(_people())
    both = CODEC.merge_flipped(
        maps, {name: value[..., ::-1] for name, value in maps.items() if value.ndim == 3}, np.arange(17)
    )

    _, tags = aggregate([both, both], CODEC, has_all_tags=True)

    assert tags.shape == (17, 48, 64, 4)


def _bilinear(size, length):
    """Matrix `[size, length]` of a linear interpolation, edges to edges, the outermost values held beyond."""
    place = np.clip((np.arange(size) + 0.5) * length / size - 0.5, 0, length - 1)
    return np.maximum(0, 1 - np.abs(place[:, None] - np.arange(length)))


def test_several_scales_equal_the_steps_that_the_authors_take():
    rng = np.random.default_rng(0)
    sizes = {2.0: (64, 96), 1.0: (32, 48), 0.5: (16, 24)}
    passes = [
        {
            field.name: rng.normal(size=(17, h // field.stride, w // field.stride)).astype(np.float32)
            for field in CODEC.fields
        }
        for h, w in sizes.values()
    ]

    heatmaps, tags = aggregate(passes, CODEC, base=1, size=(32, 48))

    def resize(maps, size):
        return _bilinear(size[0], maps.shape[1]) @ maps @ _bilinear(size[1], maps.shape[2]).T

    total = 0
    for maps, (h, w) in zip(passes, sizes.values(), strict=True):
        half = (h // 2, w // 2)
        mean = (resize(maps["heatmaps_s4"], half) + maps["heatmaps_s2"]) / 2
        total = total + resize(mean, (32, 48))
    np.testing.assert_allclose(heatmaps, total / 3, atol=1e-5)
    np.testing.assert_allclose(
        tags[..., 0], resize(resize(passes[1]["tags_s4"], (16, 24)), (32, 48)), atol=1e-5
    )


def test_flip_and_projection_equal_their_authors(shared):
    golden = np.load(shared / "golden" / "aggregate" / "single.npz")

    def named(quarter, half):
        maps = {"heatmaps_s4": quarter[0, :17], "tags_s4": quarter[0, 17:], "heatmaps_s2": half[0]}
        return {name: np.asarray(value, np.float32) for name, value in maps.items()}

    merged = CODEC.merge_flipped(
        named(golden["s1_out0"], golden["s1_out1"]),
        named(golden["s1_outflip0"], golden["s1_outflip1"]),
        COCO.flip_permutation,
    )
    heatmaps, tags = aggregate([merged], CODEC, size=(32, 48))

    np.testing.assert_allclose(heatmaps, golden["heatmaps"][0], atol=1e-6)
    np.testing.assert_allclose(tags, golden["tags"][0], atol=1e-6)


@pytest.mark.parametrize(
    ("scales", "message"),
    [
        ((), "different numbers above 0, got"),
        ((0.5, 0.5, 1), "different numbers above 0"),
        ((-1, 1), "different numbers above 0"),
        ((0.5, 2), "several scales must hold 1"),
        ((0.77, 1), "fractions such as 0.5"),
    ],
)
def test_scales_that_do_not_go_together_are_refused(scales, message):
    with pytest.raises(ConfigError, match=message):
        AggregationSettings(scales=scales)


def test_a_canvas_at_scale_one_fits_the_network_at_every_scale():
    settings = AggregationSettings(scales=(0.5, 0.75, 1.0, 1.25))

    multiple = settings.canvas_multiple(32)

    assert multiple == 128
    assert all(multiple * scale % 32 == 0 for scale in settings.scales)
    assert AggregationSettings().is_plain
    assert not settings.is_plain


def test_the_order_of_the_people_changes_nothing_but_their_order():
    people = _people(2)
    settings = AggregationSettings(scales=(1.0, 2.0))

    plain, permuted = (
        decode_passes([_maps(each, scale) for scale in settings.scales], CODEC, settings, size=SIZE)[0]
        for each in (people, people[::-1])
    )

    np.testing.assert_array_equal(_by_x(plain), _by_x(permuted))


def test_mirrored_maps_have_mirrored_people():
    people = _people(3)
    settings = AggregationSettings(scales=(1.0, 0.5))
    passes = [_maps(people, scale) for scale in settings.scales]
    mirrored = [{name: maps[..., ::-1] for name, maps in one.items() if maps.ndim == 3} for one in passes]

    plain, _ = decode_passes(passes, CODEC, settings, size=SIZE)
    found, _ = decode_passes(mirrored, CODEC, settings, size=SIZE)

    expected = _by_x(plain)[::-1].copy()
    expected[..., 0] = SIZE[1] - 1 - expected[..., 0]
    np.testing.assert_allclose(_by_x(found), expected, atol=1e-3)


def test_empty_maps_have_nobody_at_any_scales():
    settings = AggregationSettings(scales=(0.5, 1.0))
    nobody = np.zeros((0, 17, 3))

    keypoints, scores = decode_passes([_maps(nobody, 0.5), _maps(nobody)], CODEC, settings, size=SIZE)

    assert (keypoints.shape, scores.shape) == ((0, 17, 3), (0,))


def test_maps_that_are_no_numbers_are_refused():
    maps = _maps(_people())
    maps["heatmaps_s2"][3, 4, 5] = np.nan

    with pytest.raises(ShapeError, match="finite numbers"):
        decode_passes([maps], CODEC, AggregationSettings(is_projected=True), size=SIZE)
