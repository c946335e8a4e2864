"""Decoding by maximum expected similarity, on maps whose answer can be worked out by hand."""

import json
from dataclasses import replace

import numpy as np
import pytest

from fleetpose.codecs.expected_oks import expected_similarities, person_scores, similarity_spreads
from fleetpose.codecs.fields import Field, FieldKind
from fleetpose.codecs.top_down import TopDownCodec
from fleetpose.errors import ConfigError
from fleetpose.metrics.oks import oks
from fleetpose.skeletons import COCO

NAME = "heatmaps_s4"
#: On a map of 48 cells a person is 12 cells, so that this is a similarity of 2 cells' spread.
TWO_CELLS = 2 / 24


def _codec(sigmas=(TWO_CELLS,), **settings):
    fields = (Field(FieldKind.HEATMAPS, len(sigmas), stride=4),)
    return TopDownCodec(
        fields=fields, input_size=(192, 128), decoding="expected_oks", sigmas=sigmas, **settings
    )


def _chances(shares, *, highest=0.5):
    """Sigmoids whose softmax over cells is `shares` `[..., h, w]`, and whose highest is as given."""
    shares = np.asarray(shares, np.float64)
    odds = shares / shares.max(axis=(-2, -1), keepdims=True) * highest / (1 - highest)
    return (odds / (1 + odds)).astype(np.float32)


def _gaussian(x, y, *, spread=1.0, size=(48, 32)):
    rows, columns = np.arange(size[0])[:, None], np.arange(size[1])
    return np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * spread**2)) + 1e-4


def _crops(count, *, seed=0):
    rng = np.random.default_rng(seed)
    places = rng.uniform(4, [27, 43], (count, 17, 2))
    maps = np.array([[_gaussian(x, y) for x, y in person] for person in places])
    return _chances(maps * rng.uniform(0.7, 1.3, maps.shape), highest=0.6)


def _cells(keypoints):
    return (keypoints[..., :2] + 0.5) / 4 - 0.5


def test_the_broader_cluster_beats_the_higher_peak():
    shares = np.zeros((48, 32))
    shares[10, 8] = 0.4
    shares[30:33, 20:23] = 0.6 / 9  # nine cells that are near each other for a spread of two

    place = _cells(_codec().decode({NAME: _chances(shares)[None]}))[0]

    np.testing.assert_allclose(place, [21, 31], atol=0.01)
    highest = replace(_codec(), decoding="parabola", sigmas=())
    np.testing.assert_allclose(_cells(highest.decode({NAME: _chances(shares)[None]}))[0], [8, 10], atol=0.1)


def test_a_narrow_similarity_stays_with_the_higher_peak():
    shares = np.zeros((48, 32))
    shares[10, 8] = 0.4
    shares[30:33, 20:23] = 0.6 / 9

    place = _cells(_codec((0.025,)).decode({NAME: _chances(shares)[None]}))[0]

    np.testing.assert_allclose(place, [8, 10], atol=0.01)


@pytest.mark.parametrize("sigma", [0.025, 0.062, 0.107])
@pytest.mark.parametrize("place", [(12, 20), (12.3, 20.45), (3.5, 41.8), (28.75, 6.1)])
def test_a_single_sharp_peak_is_found_between_cells(place, sigma):
    maps = _chances(_gaussian(*place, spread=0.8) - 1e-4)

    found = _cells(_codec((sigma,)).decode({NAME: maps[None]}))[0]

    np.testing.assert_allclose(found, place, atol=0.1)


def test_a_guess_is_as_similar_as_oks_says():
    shares = np.zeros((1, 1, 5, 7))
    shares[0, 0, 1, 2], shares[0, 0, 3, 5] = 0.75, 0.25
    (spread,) = similarity_spreads((0.1,), person_cells=10)

    expected = expected_similarities(_chances(shares), spreads=(spread,))[0, 0]

    guess = np.array([[[4.0, 2.0, 1.0]]])
    truths = np.array([[[2.0, 1.0, 2.0]], [[5.0, 3.0, 2.0]]])
    similarities = oks(guess, truths, areas=np.full(2, 100.0), sigmas=(0.1,))[0]
    assert expected[2, 4] == pytest.approx(similarities @ [0.75, 0.25], abs=1e-3)


def test_a_sure_keypoint_scores_1_and_a_torn_one_the_geometric_mean_of_chance_and_similarity():
    shares = np.zeros((2, 48, 32))
    shares[0, 20, 10] = 1
    shares[1, 5, 5] = shares[1, 40, 25] = 0.5  # so far apart that a guess at one is nothing at the other
    maps = np.concatenate([_chances(shares[:1], highest=1 - 1e-6), _chances(shares[1:], highest=0.18)])

    found = _codec((TWO_CELLS,) * 2).decode({NAME: maps})

    # The other cells keep the least chance, 1e-5: of 1,536 of them a share of 0.015 beside odds of 1.
    assert found[0, 2] == pytest.approx(1, abs=0.01)
    assert found[1, 2] == pytest.approx(np.sqrt(0.18 * 0.5), abs=0.01)


