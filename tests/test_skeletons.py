import logging

import numpy as np
import pytest
import yaml

from fleetpose.errors import ConfigError, UnknownNameError
from fleetpose.skeletons import (
    COCO,
    CROWDPOSE,
    GUESSED_SIGMA,
    LSP,
    MPII,
    SKELETONS,
    Skeleton,
    flip_pairs_by_name,
    load_skeleton,
    side_of,
)

#: Category "person" of COCO's annotation files; its limbs count from 1.
COCO_NAMES = (
    "nose",
    *("left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder"),
    *("left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip"),
    *("left_knee", "right_knee", "left_ankle", "right_ankle"),
)
COCO_LIMBS_FROM_1 = (
    *((16, 14), (14, 12), (17, 15), (15, 13), (12, 13), (6, 12), (7, 13), (6, 7), (6, 8), (7, 9)),
    *((8, 10), (9, 11), (2, 3), (1, 2), (1, 3), (2, 4), (3, 5), (4, 6), (5, 7)),
)
#: In thousandths, as the official evaluation tools have them.
COCO_SIGMAS = (26, 25, 25, 35, 35, 79, 79, 72, 72, 62, 62, 107, 107, 87, 87, 89, 89)
CROWDPOSE_SIGMAS = (*COCO_SIGMAS[5:], 79, 79)

DOG = {
    "name": "dog",
    "keypoints": ["nose", "left_paw", "right_paw", "tail"],
    "limbs": [["nose", "tail"], ["left_paw", "tail"]],
    "flip_pairs": [["left_paw", "right_paw"]],
    "sigmas": [0.03, 0.05, 0.05, 0.1],
}

every_skeleton = pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=SKELETONS)


def _write(folder, content):
    path = folder / "dog.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content), encoding="utf-8")
    return path


def test_coco_has_the_names_limbs_and_sigmas_of_its_annotation_files():
    official = {frozenset((a - 1, b - 1)) for a, b in COCO_LIMBS_FROM_1}

    assert COCO.keypoints == COCO_NAMES
    assert {frozenset(limb) for limb in COCO.limb_indices.tolist()} == official
    assert len(COCO.limbs) == len(official)
    assert list(COCO.sigmas) == [sigma / 1000 for sigma in COCO_SIGMAS]


def test_crowdpose_has_cocos_body_and_then_head_and_neck():
    assert CROWDPOSE.keypoints == (*COCO_NAMES[5:], "head", "neck")
    assert list(CROWDPOSE.sigmas) == [sigma / 1000 for sigma in CROWDPOSE_SIGMAS]


@pytest.mark.parametrize(
    ("skeleton", "permutation"),
    [
        (COCO, [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15]),
        (CROWDPOSE, [1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 12, 13]),
        (MPII, [5, 4, 3, 2, 1, 0, 6, 7, 8, 9, 15, 14, 13, 12, 11, 10]),
        (LSP, [5, 4, 3, 2, 1, 0, 11, 10, 9, 8, 7, 6, 12, 13]),
    ],
)
def test_a_mirrored_person_swaps_left_and_right_as_the_official_tools_do(skeleton, permutation):
    assert skeleton.flip_permutation.tolist() == permutation


def test_mpii_and_lsp_begin_at_the_right_ankle_and_go_up():
    assert [MPII.index(name) for name in ("right_ankle", "left_hip", "pelvis", "head_top", "left_wrist")] == [
        *(0, 3, 6, 9, 15)
    ]
    assert [LSP.index(name) for name in ("right_ankle", "left_hip", "right_wrist", "neck", "head_top")] == [
        *(0, 3, 6, 12, 13)
    ]


@every_skeleton
def test_the_size_stands_in_the_name(skeleton):
    assert skeleton.name.endswith(str(len(skeleton)))


@every_skeleton
def test_mirroring_twice_changes_nothing(skeleton):
    order = skeleton.flip_permutation

    assert order[order].tolist() == list(range(len(skeleton)))


