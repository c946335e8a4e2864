"""Two looks at the same people, made by hand."""

import numpy as np

from fleetpose.codecs.looks import join_looks

AREAS = np.array([100.0 * 100.0])


def look(*keypoints):
    return np.array([keypoints], np.float32)


def test_places_near_each_other_are_averaged_by_their_scores():
    joined = join_looks(look((10, 10, 0.2)), look((20, 30, 0.6)), AREAS * 4)

    np.testing.assert_allclose(joined, look((17.5, 25, 0.6)), rtol=1e-6)


def test_of_places_far_from_each_other_the_surer_stays():
    first, second = look((0, 0, 0.5), (0, 0, 0.4)), look((21, 0, 0.4), (0, 21, 0.5))

    joined = join_looks(first, second, AREAS)

    np.testing.assert_array_equal(joined, look((0, 0, 0.5), (0, 21, 0.5)))


def test_what_is_near_grows_with_the_person():
    first, second = look((0, 0, 0.5)), look((30, 0, 0.5))

    small, large = (join_looks(first, second, area)[0, 0, 0] for area in (AREAS, AREAS * 4))

    assert (small, large) == (0, 15)


def test_the_order_of_the_looks_changes_nothing():
    rng = np.random.default_rng(0)
    first, second = (
        np.concatenate([rng.uniform(0, 60, (3, 17, 2)), rng.uniform(0, 1, (3, 17, 1))], axis=2).astype(
            np.float32
        )
        for _ in range(2)
    )

    joined, turned = (join_looks(*looks, np.full(3, 1e4)) for looks in ((first, second), (second, first)))

    np.testing.assert_allclose(joined, turned, rtol=1e-5)
    assert joined.dtype == np.float32


def test_keypoints_that_neither_look_saw_stay_finite_and_unsure():
    joined = join_looks(look((4, 4, 0)), look((6, 4, 0)), AREAS)

    assert joined.tolist() == [[[5, 4, 0]]]


def test_nobody_is_nobody():
    nobody = np.zeros((0, 17, 3), np.float32)

    assert join_looks(nobody, nobody, np.zeros(0)).shape == (0, 17, 3)
