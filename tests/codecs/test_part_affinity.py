"""Part affinity fields: the author's grouping to the last bit, and ours on people whose places are known."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetpose.codecs.description import ModelDescription
from fleetpose.codecs.fields import Field, FieldKind
from fleetpose.codecs.part_affinity import (
    CODEC_TYPE,
    OPENPOSE_KEYPOINTS,
    OPENPOSE_LIMBS,
    OPENPOSE_ORDER,
    PartAffinityCodec,
)
from fleetpose.codecs.part_affinity_channels import limbs_between, mirrored_channels, mirrored_fields
from fleetpose.codecs.part_affinity_grouping import (
    Limb,
    PartAffinitySettings,
    completing,
    group_by_limbs,
    group_in_reference_order,
)
from fleetpose.errors import CheckpointError, ConfigError, ShapeError
from fleetpose.geometry import flip_points
from fleetpose.skeletons import COCO, MPII, Skeleton

FIELDS = (
    Field(FieldKind.HEATMAPS, 19, 8, label="stage0"),
    Field(FieldKind.PAFS, 38, 8, label="stage0"),
    Field(FieldKind.HEATMAPS, 19, 8, label="stage1"),
    Field(FieldKind.PAFS, 38, 8, label="stage1"),
)
HEATMAPS, PAFS = "heatmaps_s8_stage1", "pafs_s8_stage1"
LIMBS = limbs_between(OPENPOSE_LIMBS, OPENPOSE_KEYPOINTS)
SIZE = (512, 640)


@pytest.fixture
def codec():
    return PartAffinityCodec(fields=FIELDS, skeleton=COCO)


def people_at(stick_person, corners, *, scale=1.0):
    """People `[N, 17, 3]`, the stick figure put at each corner, all visible."""
    points = np.array([scale * stick_person + corner for corner in corners])
    return np.concatenate([points, np.full((*points.shape[:2], 1), 2.0)], axis=-1)


def by_first_keypoint(people):
    return people[np.argsort(people[:, 0, 0])]


@pytest.mark.parametrize("case", ["N1", "N3"])
def test_the_reference_equals_the_author_to_the_last_bit(case, shared):
    with np.load(shared / "golden" / "lwop_decode" / f"{case}.npz") as file:
        golden = {key: file[key].astype(np.float64) for key in file}
    heatmaps, pafs = (golden[key].astype(np.float32).transpose(2, 0, 1) for key in ("heatmaps", "pafs"))

    people = group_in_reference_order(
        heatmaps[:18], pafs, [LIMBS[number] for number in OPENPOSE_ORDER], PartAffinitySettings()
    )

    np.testing.assert_array_equal(people.candidates, golden["all_keypoints"])
    np.testing.assert_array_equal(people.members, golden["pose_entries"][:, :18])
    np.testing.assert_array_equal(people.totals, golden["pose_entries"][:, 18])
    np.testing.assert_array_equal(people.counts, golden["pose_entries"][:, 19])


@pytest.mark.parametrize("case", ["N1", "N3"])
def test_the_default_finds_the_authors_people_to_half_a_cell(case, shared):
    with np.load(shared / "golden" / "lwop_decode" / f"{case}.npz") as file:
        golden = dict(file)
    heatmaps, pafs = (golden[key].astype(np.float32).transpose(2, 0, 1) for key in ("heatmaps", "pafs"))

    keypoints, _ = group_by_limbs(heatmaps[:18], pafs, LIMBS, PartAffinitySettings(), stride=2)

    theirs = golden["pose_entries"]
    assert len(keypoints) == len(theirs)
    for person in theirs:
        known = np.flatnonzero(person[:18] >= 0)
        places = golden["all_keypoints"][person[known].astype(int), :2]
        away = np.abs(keypoints[:, known, :2] - places).max(axis=2)
        assert (away <= 1).mean(axis=1).max() >= 0.9


def test_people_are_found_where_they_were_drawn_to_a_twentieth_of_a_pixel(codec, stick_person):
    people = people_at(stick_person, [(60.3, 80.8), (400.1, 200.4)])

    keypoints, scores = codec.decode(codec.encode(people, size=SIZE))

    assert len(scores) == 2
    np.testing.assert_allclose(by_first_keypoint(keypoints)[..., :2], people[..., :2], atol=0.05)


def test_the_authors_way_finds_them_too_but_only_to_a_few_pixels(codec, stick_person):
    people = people_at(stick_person, [(60.3, 80.8), (400.1, 200.4)], scale=1.3)
    authors = replace(codec, enlarged=4, limb_order=OPENPOSE_ORDER)

    keypoints, _ = authors.decode(authors.encode(people, size=SIZE))

    away = np.abs(by_first_keypoint(keypoints)[..., :2] - people[..., :2])
    assert 0.1 < away.max() < 3


def test_the_neck_is_drawn_midway_between_the_shoulders_if_both_are_labelled(codec, stick_person):
    people = people_at(stick_person, [(100, 100)])
    both = codec.encode(people, size=SIZE)[HEATMAPS][1]
    people[0, COCO.index("left_shoulder"), 2] = 0
    one = codec.encode(people, size=SIZE)[HEATMAPS][1]

    shoulders = people[0, [5, 6], :2].mean(axis=0)
    row, column = np.unravel_index(both.argmax(), both.shape)

    assert abs(column * 8 + 3.5 - shoulders[0]) <= 4
    assert abs(row * 8 + 3.5 - shoulders[1]) <= 4
    assert one.max() == 0


def test_targets_are_those_of_the_paper(codec, stick_person):
    people = people_at(stick_person, [(100, 100), (101, 100)])

    targets = codec.encode(people, size=SIZE)

    assert {name: values.shape for name, values in targets.items()} == {
        field.name: (field.channels, 64, 80) for field in FIELDS
    }
    heatmaps, pafs = targets[HEATMAPS], targets[PAFS]
    np.testing.assert_allclose(heatmaps[18], 1 - heatmaps[:18].max(axis=0), atol=1e-6)
    assert heatmaps.max() == 1  # two Gaussians together are more, and cut
    lengths = np.hypot(pafs[::2], pafs[1::2])
    assert lengths.max() == pytest.approx(1, abs=1e-6)
    right_shin = pafs[4:6, 35, 17]  # runs down, a little to the left
    assert right_shin[1] > 0.9
    # Beyond the author's cut there is nothing.
    nose = heatmaps[0]
    rows, columns = np.nonzero(nose)
    assert np.hypot(columns * 8 + 3.5 - 160.5, rows * 8 + 3.5 - 120).max() <= 7 * np.sqrt(2 * np.log(100)) + 1


def test_unlabelled_keypoints_may_hold_anything(codec, stick_person):
    people = people_at(stick_person, [(100, 100)])
    people[0, 9:11] = (np.nan, np.nan, 0)

    keypoints, _ = codec.decode(codec.encode(people, size=SIZE))

    assert (keypoints[0, 9:11] == 0).all()
    assert (keypoints[0, :9, 2] > 0.5).all()


def test_someone_whose_neck_is_hidden_stays_one_person(codec, stick_person):
    people = people_at(stick_person, [(100, 100)])
    targets = codec.encode(people, size=SIZE)
    targets[HEATMAPS][1] = 0

    ours, _ = codec.decode(targets)
    authors, _ = replace(codec, enlarged=4, limb_order=OPENPOSE_ORDER).decode(targets)

    assert (ours[0, :, 2] > 0).sum() == 11  # head and arms; no limb but the neck's leads to the hips
    assert (authors[..., 2] > 0).sum(axis=1).max() < 11


def test_a_person_has_each_keypoint_once_even_where_two_limbs_lead_to_it():
    heatmaps = np.zeros((3, 12, 40), np.float32)
    heatmaps[0, 6, 5] = heatmaps[1, 6, 15] = heatmaps[2, 6, 25] = heatmaps[2, 6, 35] = 1
    pafs = np.zeros((4, 12, 40), np.float32)
    pafs[[0, 2]] = 1
    chain = (Limb(0, 1, 0), Limb(1, 2, 1))

    keypoints, scores = group_by_limbs(
        heatmaps, pafs, chain, PartAffinitySettings(min_keypoints=1, min_score=0), stride=8
    )

    assert (keypoints[..., 2] > 0).sum(axis=1).tolist() == [3, 1]
    assert scores[0] == pytest.approx(1)


def test_the_better_limb_wins():
    heatmaps = np.zeros((2, 20, 20), np.float32)
    heatmaps[0, 5, 5] = heatmaps[1, 5, 15] = heatmaps[1, 15, 5] = 1
    pafs = np.zeros((2, 20, 20), np.float32)
    pafs[0], pafs[1] = 0.5, 0.8
    limb = (Limb(0, 1, 0),)

    keypoints, _ = group_by_limbs(
        heatmaps, pafs, limb, PartAffinitySettings(min_keypoints=2, min_score=0), stride=8
    )

    assert keypoints[0, 1, :2].tolist() == [5, 15]


def test_limbs_need_agreement_on_more_than_the_share():
    heatmaps = np.zeros((2, 5, 20), np.float32)
    heatmaps[0, 2, 0] = heatmaps[1, 2, 18] = 1
    limb, lenient = (Limb(0, 1, 0),), PartAffinitySettings(min_keypoints=2, min_score=0)

    def people(columns):
        pafs = np.zeros((2, 5, 20), np.float32)
        pafs[0, :, :columns] = 1
        return len(group_by_limbs(heatmaps, pafs, limb, lenient, stride=8)[0])

    assert [people(15), people(17)] == [0, 1]  # samples lie two cells apart: 8 of 10, and 9 of 10


def test_peaks_closer_than_the_radius_are_one():
    heatmaps = np.zeros((2, 9, 30), np.float32)
    heatmaps[0, 4, 4], heatmaps[0, 4, 6], heatmaps[1, 4, 24] = 0.6, 0.9, 0.9
    pafs = np.zeros((2, 9, 30), np.float32)
    pafs[0] = 1
    near = PartAffinitySettings(min_keypoints=1, min_score=0, radius_px=24)

    together, _ = group_by_limbs(heatmaps, pafs, (Limb(0, 1, 0),), near, stride=8)
    apart, _ = group_by_limbs(heatmaps, pafs, (Limb(0, 1, 0),), replace(near, radius_px=12), stride=8)

    assert len(together) == 1
    assert together[0, 0, 0] == 6
    assert len(apart) == 2


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**16), count=st.integers(1, 5))
def test_the_order_of_people_changes_nothing(seed, count, stick_person):
    codec = PartAffinityCodec(fields=FIELDS, skeleton=COCO)
    rng = np.random.default_rng(seed)
    people = people_at(stick_person, rng.uniform((20, 20), (480, 280), (count, 2)))

    first, first_scores = codec.decode(codec.encode(people, size=SIZE))
    second, second_scores = codec.decode(codec.encode(people[::-1], size=SIZE))

    np.testing.assert_allclose(first_scores, second_scores, atol=1e-5)
    np.testing.assert_allclose(by_first_keypoint(first), by_first_keypoint(second), atol=1e-3)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**16), count=st.integers(1, 4))
def test_mirrored_maps_give_mirrored_people(seed, count, stick_person):
    codec = PartAffinityCodec(fields=FIELDS, skeleton=COCO)
    rng = np.random.default_rng(seed)
    corners = np.stack([20 + 150 * rng.permutation(count), rng.uniform(20, 280, count)], axis=1)
    targets = codec.encode(people_at(stick_person, corners), size=SIZE)
    mirrored = codec.merge_flipped(
        {name: np.zeros_like(values) for name, values in targets.items()}, targets, COCO.flip_permutation
    )
    doubled = {name: 2 * values for name, values in mirrored.items()}

    keypoints, _ = codec.decode(targets)
    back, _ = codec.decode(doubled)

    expected = flip_points(by_first_keypoint(keypoints)[::-1][:, COCO.flip_permutation], SIZE[1])
    np.testing.assert_allclose(by_first_keypoint(back)[..., :2], expected[..., :2], atol=1e-3)


def test_a_picture_and_its_mirror_image_average_to_the_same_targets(codec, stick_person):
    people = people_at(stick_person, [(100.5, 100)])
    mirrored = flip_points(people, SIZE[1])[:, COCO.flip_permutation]
    ours, theirs = codec.encode(people, size=SIZE), codec.encode(mirrored, size=SIZE)

    merged = codec.merge_flipped(ours, theirs, COCO.flip_permutation)

    np.testing.assert_allclose(merged[HEATMAPS], ours[HEATMAPS], atol=1e-5)
    np.testing.assert_allclose(merged[PAFS], ours[PAFS], atol=1e-5)


def test_a_limb_that_runs_from_left_to_right_is_mirrored_backwards():
    channels, signs = mirrored_fields([("left_hip", "right_hip"), ("neck", "nose")], [])

    assert channels.tolist() == [0, 1, 2, 3]
    assert signs.tolist() == [1, -1, -1, 1]


def test_limbs_without_a_mirror_image_are_refused():
    with pytest.raises(ConfigError, match="left_hip-left_knee, but not its mirror image"):
        mirrored_fields(
            [("left_hip", "left_knee"), ("right_hip", "left_hip"), ("right_knee", "left_hip")], []
        )


def test_keypoints_and_limbs_change_places_as_the_skeleton_says_whatever_their_names():
    skeleton = Skeleton(
        name="boat",
        keypoints=("bow", "port", "starboard"),
        limbs=(("bow", "port"), ("bow", "starboard"), ("port", "starboard")),
        flip_pairs=(("port", "starboard"),),
        sigmas=(0.1,) * 3,
    )
    fields = (Field(FieldKind.HEATMAPS, 3, 8), Field(FieldKind.PAFS, 6, 8))
    codec = PartAffinityCodec(
        fields=fields, skeleton=skeleton, keypoints=skeleton.keypoints, limbs=skeleton.limbs, limb_order=None
    )
    boat = np.array([[[100, 40, 2], [60, 120, 2], [150, 130, 2]]], np.float32)
    seen = flip_points(boat, 256)[:, skeleton.flip_permutation]
    ours, theirs = codec.encode(boat, size=(256, 256)), codec.encode(seen, size=(256, 256))

    merged = codec.merge_flipped(ours, theirs, skeleton.flip_permutation)

    for field in fields:
        np.testing.assert_allclose(merged[field.name], ours[field.name], atol=1e-5)


def test_a_skeletons_pairs_count_for_more_than_names():
    names = ("left_a", "right_a", "right_b", "left_c", "right_c")

    order = mirrored_channels(names, [("left_a", "right_b")])

    # right_a has lost its partner and stays; left_c and right_c, which the skeleton lacks, go by their names.
    assert [names[k] for k in order] == ["right_b", "right_a", "left_a", "right_c", "left_c"]


def test_a_limb_whose_end_has_no_mirror_image_among_the_limbs_is_refused():
    with pytest.raises(ConfigError, match="bow-port, but not its mirror image"):
        mirrored_fields([("bow", "port")], [("port", "starboard")])


@pytest.mark.slow
def test_three_hundred_people_are_told_apart(codec, stick_person):
    corners = [(72 * column, 140 * row) for row in range(10) for column in range(30)]
    people = people_at(stick_person, corners, scale=0.6)
    fine = replace(
        codec,
        fields=(Field(FieldKind.HEATMAPS, 19, 4), Field(FieldKind.PAFS, 38, 4)),
        sigma_px=3.0,
        grouping=PartAffinitySettings(max_people=300, radius_px=4),
    )

    keypoints, _ = fine.decode(fine.encode(people, size=(1408, 2176)))

    assert len(keypoints) == 300
    nearest = np.abs(keypoints[:, None, 0, :2] - people[None, :, 0, :2]).max(axis=2).argmin(axis=1)
    np.testing.assert_allclose(keypoints[..., :2], people[nearest, :, :2], atol=0.05)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (64, 80)])
@pytest.mark.parametrize("enlarged", [0, 4])
def test_empty_maps_of_any_size_give_nobody(codec, size, enlarged):
    outputs = {HEATMAPS: np.zeros((19, *size), np.float32), PAFS: np.zeros((38, *size), np.float32)}

    keypoints, scores = replace(codec, enlarged=enlarged).decode(outputs)

    assert keypoints.shape == (0, 17, 3)
    assert scores.shape == (0,)


@pytest.mark.parametrize("name", [HEATMAPS, PAFS])
def test_maps_that_are_not_finite_are_refused_by_name(codec, stick_person, name):
    targets = codec.encode(people_at(stick_person, [(100, 100)]), size=SIZE)
    targets[name][:] = np.nan

    with pytest.raises(ShapeError, match=f"^{name.partition('_')[0]} must be finite"):
        codec.decode(targets)


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ({HEATMAPS: np.zeros((19, 4, 4))}, f"outputs must be a mapping that holds {PAFS}"),
        ({HEATMAPS: np.zeros((18, 4, 4)), PAFS: np.zeros((38, 4, 4))}, r"of shape \[19, h, w\]"),
        ({HEATMAPS: np.zeros((19, 4, 4)), PAFS: np.zeros((38, 4, 5))}, r"pafs must be of shape \[38 or more"),
    ],
)
def test_maps_that_do_not_fit_are_refused(codec, outputs, message):
    with pytest.raises(ShapeError, match=message):
        codec.decode(outputs)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fields": FIELDS[:1]}, "needs heatmaps and fields"),
        ({"keypoints": OPENPOSE_KEYPOINTS[:15]}, "ask for 15 heatmaps"),
        ({"limbs": OPENPOSE_LIMBS[:18]}, "36 channels of fields"),
        ({"limbs": (*OPENPOSE_LIMBS[:18], ("nose", "tail"))}, "'tail'"),
        ({"sigma_px": 0.0}, "above 0"),
        ({"limb_order": (0, 1)}, "each of 19 limbs"),
    ],
)
def test_settings_that_do_not_fit_the_network_are_refused(codec, changes, message):
    with pytest.raises(ConfigError, match=message):
        replace(codec, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"samples": 1}, "samples must be at least 2"),
        ({"agreeing_share": 1.0}, "agreeing_share must be from 0 to below 1"),
        ({"min_score": float("nan")}, "min_score must be at least 0"),
    ],
)
def test_grouping_settings_are_checked(changes, message):
    with pytest.raises(ConfigError, match=message):
        PartAffinitySettings(**changes)


def test_a_skeleton_that_lacks_a_channel_cannot_be_encoded(codec):
    with pytest.raises(ConfigError, match="'nose' is not in the skeleton"):
        replace(codec, skeleton=MPII).encode(np.zeros((1, 16, 3)), size=SIZE)


def test_a_model_file_gives_the_codec_back(codec, fake_description):
    changed = replace(codec, enlarged=4, limb_order=OPENPOSE_ORDER, grouping=PartAffinitySettings(samples=5))
    description = replace(fake_description, fields=FIELDS, codec=changed.settings())

    again = PartAffinityCodec.from_description(ModelDescription.from_json(description.to_json()))

    assert again == changed


@pytest.mark.parametrize(
    ("codec_settings", "message"),
    [
        ({"type": "associative_embedding"}, f"codec must be {CODEC_TYPE}"),
        ({"type": CODEC_TYPE, "sigma": 3}, "unknown codec setting"),
        ({"type": CODEC_TYPE, "grouping": {"sample": 3}}, "unknown codec setting"),
    ],
)
def test_a_model_file_with_other_settings_is_refused(fake_description, codec_settings, message):
    with pytest.raises(CheckpointError, match=message):
        PartAffinityCodec.from_description(replace(fake_description, fields=FIELDS, codec=codec_settings))


def test_a_limb_completes_only_where_earlier_ones_join_its_ends():
    order = [LIMBS[number] for number in OPENPOSE_ORDER]

    assert np.flatnonzero(completing(order)).tolist() == [17, 18]