@every_skeleton
def test_limbs_look_alike_in_the_mirror(skeleton):
    limbs = {frozenset(limb) for limb in skeleton.limb_indices.tolist()}

    mirrored = {frozenset(skeleton.flip_permutation[list(limb)].tolist()) for limb in limbs}

    assert mirrored == limbs


@every_skeleton
def test_limbs_join_all_keypoints_into_one_body(skeleton):
    reached = {0}
    for _ in skeleton.keypoints:
        reached |= {end for limb in skeleton.limb_indices.tolist() if reached & {*limb} for end in limb}

    assert reached == set(range(len(skeleton)))


@every_skeleton
def test_left_and_right_are_equally_hard_to_label(skeleton):
    sigmas = np.array(skeleton.sigmas)

    np.testing.assert_array_equal(sigmas, sigmas[skeleton.flip_permutation])


def test_a_misspelt_keypoint_is_answered_with_the_closest():
    with pytest.raises(UnknownNameError, match="did you mean left_wrist"):
        COCO.index("left_wirst")


def test_a_skeleton_without_limbs_has_an_empty_table_of_them():
    skeleton = Skeleton(name="dot", keypoints=("dot",), limbs=(), flip_pairs=(), sigmas=(0.1,))

    assert skeleton.limb_indices.shape == (0, 2)
    assert skeleton.flip_permutation.tolist() == [0]


@every_skeleton
def test_a_built_in_skeleton_is_loaded_by_name(skeleton):
    assert load_skeleton(skeleton.name) is skeleton


@every_skeleton
def test_a_skeleton_survives_the_way_through_yaml(skeleton, tmp_path):
    assert load_skeleton(_write(tmp_path, skeleton.to_dict())) == skeleton


def test_a_users_skeleton_is_read_from_yaml(tmp_path):
    dog = load_skeleton(str(_write(tmp_path, DOG)))

    assert dog.limb_indices.tolist() == [[0, 3], [1, 3]]
    assert dog.flip_permutation.tolist() == [0, 2, 1, 3]
    assert dog.sigmas == (0.03, 0.05, 0.05, 0.1)


def test_keypoints_alone_are_enough_and_the_guessed_sigmas_are_told(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        dog = load_skeleton(_write(tmp_path, {"keypoints": DOG["keypoints"], "limbs": None}))

    assert dog.name == "custom"
    assert dog.limbs == ()
    assert dog.flip_pairs == (("left_paw", "right_paw"),)
    assert dog.sigmas == (GUESSED_SIGMA,) * 4
    assert "custom gives no sigmas" in caplog.text


def test_a_complete_skeleton_warns_of_nothing(tmp_path, caplog):
    load_skeleton(_write(tmp_path, DOG))

    assert not caplog.records


def test_an_empty_list_of_pairs_means_none(tmp_path):
    dog = load_skeleton(_write(tmp_path, {**DOG, "flip_pairs": []}))

    assert dog.flip_permutation.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "names",
    [
        *[("left_eye", "right_eye"), ("LeftEye", "RightEye"), ("eye left", "eye right"), ("LEFT", "RIGHT")],
        *[("l_eye", "r_eye"), ("eye_l", "eye_r"), ("L Eye", "R Eye"), ("eye.L", "eye.R"), ("eye-l", "eye-r")],
        *[("LEye", "REye"), ("lEye", "rEye"), ("eyeL", "eyeR"), ("toe_l_1", "toe_r_1")],
    ],
)
def test_sides_are_paired_however_they_are_written(names):
    assert flip_pairs_by_name(["nose", *reversed(names)]) == (names,)


@pytest.mark.parametrize("names", [("lip", "rip"), ("label", "raber"), ("LED", "RED"), ("heel", "heer")])
def test_an_l_within_a_word_is_no_side(names):
    assert flip_pairs_by_name(names) == ()
    assert [side_of(name) for name in names] == ["", ""]


def test_a_skeleton_is_loaded_as_it_is():
    assert load_skeleton(LSP) is LSP


