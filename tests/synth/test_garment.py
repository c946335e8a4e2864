import numpy as np
import pytest

from fleetpose.synth.body import vertex_normals
from fleetpose.synth.builtin import builtin_body
from fleetpose.synth.garment import (
    LegCut,
    TopCut,
    cut_shell,
    leg_field,
    measure_regions,
    mix_weights,
    push_out,
    top_field,
)

SQUARE = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], np.float32)
FACES = np.array([[0, 1, 2], [0, 2, 3]], np.int32)


def area(verts, faces):
    corners = verts[faces]
    return (
        0.5
        * np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1).sum()
    )


@pytest.mark.parametrize("place", [0.01, 0.25, 0.5, 0.9])
def test_a_cut_keeps_exactly_the_positive_side(place):
    cut = cut_shell(FACES, SQUARE[:, 0] - place)

    verts = cut.blend(SQUARE)
    assert area(verts, cut.faces) == pytest.approx(1 - place, abs=1e-5)
    assert verts[:, 0].min() == pytest.approx(place, abs=1e-6)


def test_a_cut_leaves_no_seam_between_faces():
    cut = cut_shell(FACES, SQUARE[:, 0] - 0.3)

    assert len(np.unique(cut.blend(SQUARE).round(5), axis=0)) == len(cut.a)


def test_a_cut_keeps_the_winding():
    cut = cut_shell(FACES, SQUARE[:, 0] + SQUARE[:, 1] - 0.7)

    normals = vertex_normals(cut.blend(SQUARE), cut.faces)
    assert (normals[:, 2] > 0.99).all()


def test_nothing_is_left_where_the_field_is_negative():
    assert len(cut_shell(FACES, np.full(4, -1.0)).faces) == 0


def test_pushing_out_moves_along_the_normal():
    moved = push_out(SQUARE, FACES, 0.05)

    np.testing.assert_allclose(moved - SQUARE, [[0, 0, 0.05]] * 4, atol=1e-6)


def test_shirts_and_trousers_cover_what_they_should():
    model = builtin_body()
    regions = measure_regions(model)
    place = {name: verts[0] for name, verts in model.landmarks.items()}
    shirt, trousers = top_field(regions, TopCut(sleeve=0.6)) > 0, leg_field(regions, LegCut(length=1.9)) > 0

    assert not shirt[place["left_wrist"]]
    assert not shirt[place["nose"]]
    assert shirt[(regions.arm > 0.1) & (regions.arm < 0.5)].all()
    assert trousers[place["right_knee"]]
    assert not trousers[regions.arm >= 0].any()
    assert not trousers[regions.leg > 1.95].any()


def test_mixed_weights_sum_to_one_and_keep_the_largest():
    bones = np.array([[0, 1, 2, 3], [4, 5, 0, 1]], np.uint8)
    weights = np.array([[0.7, 0.1, 0.1, 0.1], [0.6, 0.2, 0.1, 0.1]], np.float32)

    bone, weight = mix_weights(np.array([[0, 1]]), np.array([[0.5, 0.5]], np.float32), bones, weights, 6)

    assert weight.sum() == pytest.approx(1.0)
    assert set(bone[0, :2].tolist()) == {0, 4}
