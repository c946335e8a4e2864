import json
import math

import numpy as np
import pytest

from fleetpose.data.annotations import check_pictures, load_coco_json, read_coco, read_pictures
from fleetpose.errors import DatasetError
from fleetpose.skeletons import COCO, LSP

BLACK = np.zeros((40, 60, 3), np.uint8)


def person(**changes):
    plain = {
        "id": 7,
        "image_id": 1,
        "category_id": 1,
        "keypoints": [10, 12, 2, 20, 22, 1, 0, 0, 0],
        "bbox": [5, 6, 30, 20],
    }
    return {key: value for key, value in (plain | changes).items() if value is not None}


def read(files, skeleton, **settings):
    return read_coco(*files, skeleton=skeleton, **settings)


def test_labels_are_read_in_pixels_with_boxes_counted_from_edges(write_coco, arrow):
    files = write_coco([BLACK], [person()])

    (picture,) = read(files, arrow)

    assert picture.path == files[1] / "1.png"
    assert picture.image_id == 1
    np.testing.assert_array_equal(picture.keypoints, [[[10, 12, 2], [20, 22, 1], [0, 0, 0]]])
    np.testing.assert_array_equal(picture.boxes, [[4.5, 5.5, 34.5, 25.5]])
    assert picture.is_known.all()


def test_keypoints_are_matched_by_name_and_those_the_file_lacks_are_unknown(write_coco, arrow):
    files = write_coco([BLACK], [person(keypoints=[1, 2, 2, 3, 4, 1])], names=("right_end", "tip"))

    (picture,) = read(files, arrow)

    np.testing.assert_array_equal(picture.keypoints, [[[3, 4, 1], [0, 0, 0], [1, 2, 2]]])
    np.testing.assert_array_equal(picture.is_known, [[True, False, True]])


def test_a_vote_against_a_label_makes_it_unknown(write_coco, arrow):
    files = write_coco([BLACK], [person(votes=[-1, 0, 1])])

    (picture,) = read(files, arrow)

    np.testing.assert_array_equal(picture.is_known, [[False, True, True]])
    np.testing.assert_array_equal(picture.keypoints[0, 0], 0)


@pytest.mark.parametrize(
    ("least_votes", "is_known"),
    [(-1, [True, True, True]), (0, [False, True, True]), (1, [False, False, True]), (2, [False] * 3)],
)
def test_a_keypoint_with_fewer_votes_than_asked_for_is_unknown(write_coco, arrow, least_votes, is_known):
    files = write_coco([BLACK], [person(keypoints=[1, 2, 2] * 3, votes=[-1, 0, 1])])

    (picture,) = read(files, arrow, least_votes=least_votes)

    assert picture.is_known[0].tolist() == is_known
    assert (picture.keypoints[0, :, 2] > 0).tolist() == is_known


def test_votes_say_nothing_of_what_is_not_labelled(write_coco, arrow):
    files = write_coco([BLACK], [person(votes=[1, 0, 0])])

    (picture,) = read(files, arrow, least_votes=1)

    assert picture.is_known[0].tolist() == [True, False, True]


def test_whoever_has_no_votes_is_believed(write_coco, arrow):
    files = write_coco([BLACK], [person()])

    (picture,) = read(files, arrow, least_votes=1, least_agreement=1.0)

    assert picture.is_known.all()


def test_a_person_with_too_little_agreement_is_ignored_not_background(write_coco, arrow):
    people = [person(agreement=0.5), person(agreement=0.49, bbox=[2, 3, 10, 20])]
    files = write_coco([BLACK], people)

    (picture,) = read(files, arrow, least_agreement=0.5)

    np.testing.assert_array_equal(picture.boxes, [[4.5, 5.5, 34.5, 25.5]])
    assert picture.ignored == ([[2, 3, 12, 3, 12, 23, 2, 23]],)


def test_unlabelled_keypoints_are_unknown_only_where_the_source_says_so(write_coco, arrow):
    files = write_coco([BLACK], [person()])

    (trusted,) = read(files, arrow)
    (doubted,) = read(files, arrow, is_zero_unknown=True)

    assert trusted.is_known[0, 2]
    assert not doubted.is_known[0, 2]


def test_crowds_and_people_without_keypoints_become_regions_to_ignore(write_coco, arrow):
    crowd = person(iscrowd=1, segmentation={"counts": [0, 2400], "size": [40, 60]})
    outline = person(keypoints=[0] * 9, segmentation=[[1, 1, 5, 1, 5, 5]])
    only_box = person(keypoints=None, bbox=[2, 3, 10, 20])

    (picture,) = read(write_coco([BLACK], [crowd, outline, only_box]), arrow)

    assert len(picture.keypoints) == 0
    assert picture.ignored == (
        {"counts": [0, 2400], "size": [40, 60]},
        [[1, 1, 5, 1, 5, 5]],
        [[2, 3, 12, 3, 12, 23, 2, 23]],
    )


def test_annotations_of_other_categories_are_left_out(write_coco, arrow):
    files = write_coco([BLACK], [person(), person(category_id=18, keypoints=None)])

    (picture,) = read(files, arrow)

    assert len(picture.keypoints) == 1
    assert picture.ignored == ()


def test_a_person_without_a_box_gets_one_around_the_keypoints(write_coco, arrow):
    files = write_coco([BLACK], [person(bbox=None)])

    (picture,) = read(files, arrow)

    np.testing.assert_allclose(picture.boxes, [[9, 11, 21, 23]])


