import numpy as np
import pytest

from fleetpose.errors import UnknownNameError
from fleetpose.synth.arrays import aligning_rotation, axis_rotation, twist_angle
from fleetpose.synth.builtin import builtin_body
from fleetpose.synth.pose import BONES, LIMITS, Pose, retarget, rotation_vectors, vary, walk_pose

UP = np.array([0.0, 1.0, 0.0])


@pytest.fixture(scope="module")
def body():
    return builtin_body()


def still():
    return Pose(
        local=np.repeat(np.eye(3)[None], len(BONES), axis=0),
        rest_dir=np.full((len(BONES), 3), np.nan),
        curl_deg=np.zeros((2, 5)),
    )


def test_the_resting_pose_leaves_the_body_as_it_is(body):
    heads, tails = body.joints(body.verts)

    rotation, shift = retarget(still(), body, heads, tails)

    posed = np.einsum("jab,jb->ja", rotation, heads) + shift
    np.testing.assert_allclose(posed - posed[0], heads - heads[0], atol=1e-9)


def test_limbs_point_where_the_source_skeleton_points_them(body):
    heads, tails = body.joints(body.verts)
    pose = walk_pose(0.0, "sit")

    rotation, shift = retarget(pose, body, heads, tails)

    knee, ankle = body.bone("LeftLeg"), body.bone("LeftFoot")
    place = np.einsum("jab,jb->ja", rotation, heads) + shift
    shin = place[ankle] - place[knee]
    expected = pose.globals()[BONES.index("LeftLeg")] @ np.array([0.0, -1.0, 0.0])
    np.testing.assert_allclose(shin / np.linalg.norm(shin), expected, atol=1e-6)


def test_bones_keep_their_lengths_in_any_pose(body):
    heads, tails = body.joints(body.verts)
    pose = vary(np.random.default_rng(3), walk_pose(1.0, "walk"))

    rotation, shift = retarget(pose, body, heads, tails)

    place = np.einsum("jab,jb->ja", rotation, heads) + shift
    children = body.parents >= 0
    before = np.linalg.norm(heads[children] - heads[body.parents[children]], axis=1)
    after = np.linalg.norm(place[children] - place[body.parents[children]], axis=1)
    np.testing.assert_allclose(after, before, atol=1e-9)


def test_mirroring_twice_changes_nothing():
    pose = vary(np.random.default_rng(0), walk_pose(0.7, "gesture"))

    twice = pose.mirrored().mirrored()

    np.testing.assert_allclose(twice.local, pose.local)
    np.testing.assert_allclose(twice.curl_deg, pose.curl_deg)


def test_mirroring_moves_a_raised_right_arm_to_the_left(body):
    heads, tails = body.joints(body.verts)
    height = {}
    for name, pose in (
        ("as drawn", walk_pose(0.0, "gesture")),
        ("mirrored", walk_pose(0.0, "gesture").mirrored()),
    ):
        rotation, shift = retarget(pose, body, heads, tails)
        place = np.einsum("jab,jb->ja", rotation, heads) + shift
        height[name] = place[body.bone("LeftHand"), 1] - place[body.bone("RightHand"), 1]

    assert height["as drawn"] < -0.2
    assert height["mirrored"] == pytest.approx(-height["as drawn"])


def test_turning_by_the_heading_faces_the_camera():
    pose = walk_pose(0.3, "stand").turned(1.1)

    assert pose.heading() == pytest.approx(1.1)
    assert pose.turned(-pose.heading()).heading() == pytest.approx(0.0)


def test_variation_stays_within_joint_limits():
    wild = Pose(local=axis_rotation(UP, np.full(len(BONES), 2.9)), rest_dir=np.full((len(BONES), 3), np.nan))

    varied = vary(np.random.default_rng(0), wild)

    degrees = np.degrees(np.linalg.norm(rotation_vectors(varied.local), axis=1))
    for bone, limit in LIMITS.items():
        for name in (bone, f"Left{bone}", f"Right{bone}"):
            if name in BONES:
                assert degrees[BONES.index(name)] <= limit + 1e-6


def test_aligning_rotation_takes_one_direction_to_the_other():
    source, target = np.array([0.6, 0.8, 0.0]), np.array([0.0, -0.6, 0.8])

    np.testing.assert_allclose(aligning_rotation(source, target) @ source, target, atol=1e-6)


def test_twist_is_the_part_of_a_turn_about_the_axis():
    swing = axis_rotation(np.array([1.0, 0.0, 0.0]), 0.5)
    twist = axis_rotation(UP, 0.8)

    assert twist_angle(swing @ twist, UP) == pytest.approx(0.8)
    assert twist_angle(swing, UP) == pytest.approx(0.0)


def test_an_unknown_action_is_refused_by_name(tmp_path):
    from fleetpose.synth.assets import CHECKSUMS, AssetFolder
    from fleetpose.synth.pose import PoseLibrary

    write_takes(tmp_path)
    library = PoseLibrary(AssetFolder(tmp_path))

    with pytest.raises(UnknownNameError, match="'wlak'; did you mean walk"):
        library.draw(np.random.default_rng(0), actions=("wlak",))
    assert (tmp_path / CHECKSUMS).is_file()


def test_clips_play_a_take_in_order_and_start_facing_the_camera(tmp_path):
    from fleetpose.synth.assets import AssetFolder
    from fleetpose.synth.pose import PoseLibrary

    write_takes(tmp_path)
    library = PoseLibrary(AssetFolder(tmp_path))

    clip = library.clip(np.random.default_rng(0), 6, fps=10.0, actions=("walk",))

    assert clip[0].heading() == pytest.approx(0.0, abs=1e-3)
    steps = np.diff([pose.root[2] for pose in clip])
    # The take walks ahead by 0.1 m a frame, for a leg of 0.8 m.
    np.testing.assert_allclose(steps, 0.125, atol=1e-3)


def write_takes(folder):
    """One walking take of twenty frames that turns its heading away and walks straight ahead."""
    from fleetpose.synth.assets import CHECKSUMS

    frames = 20
    quat = np.zeros((frames, len(BONES), 4), np.float16)
    quat[..., 0] = 1
    quat[:, 0] = [np.cos(0.4), 0, np.sin(0.4), 0]
    ahead = np.array([np.sin(0.8), 0, np.cos(0.8)])
    (folder / "poses").mkdir()
    (folder / CHECKSUMS).write_text("")
    np.savez(
        folder / "poses" / "mine.npz",
        quat=quat, root=(np.arange(frames)[:, None] * 0.1 * ahead).astype(np.float32),
        rest_dir=np.full((1, len(BONES), 3), np.nan, np.float32), skel_leg_m=np.array([0.8]),
        take_name=np.array(["stroll"]), take_tag=np.array(["walk"]), take_skel=np.array([0]),
        take_fps=np.array([10.0]), take_start=np.array([0]), take_len=np.array([frames]),
        source=np.array("own"),
    )  # fmt: skip
