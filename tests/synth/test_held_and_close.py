from dataclasses import replace

import numpy as np
import pytest

from fleetpose.synth.actor import ALONG, GRIP, PALM, THUMB, pose_actor
from fleetpose.synth.backdrop import empty_panorama
from fleetpose.synth.camera import Camera
from fleetpose.synth.config import SynthConfig
from fleetpose.synth.generate import make_clip, make_picture
from fleetpose.synth.held import BAG_ROOM, EMPTY_HANDED, KINDS, Held, draw_held, make_parts
from fleetpose.synth.mesh import Material, Semantic
from fleetpose.synth.person import draw_person
from fleetpose.synth.scene import plain_panorama
from fleetpose.synth.sensor import Sensor, blur_person, take_picture
from fleetpose.synth.stage import NEAREST, draw_backdrop, draw_view

PLAIN = Material(Semantic.OBJECT)


@pytest.fixture
def actor(library):
    rng = np.random.default_rng(3)
    pose = library.poses.draw(rng, actions=("stand",))
    return pose_actor(library.model, draw_person(rng, library), pose, person_id=0, yaw_rad=0.4).moved(
        2.0, -3.0
    )


def test_hands_are_where_the_wrists_are_with_three_square_axes(actor):
    for side in (0, 1):
        hand = actor.hands[side]
        axes = hand[[ALONG, THUMB, PALM]]
        np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-9)
        assert np.linalg.norm(hand[GRIP] - actor.keypoints[9 + side]) < 0.15


def test_palms_of_hanging_arms_face_the_body(actor):
    for side, other in ((0, 1), (1, 0)):
        hand = actor.hands[side]
        towards = actor.hands[other, GRIP] - hand[GRIP]

        assert hand[PALM] @ towards > 0


@pytest.mark.parametrize("kind", KINDS)
def test_things_are_at_the_hand_that_holds_them(actor, kind):
    parts = tuple(make_parts(np.random.default_rng(1), kind, PLAIN))

    for side in (0, 1):
        props = Held(kind, side, parts).props(actor)
        verts = np.concatenate([prop.verts for prop in props])
        assert (
            np.linalg.norm(verts - actor.hands[side, GRIP], axis=1).min() < 0.16
        )  # a stick has no vertex in its middle


def test_a_bag_needs_room_below_the_hand(actor):
    parts = tuple(make_parts(np.random.default_rng(1), "bag", PLAIN))
    low = actor.moved(0.0, 0.0, y=BAG_ROOM - actor.hands[0, GRIP, 1] - 0.01)

    assert Held("bag", 0, parts).props(actor)
    assert not Held("bag", 0, parts).props(low)


def test_hands_that_are_busy_stay_empty(library):
    assert draw_held(np.random.default_rng(0), library, "stand") is not None
    assert all(draw_held(np.random.default_rng(0), library, action) is None for action in EMPTY_HANDED)


def test_held_things_are_objects_in_the_picture(library, config):
    without, with_things = (
        make_picture(library, replace(config, held=share, scenes=("room",), occluders=0.0), 5).semantic
        for share in (0.0, 1.0)
    )

    assert (with_things == Semantic.OBJECT).sum() != (without == Semantic.OBJECT).sum()


def test_close_ups_are_taller_than_the_picture_and_keep_the_head(library):
    config = SynthConfig(size=(128, 128), people=(1, 1), mean_people=1, close_ups=1.0, occluders=0.0)
    tall, heads = [], []
    for seed in range(12):
        for person in make_picture(library, config, seed).people:
            tall.append(np.ptp(person.box[1::2]) / 128)
            heads.append((person.keypoints[:5, 2] > 0).any())

    assert np.median(tall) > 0.6
    assert np.mean(heads) > 0.7


def test_a_close_up_is_aimed_at_the_head_it_was_told(library):
    config = SynthConfig(close_ups=1.0, scenes=("street",))
    for seed in range(10):
        rng = np.random.default_rng(seed)
        backdrop = draw_backdrop(rng, library, config, ())
        camera, distance = draw_view(rng, backdrop, config, top=1.7)
        level = camera.rotation[2] * np.array([1, 0, 1])
        head = camera.position * np.array([1, 0, 1]) + level / np.linalg.norm(level) * distance
        head[1] = 1.7

        x, y, _ = camera.project(head[None])[0]

        assert distance >= NEAREST
        assert -60 < y < 250
        assert abs(x - 255.5) < 150


def camera_at(position, yaw=0.0, pitch=-0.2):
    return Camera.looking(
        position=np.array(position), yaw_rad=yaw, pitch_rad=pitch, roll_rad=0.0, focal=100.0, size=(121, 161)
    )