def test_a_side_without_its_counterpart_stays_alone():
    assert flip_pairs_by_name(["left_eye", "left_ear", "right_ear", "Right_eye"]) == (
        ("left_ear", "right_ear"),
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"keypoint": []}, "unknown skeleton key 'keypoint'; did you mean keypoints?"),
        ({7: "seven", "z": 0}, "unknown skeleton key 7"),
        ({"name": 5}, "name must be text, got 5"),
        ({"keypoints": None}, "keypoints must be a list of names, got None"),
        ({"keypoints": "nose"}, "keypoints must be a list of names, got 'nose'"),
        ({"keypoints": ["nose", True]}, "keypoints must be a list of names"),
        ({"keypoints": ["nose", ""]}, "keypoints must be a list of names"),
        ({"keypoints": [], "limbs": [], "flip_pairs": [], "sigmas": []}, "must name at least one keypoint"),
        ({"keypoints": ["nose", "nose", "tail", "left_paw", "right_paw"]}, "'nose' stands twice"),
        ({"limbs": [["nose", "ear"]]}, "limbs name 'ear', which is not among the keypoints"),
        ({"limbs": [["nose", "nose"]]}, "limbs must join two different keypoints"),
        ({"limbs": [["nose", "tail", "left_paw"]]}, "limbs must be pairs of names"),
        ({"limbs": [[0, 1]]}, "limbs must be a list of names"),
        ({"limbs": 0}, "limbs must be a list of pairs of names, got 0"),
        ({"limbs": {"nose": "tail"}}, "limbs must be a list of pairs of names"),
        ({"flip_pairs": [["left_paw", "left_hand"]]}, "flip_pairs name 'left_hand'"),
        (
            {"flip_pairs": [["nose", "tail"], ["tail", "left_paw"]]},
            "flip_pairs must name each keypoint at most",
        ),
        ({"flip_pairs": False}, "flip_pairs must be a list of pairs"),
        ({"sigmas": [0.1]}, "sigmas must be 4 numbers, got 1"),
        ({"sigmas": []}, "sigmas must be 4 numbers, got 0"),
        ({"sigmas": [0.1, 0.1, 0.1, 0.0]}, "sigmas must be positive numbers"),
        ({"sigmas": [0.1, 0.1, 0.1, float("nan")]}, "sigmas must be positive numbers"),
        ({"sigmas": [0.1, 0.1, 0.1, float("inf")]}, "sigmas must be positive numbers"),
        ({"sigmas": [0.1, 0.1, 0.1, "wide"]}, "sigmas must be a list of numbers"),
        ({"sigmas": [True, True, True, True]}, "sigmas must be a list of numbers"),
    ],
)
def test_a_bad_skeleton_file_is_refused_in_one_line_that_names_it(tmp_path, change, message):
    path = _write(tmp_path, {**DOG, **change})

    with pytest.raises(ConfigError) as caught:
        load_skeleton(path)

    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "must hold a mapping with keypoints, got NoneType"),
        ("- nose\n- tail\n", "must hold a mapping with keypoints, got list"),
        ("keypoints: [nose,\nlimbs: 3", "cannot read the skeleton file"),
        ("keypoints: !!python/object:os.system []", "cannot read the skeleton file"),
    ],
)
def test_a_file_that_is_no_skeleton_is_refused_in_one_line(tmp_path, content, message):
    path = _write(tmp_path, content)

    with pytest.raises(ConfigError) as caught:
        load_skeleton(path)

    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bytes_that_are_no_text_are_refused(tmp_path):
    path = tmp_path / "dog.yml"
    path.write_bytes(b"\xff\xfe\xfa")

    with pytest.raises(ConfigError, match="cannot read the skeleton file"):
        load_skeleton(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"cannot read the skeleton file .*cat\.yaml"):
        load_skeleton(tmp_path / "cat.yaml")


def test_a_misspelt_built_in_is_answered_with_the_closest():
    with pytest.raises(UnknownNameError, match="unknown skeleton 'coco'; did you mean coco17"):
        load_skeleton("coco")
