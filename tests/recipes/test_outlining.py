"""People get outlines from their keypoints: near the truth where they stand out, none where they do not."""

import json

import cv2
import numpy as np
import pytest

pytest.importorskip("torch")

from fleetpose.cli import main
from fleetpose.data.annotations import read_coco
from fleetpose.data.outlines import segmentation_mask
from fleetpose.data.paste import Cutouts
from fleetpose.errors import ConfigError, DatasetError
from fleetpose.recipes.outlining import Guide, add_outlines, outline
from fleetpose.skeletons import COCO

#: Somebody who stands with arms spread, in a picture of 200 x 160 pixels.
BODY = {
    "nose": (80, 42),
    "left_eye": (83, 39),
    "right_eye": (77, 39),
    "left_shoulder": (95, 65),
    "right_shoulder": (65, 65),
    "left_elbow": (115, 72),
    "right_elbow": (45, 72),
    "left_wrist": (135, 62),
    "right_wrist": (25, 62),
    "left_hip": (90, 112),
    "right_hip": (70, 112),
    "left_knee": (96, 145),
    "right_knee": (64, 145),
    "left_ankle": (98, 180),
    "right_ankle": (62, 180),
}
GUIDE = Guide.of(COCO.keypoints, COCO)


def keypoints(body=BODY):
    """`[17, 3]`, visible where named."""
    points = np.zeros((17, 3))
    for name, place in body.items():
        points[COCO.index(name)] = (*place, 2)
    return points


def picture(colour=(40, 60, 200), *, noise=12):
    """The person in one colour on an uneven green → image, and the pixels that are the person's."""
    at = {name: np.array(place) for name, place in BODY.items()}
    truth = np.zeros((200, 160), np.uint8)
    for a, b in COCO.limbs:
        if a in at and b in at and "nose" not in (a, b) and "eye" not in a + b:
            cv2.line(truth, at[a].tolist(), at[b].tolist(), 1, 13)
    trunk = [at[name] for name in ("left_shoulder", "right_shoulder", "right_hip", "left_hip")]
    cv2.fillConvexPoly(truth, np.array(trunk, np.int32), 1)
    cv2.circle(truth, (80, 42), 15, 1, -1)
    truth[50:62, 75:86] = 1
    rng = np.random.default_rng(0)
    image = np.clip(np.array([70, 140, 60]) + rng.normal(0, noise, (200, 160, 3)), 0, 255)
    image[truth > 0] = np.clip(np.array(colour) + rng.normal(0, noise, (int(truth.sum()), 3)), 0, 255)
    return image.astype(np.uint8), truth > 0


def overlap(a, b):
    """Intersection over union of two masks."""
    return (a & b).sum() / (a | b).sum()


@pytest.fixture
def labelled(tmp_path):
    """Function that writes a file of one picture with people's annotations, changed as it is told."""

    def write(*people, image=None):
        cv2.imwrite(str(tmp_path / "1.png"), (picture()[0] if image is None else image)[..., ::-1])
        whole = {
            "image_id": 1,
            "category_id": 1,
            "bbox": [15, 20, 130, 170],
            "keypoints": keypoints().ravel().tolist(),
        }
        content = {
            "images": [{"id": 1, "file_name": "1.png"}],
            "annotations": [{**whole, "id": k, **person} for k, person in enumerate(people, start=1)],
            "categories": [{"id": 1, "keypoints": list(COCO.keypoints)}],
        }
        path = tmp_path / "labels.json"
        path.write_text(json.dumps(content))
        return path

    return write


def test_somebody_who_stands_out_is_outlined():
    image, truth = picture()

    mask = outline(image, keypoints(), GUIDE)

    assert mask.shape == (200, 160)
    assert mask.dtype == bool
    assert overlap(mask, truth) > 0.9


@pytest.mark.parametrize("size", [(100, 80), (400, 320)])
def test_the_size_of_the_picture_does_not_matter(size):
    image, truth = (cv2.resize(one.astype(np.uint8), size[::-1]) for one in picture())
    factor = size[0] / 200
    points = keypoints()
    points[:, :2] = np.where(points[:, 2:] > 0, (points[:, :2] + 0.5) * factor - 0.5, 0)

    mask = outline(image, points, GUIDE)

    assert mask.shape == size
    assert overlap(mask, truth > 0) > 0.87