def test_a_far_panorama_shows_a_light_where_the_camera_projects_it():
    codes = np.zeros((256, 512, 3), np.uint8)
    codes[90:93, 300:303] = 250
    azimuth, elevation = (301.5 / 512 - 0.5) * 2 * np.pi + 0.3, (0.5 - 91.5 / 256) * np.pi
    far = 1000 * np.array(
        [np.sin(azimuth) * np.cos(elevation), np.sin(elevation), -np.cos(azimuth) * np.cos(elevation)]
    )
    camera = camera_at((0.0, 1.6, 0.0), yaw=0.9, pitch=0.5)

    seen = empty_panorama(plain_panorama(codes, yaw_rad=0.3), camera.view(), camera.size)[..., 0]

    x, y, _ = camera.project(far[None] + camera.position)[0]
    ys, xs = np.mgrid[:121, :161]
    assert (seen * xs).sum() / seen.sum() == pytest.approx(x, abs=0.6)
    assert (seen * ys).sum() / seen.sum() == pytest.approx(y, abs=0.6)


def test_a_panoramas_ground_stays_in_place_when_the_camera_moves():
    codes = np.zeros((512, 1024, 3), np.uint8)
    height, spot = 1.5, np.array([0.8, 0.0, -3.0])
    u = (np.arctan2(spot[0], -spot[2]) / (2 * np.pi) + 0.5) * 1024
    v = (0.5 + np.arctan2(height, np.hypot(spot[0], spot[2])) / np.pi) * 512
    codes[int(v) - 1 : int(v) + 2, int(u) - 1 : int(u) + 2] = 250
    ground = plain_panorama(codes)._replace(dome=50.0, height=height)

    for position in ((0.0, 1.5, 0.0), (0.6, 1.1, 1.0)):
        camera = camera_at(position)
        seen = empty_panorama(ground, camera.view(), camera.size)[..., 0]
        x, y, _ = camera.project(spot[None])[0]
        ys, xs = np.mgrid[:121, :161]
        assert (seen * xs).sum() / seen.sum() == pytest.approx(x, abs=1.0)
        assert (seen * ys).sum() / seen.sum() == pytest.approx(y, abs=1.0)


def test_a_moving_person_is_smeared_along_the_motion_about_the_same_middle():
    colour = np.zeros((60, 480, 3), np.float32)
    mask = np.zeros((60, 480), bool)
    mask[20:40, 30:50] = True
    colour[mask] = 1.0

    blur_person(colour, mask, (12.0, 0.0))

    across, down = colour[30, :, 0], colour[:, 40, 0]
    assert 0 < across[27] < 1
    assert across[20] < 1e-6
    assert down[18] < 1e-6
    assert across @ np.arange(480) / across.sum() == pytest.approx(39.5, abs=0.1)


def test_only_the_person_who_moves_is_smeared():
    rng = np.random.default_rng(0)
    colour = rng.uniform(0.2, 0.8, (40, 60, 3)).astype(np.float32)
    owner = np.full((40, 60), -1)
    owner[10:30, 5:15], owner[10:30, 40:50] = 0, 1
    still, moved = (
        take_picture(
            np.random.default_rng(1), colour, colour[..., 0], owner, Sensor(motion=motion), (40, 60)
        ).astype(int)
        for motion in ((), ((0.0, 0.0), (0.0, 8.0)))
    )

    changed = np.abs(still - moved).max(axis=2)
    assert changed[12:28, 41:49].mean() > 5
    assert changed[:, :30].mean() < 2


def test_clips_carry_the_thing_along(library, config):
    settings = replace(
        config, people=(1, 1), mean_people=1, held=1.0, close_ups=0.0, scenes=("room",), size=(160, 160),
        person_px=(300.0, 400.0),
    )  # fmt: skip

    pictures = list(make_clip(library, settings, 2, frames=3, fps=5.0))

    near = []
    for picture in pictures:
        ys, xs = np.nonzero(picture.semantic == Semantic.OBJECT)
        wrists = picture.people[0].keypoints[9:11, :2]
        near.append(np.hypot(xs - wrists[:, :1], ys - wrists[:, 1:]).min())
    assert len(near) == 3
    assert max(near) < 12


@pytest.mark.parametrize("name", ["close_ups", "held", "clutter", "motion_blur"])
def test_shares_beyond_one_are_refused(name):
    with pytest.raises(ValueError, match=f"{name} must be a share"):
        SynthConfig(**{name: 1.2})
