from itertools import pairwise

import numpy as np
import pytest

from fleetpose.geometry import is_inside
from fleetpose.skeletons import COCO, CROWDPOSE, MPII
from fleetpose.synth.actor import KEYPOINTS
from fleetpose.synth.generate import make_clip, make_picture
from fleetpose.synth.label import annotation
from fleetpose.synth.mesh import Semantic
from fleetpose.synth.stage import MAX_OVERLAP, draw_shot


@pytest.fixture(scope="module")
def pictures(library, config):
    return [make_picture(library, config, seed) for seed in range(12)]


@pytest.fixture(scope="module")
def people(pictures):
    return [person for picture in pictures for person in picture.people]


def test_the_same_seed_draws_the_same_picture_whatever_was_drawn_before(library, config, pictures):
    again = make_picture(library, config, 5)

    np.testing.assert_array_equal(again.image, pictures[5].image)
    np.testing.assert_array_equal(again.depth, pictures[5].depth)
    assert [annotation(p, number=1, image_id=1) for p in again.people] == [
        annotation(p, number=1, image_id=1) for p in pictures[5].people
    ]


def test_different_seeds_draw_different_pictures(pictures):
    assert len({picture.image.tobytes() for picture in pictures}) == len(pictures)


def test_pictures_have_the_size_asked_for_and_are_neither_black_nor_blank(pictures):
    for picture in pictures:
        assert picture.image.shape == (96, 128, 3)
        assert 30 < picture.image.mean() < 225
        assert picture.image.std() > 8


def test_visible_keypoints_lie_on_their_person_or_next_to_it(people):
    exact, near = [], []
    # At a height of 30 pixels an arm is two pixels wide.
    for person in (p for p in people if np.ptp(p.box[1::2]) > 30):
        visible = person.keypoints[:17][person.keypoints[:17, 2] == 2, :2].round().astype(int)
        for x, y in np.clip(visible, 0, (127, 95)):
            exact.append(person.mask[y, x])
            near.append(person.mask[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2].any())

    assert len(exact) > 100
    assert all(near)
    assert np.mean(exact) > 0.9


def test_keypoints_outside_the_picture_are_not_labelled(people):
    for person in people:
        inside = is_inside(person.keypoints[:, :2], (96, 128))
        assert inside[person.keypoints[:, 2] > 0].all()
        assert (person.keypoints[person.keypoints[:, 2] == 0] == 0).all()


def test_points_in_space_project_to_the_keypoints(library, config):
    shot = draw_shot(np.random.default_rng(3), library, config)
    seen = [shot.camera.project(actor.keypoints) for actor in shot.actors]

    picture = make_picture(library, config, 3)

    by_id = {actor.person_id: points for actor, points in zip(shot.actors, seen, strict=True)}
    for person in picture.people:
        labelled = person.keypoints[:, 2] > 0
        np.testing.assert_allclose(
            person.keypoints[labelled, :2], by_id[person.person_id][labelled, :2], atol=1e-6
        )
        space = person.points_3d[labelled]
        focal = shot.camera.focal
        np.testing.assert_allclose(
            space[:, 0] / space[:, 2] * focal + 63.5, person.keypoints[labelled, 0], atol=1e-6
        )


def test_boxes_hold_their_masks_tightly(people):
    for person in people:
        x1, y1, x2, y2 = (person.box + 0.5).astype(int)
        assert person.mask[y1:y2, x1:x2].sum() == person.mask.sum()
        assert person.mask[y1].any()
        assert person.mask[:, x2 - 1].any()


def test_masks_of_a_picture_do_not_overlap(pictures):
    for picture in pictures:
        if picture.people:
            assert np.sum([person.mask for person in picture.people], axis=0).max() <= 1


def test_depth_and_classes_agree_with_the_masks(pictures):
    for picture in pictures:
        for person in picture.people:
            classes = picture.semantic[person.mask]
            assert ((classes > Semantic.UNKNOWN) & (classes <= Semantic.TORSO)).mean() > 0.95
            assert (picture.depth[person.mask] > 0).mean() > 0.9


def test_left_is_on_the_right_of_people_who_face_the_camera(library, config):
    for seed in range(12):
        shot = draw_shot(np.random.default_rng(seed), library, config)
        for actor in shot.actors:
            towards = shot.camera.position - actor.hips
            facing = np.cos(np.arctan2(towards[0], towards[2]) - actor.heading_rad)
            left, right = (KEYPOINTS.index(f"{side}_hip") for side in ("left", "right"))
            seen = shot.camera.project(actor.keypoints)
            if abs(facing) > 0.5 and np.abs(shot.camera.rotation[0, 1]) < 0.3:
                assert (seen[left, 0] > seen[right, 0]) == (facing > 0)


def test_people_stand_on_the_ground_and_keep_clear_of_each_other(library, config):
    from fleetpose.synth.actor import overlap

    for seed in range(8):
        actors = draw_shot(np.random.default_rng(seed), library, config).actors
        for actor in actors:
            lowest = actor.verts[actor.person.mesh.faces[: actor.person.mesh.solid_faces].ravel(), 1].min()
            assert lowest == pytest.approx(0, abs=1e-4)
        for k, first in enumerate(actors):
            assert all(overlap(first.spheres, second.spheres) <= MAX_OVERLAP for second in actors[:k])


def test_other_skeletons_get_the_keypoints_of_their_names(people):
    person = people[0]
    mpii = person.in_skeleton(MPII.name, MPII.keypoints)
    crowdpose = person.in_skeleton(CROWDPOSE.name, CROWDPOSE.keypoints)
    coco = person.in_skeleton(COCO.name, COCO.keypoints)

    knee = coco[COCO.keypoints.index("left_knee")]
    np.testing.assert_array_equal(mpii[MPII.keypoints.index("left_knee")], knee)
    np.testing.assert_array_equal(crowdpose[CROWDPOSE.keypoints.index("left_knee")], knee)
    np.testing.assert_array_equal(
        mpii[MPII.keypoints.index("head_top")], crowdpose[CROWDPOSE.keypoints.index("head")]
    )


def test_a_clip_keeps_its_people_and_moves_them(library, config):
    frames = list(make_clip(library, config, 2, frames=5, fps=10.0))

    ids = [{person.person_id for person in frame.people} for frame in frames]
    assert ids[0]
    assert all(found == ids[0] for found in ids)
    assert {frame.seed for frame in frames} == {2}
    first, last = frames[0].people[0], frames[-1].people[0]
    assert not np.allclose(first.points_3d, last.points_3d)
    for before, after in pairwise(frames):
        step = np.linalg.norm(before.people[0].points_3d - after.people[0].points_3d, axis=1)
        assert step.max() < 0.8  # metres in a tenth of a second


def test_photographs_serve_as_backgrounds(library, config, tmp_path):
    from dataclasses import replace

    import cv2

    flat = np.full((200, 300, 3), (40, 160, 90), np.uint8)
    cv2.imwrite(str(tmp_path / "green.png"), flat)

    picture = make_picture(library, replace(config, scenes=("photo",)), 1, [tmp_path / "green.png"])

    corner = picture.image[:20].reshape(-1, 3).mean(axis=0)
    assert picture.scene == "photo:green.png"
    assert corner[1] > corner[0]
    assert corner[1] > corner[2]