def test_the_head_is_sought_above_the_shoulders_where_no_face_is_labelled():
    image, truth = picture()
    faceless = {name: place for name, place in BODY.items() if name != "nose" and "eye" not in name}

    mask = outline(image, keypoints(faceless), GUIDE)

    assert mask[35:50, 72:88].mean() > 0.9
    assert overlap(mask, truth) > 0.88


def test_somebody_of_the_backgrounds_colours_gets_no_outline():
    image, _ = picture((70, 140, 60))

    assert outline(image, keypoints(), GUIDE) is None


def test_labels_that_lie_beside_the_person_give_no_outline():
    image, _ = picture()
    image[:, :] = np.where(image[..., 2:] > 150, image, (70, 140, 60))
    points = keypoints()
    points[:, 0] += np.where(points[:, 2] > 0, 50, 0)

    assert outline(image, points, GUIDE) is None


def test_somebody_with_few_keypoints_gets_no_outline():
    image, _ = picture()
    few = dict(list(BODY.items())[:7])

    assert outline(image, keypoints(few), GUIDE) is None


def test_the_same_picture_gives_the_same_outline():
    image, _ = picture(noise=40)

    masks = [outline(image, keypoints(), GUIDE) for _ in range(3)]

    assert masks[0] is not None
    for mask in masks[1:]:
        np.testing.assert_array_equal(mask, masks[0])


def test_a_files_people_get_outlines_and_those_who_have_one_keep_it(labelled):
    square = [[10, 10, 20, 10, 20, 20]]
    few = keypoints()
    few[5:] = 0
    path = labelled({}, {"segmentation": square}, {"keypoints": few.ravel().tolist()}, {"iscrowd": 1})
    told = []

    data, count, asked = add_outlines(
        path, path.parent, COCO, progress=lambda done, total: told.append((done, total))
    )

    assert (count, asked) == (1, 2)
    assert told == [(1, 3), (2, 3), (3, 3)]
    first, second, *others = data["annotations"]
    assert overlap(segmentation_mask(first["segmentation"], (200, 160)) > 0, picture()[1]) > 0.9
    assert second["segmentation"] == square
    assert all("segmentation" not in one for one in others)


def test_limbs_are_matched_by_name(labelled):
    path = labelled({})
    data = json.loads(path.read_text())
    data["categories"][0]["keypoints"] = list(COCO.keypoints[::-1])
    data["annotations"][0]["keypoints"] = keypoints()[::-1].ravel().tolist()
    path.write_text(json.dumps(data))
    assert add_outlines(path, path.parent, COCO)[1:] == (1, 1)

    data["categories"][0]["keypoints"] = [f"my_{name}" for name in COCO.keypoints]
    path.write_text(json.dumps(data))
    with pytest.raises(ConfigError, match="skeleton 'coco17' has none between the file's keypoints"):
        add_outlines(path, path.parent, COCO)


def test_the_verb_writes_a_file_whose_people_can_be_pasted(labelled, tmp_path, capsys):
    out = tmp_path / "outlined.json"

    code = main(["data", "outline", str(labelled({})), "--out", str(out)])

    assert code == 0
    assert "1 of 1 people without an outline got one" in capsys.readouterr().out
    pictures = read_coco(out, tmp_path, skeleton=COCO, has_outlines=True)
    cutout = Cutouts(pictures, COCO).draw(np.random.default_rng(0))
    assert (cutout.keypoints[:, 2] > 0).sum() == len(BODY)


def test_broken_keypoints_are_named(labelled):
    path = labelled({"keypoints": [1, 2, 2]})

    with pytest.raises(DatasetError, match="keypoints of annotation 1 must be 51 numbers"):
        add_outlines(path, path.parent, COCO)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--skeleton", "coco71"], "unknown skeleton 'coco71'; did you mean coco17?"),
        (["--images", "nowhere"], "cannot read the picture nowhere"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(labelled, options, line, capsys):
    path = labelled({})

    code = main(["data", "outline", str(path), "--out", str(path.with_name("outlined.json")), *options])

    _, err = capsys.readouterr()
    assert code != 0
    assert line in err
    assert err.count("\n") == 1