def test_pictures_without_annotations_stay_as_empty_ones(write_coco, arrow):
    files = write_coco([BLACK, BLACK], [person()])

    _, empty = read(files, arrow)

    assert empty.keypoints.shape == (0, 3, 3)
    assert empty.boxes.shape == (0, 4)


def test_what_stands_for_an_absent_keypoint_does_not_matter(write_coco, arrow):
    files = write_coco([BLACK], [person(keypoints=[10, 12, 2, math.nan, math.nan, 0, 9, 9, 0])])

    (picture,) = read(files, arrow)

    np.testing.assert_array_equal(picture.keypoints[0, 1:], 0)


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        (person(agreement="much"), "annotation 7 has an agreement that is no number: 'much'"),
        (person(keypoints=[1, 2, 2]), "annotation 7 has 3 keypoint numbers, expected 9"),
        (
            person(keypoints=[math.nan, 2, 2] + [0] * 6),
            "annotation 7 has a labelled keypoint that is no finite",
        ),
        (
            person(keypoints=[1, 2, math.nan] + [0] * 6),
            "annotation 7 has a labelled keypoint that is no finite",
        ),
        (person(keypoints=["a", 2, 2] + [0] * 6), "annotation 7 has keypoints that are no numbers"),
        (person(votes=[1]), "annotation 7 has 1 votes, expected 3"),
        (person(votes=["a", 1, 1]), "annotation 7 has votes that are no numbers"),
        (person(bbox=[1, 2, 3]), "annotation 7 has a bbox that is no x, y, width, height"),
        (person(bbox=[1, 2, 3, math.inf]), "annotation 7 has a bbox that is no finite number"),
        (person(image_id=None), "annotation 7 has no image_id"),
        (person(image_id="1"), "no annotation belongs to a listed picture; image_id '1'"),
    ],
)
def test_a_broken_annotation_is_named(write_coco, arrow, annotation, message):
    files = write_coco([BLACK], [annotation])

    with pytest.raises(DatasetError, match=message):
        read(files, arrow)


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([{"id": 3, "file_name": "a.png"}] * 2, "1 picture ids occur more than once, the first is 3"),
        ([{"id": "3", "file_name": "a.png"}], "a picture needs a whole number as id and a file_name"),
        ([{"id": 3}], "a picture needs a whole number as id and a file_name"),
    ],
)
def test_a_broken_list_of_pictures_is_refused(write_coco, arrow, records, message):
    files = write_coco([BLACK], [], records=records)

    with pytest.raises(DatasetError, match=message):
        read(files, arrow)


def test_a_file_with_none_of_the_wanted_keypoints_is_refused(write_coco):
    files = write_coco([BLACK], [person()])

    with pytest.raises(DatasetError, match="names none of the keypoints of coco17: it has tip, left_end"):
        read(files, COCO)


def test_a_file_whose_categories_name_no_keypoints_is_refused(write_coco, arrow):
    files = write_coco([BLACK], [], categories=[{"id": 1, "name": "person"}])

    with pytest.raises(DatasetError, match="has no category that names its keypoints"):
        read(files, arrow)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is no valid JSON"),
        ("[]", "is no COCO file: it lacks a list of images, annotations, categories"),
        (json.dumps({"images": [], "annotations": {}}), "it lacks a list of annotations, categories"),
        (None, "cannot read annotations"),
    ],
)
def test_what_is_no_coco_file_is_refused_in_one_line(tmp_path, text, message):
    path = tmp_path / "labels.json"
    if text is not None:
        path.write_text(text)

    with pytest.raises(DatasetError, match=message) as caught:
        load_coco_json(path)

    assert "\n" not in str(caught.value)


def test_missing_pictures_are_counted_and_the_first_is_named(write_coco, arrow):
    files = write_coco([BLACK, BLACK, BLACK], [person()])
    pictures = read(files, arrow)
    (files[1] / "2.png").unlink()
    (files[1] / "3.png").unlink()

    with pytest.raises(DatasetError, match=r"2 of 3 pictures are missing, the first is .*2\.png"):
        check_pictures(pictures)


def test_a_folder_without_people_yields_its_pictures_in_order(write_coco):
    _, folder = write_coco([BLACK, BLACK], [])
    (folder / "notes.txt").write_text("no picture")

    pictures = read_pictures(folder, num_keypoints=3)

    assert [picture.path.name for picture in pictures] == ["1.png", "2.png"]
    assert pictures[0].keypoints.shape == (0, 3, 3)


def test_a_folder_that_is_missing_or_empty_is_refused(tmp_path):
    with pytest.raises(DatasetError, match="is no folder of pictures"):
        read_pictures(tmp_path / "nowhere", num_keypoints=3)
    with pytest.raises(DatasetError, match="holds no picture"):
        read_pictures(tmp_path, num_keypoints=3)


def test_leeds_sports_pose_lands_on_coco_names_and_leaves_the_face_unknown(write_coco):
    keypoints = [value for number in range(14) for value in (number + 1, 2 * number + 1, 2)]
    files = write_coco([BLACK], [person(keypoints=keypoints)], names=LSP.keypoints)

    (picture,) = read(files, COCO)

    ankle = COCO.keypoints.index("right_ankle")
    np.testing.assert_array_equal(picture.keypoints[0, ankle], [1, 1, 2])
    assert [COCO.keypoints[k] for k in np.flatnonzero(~picture.is_known[0])] == list(COCO.keypoints[:5])


def test_the_shared_data_sets_can_be_read(shared):
    folder = shared / "data"

    pictures = read_coco(folder / "lsp_train/lsp_train.json", folder / "lsp_train/images", skeleton=COCO)

    assert len(pictures) == 675
    check_pictures(pictures)
