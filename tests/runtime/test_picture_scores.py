"""Scores of label pictures and of class scores, on files whose answer is known."""

import cv2
import numpy as np
import pytest

from fleetpose.data.label_maps import CITYSCAPES_CLASSES
from fleetpose.errors import DatasetError, ShapeError, UnknownNameError
from fleetpose.runtime.picture_scores import score_classes, score_label_maps

ROAD, PERSON, IGNORED_ID = 7, 24, 0


@pytest.fixture
def draw(tmp_path):
    """Function that writes a picture of rows of numbers into a folder and returns that folder."""

    def write(path, rows):
        target = tmp_path / path
        target.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(target), np.array(rows, np.uint8))
        return tmp_path / path.split("/")[0]

    return write


@pytest.fixture
def write(tmp_path):
    """Function that writes lines into a file and returns its path."""

    def text(name, *lines):
        path = tmp_path / name
        path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
        return path

    return text


def test_intersection_over_union_is_that_of_all_pixels_that_count(draw):
    labels = draw("truth/bonn/a_gtFine_labelIds.png", [[ROAD, ROAD, PERSON, IGNORED_ID]])
    draw("truth/bonn/a_gtFine_color.png", [[1, 2, 3, 4]])
    draw("truth/bonn/b_gtFine_labelIds.png", [[PERSON, PERSON]])
    draw("found/a_leftImg8bit.png", [[0, 11, 11, 18]])
    found = draw("found/b_leftImg8bit.png", [[11, 11]])

    result = score_label_maps(found, labels)

    assert result.num_images == 2
    assert result.scores["road"] == pytest.approx(1 / 2)
    assert result.scores["person"] == pytest.approx(3 / 4)
    assert result.scores["mIoU"] == pytest.approx(5 / 8)
    assert result.scores["right pixels"] == pytest.approx(4 / 5)
    assert np.isnan(result.scores["bus"])
    assert list(result.scores)[2:] == list(CITYSCAPES_CLASSES)


def test_coloured_labels_are_read_by_their_colours(draw):
    sky, road = (128, 128, 128), (128, 64, 128)  # red and blue are equal in both
    labels = draw("truth/a_L.png", [[sky, road]])
    found = draw("found/a.png", [[0, 0]])

    result = score_label_maps(found, labels, label_map="camvid")

    assert (result.scores["sky"], result.scores["road"]) == (0.5, 0.0)


def test_a_picture_without_prediction_is_named(draw):
    labels = draw("truth/a.png", [[0]])
    found = draw("found/b.png", [[0]])

    with pytest.raises(
        DatasetError, match=r"1 of the 1 pictures of .*truth are not in .*found, the first is a"
    ):
        score_label_maps(found, labels, label_map="camvid-numbers")


def test_a_prediction_of_another_size_is_refused(draw):
    labels = draw("truth/a.png", [[0, 0]])
    found = draw("found/a.png", [[0]])

    with pytest.raises(DatasetError, match=r"1 rows and 1 columns, but .* has 1 and 2"):
        score_label_maps(found, labels, label_map="camvid-numbers")


def test_a_prediction_without_class_where_one_counts_is_refused(draw):
    labels = draw("truth/a.png", [[0, 255]])
    found = draw("found/a.png", [[11, 255]])

    with pytest.raises(DatasetError, match="has 1 pixels that count and are no class from 0 to 10"):
        score_label_maps(found, labels, label_map="camvid-numbers")


def test_pictures_that_share_a_name_are_refused(draw):
    draw("truth/a/x.png", [[0]])
    labels = draw("truth/b/x.png", [[0]])

    with pytest.raises(DatasetError, match="several pictures of one name"):
        score_label_maps(labels, labels, label_map="camvid-numbers")


def test_an_empty_folder_and_an_unknown_label_map_are_refused(tmp_path, draw):
    labels = draw("truth/a.png", [[0]])

    with pytest.raises(DatasetError, match="no folder with PNG pictures"):
        score_label_maps(tmp_path / "nowhere", labels)
    with pytest.raises(UnknownNameError, match="did you mean cityscapes"):
        score_label_maps(labels, labels, label_map="cityscape")


def test_pictures_are_matched_by_name_and_guesses_counted(write):
    labels = write("labels.csv", "a,0", "b,5", "c,2")
    found = write("found.csv", "c,9,8,7,6,5,4", "b,9,8,7,6,5,4", "a,9,8,7,6,5,4", "d,1,1,1,1,1,1")

    result = score_classes(found, labels)

    assert result.scores == {"top-1": pytest.approx(1 / 3), "top-5": pytest.approx(2 / 3)}


def test_of_fewer_than_five_classes_only_the_first_guess_is_counted(write):
    result = score_classes(write("found.csv", "a,0.1,0.9"), write("labels.csv", "a,1"))

    assert result.scores == {"top-1": 1.0}


@pytest.mark.parametrize(
    ("labels", "found", "message"),
    [
        (["a,0"], ["b,1,2"], "the first is a"),
        (["a,0", "b,0"], ["a,1,2", "b,1"], "equally many scores"),
        (["a,0,1"], ["a,1,2"], "one class per picture"),
        (["name,class", "a,0"], ["a,1,2"], "without a header"),
        (["a,nan"], ["a,1,2"], "whole number"),
        (["a,0.5"], ["a,1,2"], "whole number"),
        (["a,0"], ["a"], "equally many scores"),
        ([], ["a,1,2"], "holds no picture"),
    ],
)
def test_tables_that_do_not_fit_are_refused(write, labels, found, message):
    with pytest.raises(DatasetError, match=message):
        score_classes(write("found.csv", *found), write("labels.csv", *labels))


def test_a_label_that_is_no_class_and_a_file_that_is_missing_are_refused(write, tmp_path):
    found = write("found.csv", "a,1,2")

    with pytest.raises(ShapeError, match="0 to 1"):
        score_classes(found, write("labels.csv", "a,2"))
    with pytest.raises(DatasetError, match=r"cannot read .*nothing\.csv"):
        score_classes(found, tmp_path / "nothing.csv")
