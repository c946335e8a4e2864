"""Data sets of people before other backgrounds: who is in them, where, and what training reads of them."""

import json

import cv2
import numpy as np
import pytest

pytest.importorskip("torch")

from fleetpose.cli import main
from fleetpose.data.annotations import read_coco
from fleetpose.data.paste import PasteSettings
from fleetpose.errors import ConfigError, DatasetError
from fleetpose.media.images import read_image
from fleetpose.recipes.pasting import LABELS, write_pasted

#: Two people of one colour each, 60 x 80 pixels, whole in their pictures; nobody knows their third keypoint.
RED, BLUE = (200, 30, 30), (30, 30, 200)
POINTS = [[60, 30, 2], [80, 60, 2], [0, 0, 0]]
PASTED = PasteSettings(chance=0, most=3, size=(0.3, 0.6), light=0, likeness=0, rotation_deg=0)


@pytest.fixture
def people(write_coco, arrow, tmp_path):
    """Annotation file of the two, its folder of pictures, and a folder of two green backgrounds."""
    images, annotations = [], []
    for number, colour in enumerate((RED, BLUE), start=1):
        image = np.full((120, 120, 3), 10, np.uint8)
        image[20:100, 30:90] = colour
        images.append(image)
        annotations.append(
            {
                "id": number,
                "image_id": number,
                "category_id": 1,
                "segmentation": [[30, 20, 89, 20, 89, 99, 30, 99]],
                "bbox": [30, 20, 60, 80],
                "keypoints": np.ravel(POINTS).tolist(),
            }
        )
    labels, folder = write_coco(images, annotations)
    content = json.loads(labels.read_text())
    content["categories"] = [{"id": 1, "name": "person", "keypoints": list(arrow.keypoints)}]
    labels.write_text(json.dumps(content))
    rooms = tmp_path / "rooms"
    rooms.mkdir()
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(rooms / name), np.full((90, 130, 3), (20, 120, 20), np.uint8))
    return labels, folder, rooms


@pytest.fixture
def lenient(monkeypatch):
    """Lets people with two visible keypoints be cut out."""
    monkeypatch.setattr("fleetpose.data.paste.MIN_VISIBLE", 2)


def colour_at(image, xy):
    """Name of what is seen at a place."""
    pixel = image[round(xy[1]), round(xy[0])]
    return ("red", "green", "blue")[int(np.argmax(pixel))]


@pytest.mark.usefixtures("lenient")
def test_labels_lie_on_the_people_and_say_what_nobody_knows(people, arrow, tmp_path):
    out = tmp_path / "out"

    total = write_pasted(*people, out, skeleton=arrow, count=12, size=(128, 160), settings=PASTED)

    pictures = read_coco(out / LABELS, out, skeleton=arrow, is_zero_unknown=True)
    assert len(pictures) == 12
    assert total == sum(len(picture.keypoints) for picture in pictures) > 12
    for picture in pictures:
        image = read_image(picture.path)
        assert image.shape == (128, 160, 3)
        for points, known, box in zip(picture.keypoints, picture.is_known, picture.boxes, strict=True):
            assert not known[1:].all()  # mirrored, it is the other end that nobody knows
            assert max(box[2:] - box[:2]) <= 0.6 * 128 + 3
            for x, y, _ in points[points[:, 2] == 2]:
                assert colour_at(image, (x, y)) != "green"


@pytest.mark.usefixtures("lenient")
def test_the_seed_decides_everything_and_held_out_people_stay_out(people, arrow, tmp_path):
    def colours(folder, **changes):
        settings = {"skeleton": arrow, "count": 8, "size": (96, 96), "settings": PASTED, **changes}
        write_pasted(*people, tmp_path / folder, **settings)
        return np.stack([read_image(path) for path in sorted((tmp_path / folder).glob("*.jpg"))])

    first, again, other, held_out = (
        colours("a"),
        colours("b"),
        colours("c", seed=1),
        colours("d", held_out_every=2),  # the second picture's, who is blue
    )

    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert (first[..., 2] > 150).any()
    assert not (held_out[..., 2] > 150).any()
    assert (held_out[..., 0] > 150).any()


@pytest.mark.usefixtures("lenient")
def test_an_interrupted_set_has_labels_of_what_was_drawn(people, arrow, tmp_path):
    def interrupt(done, total):  # noqa: ARG001
        if done == 2:
            raise KeyboardInterrupt

    wanted = {"skeleton": arrow, "count": 9, "size": (96, 96), "settings": PASTED}
    with pytest.raises(KeyboardInterrupt):
        write_pasted(*people, tmp_path / "out", **wanted, progress=interrupt)

    assert len(read_coco(tmp_path / "out" / LABELS, tmp_path / "out", skeleton=arrow)) == 2


@pytest.mark.usefixtures("lenient")
def test_labels_that_cannot_be_written_are_named(people, arrow, tmp_path):
    (tmp_path / "out" / LABELS).mkdir(parents=True)

    with pytest.raises(ConfigError, match=f"cannot write .*{LABELS}"):
        write_pasted(*people, tmp_path / "out", skeleton=arrow, count=1, size=(96, 96), settings=PASTED)


def test_people_without_outlines_and_impossible_counts_are_refused(people, arrow, tmp_path):
    labels, folder, rooms = people
    wanted = {"skeleton": arrow, "count": 1, "size": (96, 96), "settings": PASTED}
    for changes, words in (({"count": 0}, "at least one picture"), ({"seed": -1}, "seed must")):
        with pytest.raises(ConfigError, match=words):
            write_pasted(labels, folder, rooms, tmp_path / "out", **(wanted | changes))
    content = json.loads(labels.read_text())
    for one in content["annotations"]:
        del one["segmentation"]
    labels.write_text(json.dumps(content))
    with pytest.raises(DatasetError, match="nobody can be cut out"):
        write_pasted(labels, folder, rooms, tmp_path / "out", **wanted)
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("lenient")
def test_the_verb_writes_what_it_says(people, arrow, tmp_path, capsys):
    labels, folder, rooms = people
    skeleton = tmp_path / "arrow.yaml"
    skeleton.write_text(json.dumps(arrow.to_dict()))
    out = tmp_path / "out"

    words = ["--images", str(folder), "--backgrounds", str(rooms), "--out", str(out), "--count", "5"]
    words += ["--size", "64x96", "--people", "1", "--extent", "0.5", "0.5", "--skeleton", str(skeleton)]
    code = main(["data", "paste", str(labels), *words])

    assert code == 0
    assert f"{out / LABELS}: 5 people in 5 pictures" in capsys.readouterr().out
    pictures = read_coco(out / LABELS, out, skeleton=arrow)
    extents = [np.max(picture.boxes[0, 2:] - picture.boxes[0, :2]) for picture in pictures]
    assert 30 <= max(extents) <= 34  # a soft edge is added, and edges of the picture cut some off
    assert {read_image(picture.path).shape for picture in pictures} == {(64, 96, 3)}
    records = json.loads((out / LABELS).read_text())["images"]
    assert {(record["height"], record["width"]) for record in records} == {(64, 96)}