def test_a_persons_score_counts_keypoints_that_are_not_there():
    scores = person_scores(np.array([[0.6, 0.8, 0.0, 0.0], [0.0] * 4]), np.array([1.0, 0.5]))

    np.testing.assert_allclose(scores, [0.5, 0])


def test_people_are_sorted_by_the_product_of_box_and_expected_similarity():
    keypoints = np.array([[0.9, 0.1], [0.6, 0.6], [0.5, 0.5]])

    order = np.argsort(person_scores(keypoints, np.array([1.0, 1.0, 0.9])))

    assert order.tolist() == [2, 1, 0]  # of 0.225, 0.36 and 0.41


def test_an_empty_map_finds_nothing_and_an_even_one_next_to_nothing():
    maps = np.full((3, 48, 32), 1e-4, np.float32)
    maps[1] = 0
    maps[2] = -0.5

    found = _codec((TWO_CELLS,) * 3).decode({NAME: maps})

    assert found[1:].tolist() == [[0, 0, 0]] * 2
    assert 0 < found[0, 2] < 0.005


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 2), (5, 5)])
def test_the_smallest_maps_decode_to_their_only_place(size):
    maps = np.zeros((1, *size), np.float32)
    maps[0, -1, -1] = 0.5

    found = _codec((0.025,)).decode({NAME: maps})

    np.testing.assert_allclose(_cells(found)[0], [size[1] - 1, size[0] - 1], atol=0.5)
    assert found[0, 2] == pytest.approx(np.sqrt(0.5), abs=0.01)


def test_several_crops_decode_as_each_does_alone():
    codec, crops = _codec(COCO.sigmas), _crops(5)

    together = codec.decode({NAME: crops})

    np.testing.assert_array_equal(together, [codec.decode({NAME: one}) for one in crops])
    assert codec.decode({NAME: crops[:0]}).shape == (0, 17, 3)


def test_mirrored_maps_decode_to_mirrored_keypoints():
    codec, crops = _codec(COCO.sigmas), _crops(3, seed=1)

    plain, mirrored = codec.decode({NAME: crops}), codec.decode({NAME: crops[..., ::-1]})

    np.testing.assert_allclose(mirrored[..., 0], 127 - plain[..., 0], atol=1e-3)
    np.testing.assert_allclose(mirrored[..., 1:], plain[..., 1:], atol=1e-3)


def test_the_reach_grows_with_sigma_and_with_the_share_of_the_person():
    wide, narrow = similarity_spreads((0.107, 0.0625), person_cells=12)

    assert (wide, narrow) == pytest.approx((2.568, 1.5))
    # Two equal peaks 3 cells apart become one between them from a spread of half their distance on.
    shares = np.zeros((48, 32))
    shares[20, 10] = shares[20, 13] = 0.5
    near, far = (
        _cells(_codec((0.05,), person_share=share).decode({NAME: _chances(shares)[None]}))[0, 0]
        for share in (0.2, 0.5)
    )
    assert abs(near - 11.5) > 1
    assert far == pytest.approx(11.5, abs=0.05)


def test_settings_survive_the_way_through_a_model_file(fake_description):
    codec = _codec(COCO.sigmas, person_share=0.3)
    plain = json.loads(json.dumps(codec.settings()))

    again = TopDownCodec.from_description(replace(fake_description, fields=codec.fields, codec=plain))

    assert again == codec
    assert (plain["decoding"], plain["person_share"]) == ("expected_oks", 0.3)
    assert plain["sigmas"] == list(COCO.sigmas)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sigmas": ()}, "sigmas must be 17 positive numbers, one per keypoint, got"),
        ({"sigmas": COCO.sigmas[:16]}, "sigmas must be 17 positive numbers"),
        ({"sigmas": (*COCO.sigmas[:16], 0.0)}, "sigmas must be 17 positive numbers"),
        ({"person_share": 0}, "person_share must be more than 0, got 0"),
    ],
)
def test_wrong_settings_are_named(settings, message):
    with pytest.raises(ConfigError, match=message):
        replace(_codec(COCO.sigmas), **settings)


def test_files_without_the_setting_decode_as_before(fake_description):
    codec = _codec(COCO.sigmas)
    before = {"type": "top_down", "input_size": [192, 128], "kernel_cells": 5}
    old = TopDownCodec.from_description(replace(fake_description, fields=codec.fields, codec=before))

    assert (old.decoding, old.has_expected_scores, codec.has_expected_scores) == ("dark", False, True)
