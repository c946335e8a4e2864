"""What is wrong with labelled data is found: each kind of trouble is put into a good set by hand."""

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
from scipy.io import savemat

from fleetpose.data.doctor import closest_skeleton, examine
from fleetpose.data.mixture import DataFile, LabelledSet
from fleetpose.data.scenes import Source
from fleetpose.errors import DatasetError
from fleetpose.geometry import transform_points
from fleetpose.skeletons import COCO, CROWDPOSE, LSP, Skeleton

#: More people than it takes to prove that left and right are swapped.
PEOPLE = 24


class Set:
    """A set of pictures that each show one standing person from the front; tests break it and write it."""

    def __init__(self, folder, stick_person):
        self.folder = folder
        self.images, self.annotations, self.pixels = [], [], {}
        self.names = list(COCO.keypoints)
        for number in range(1, PEOPLE + 1):
            name = f"{number}.png"
            points = np.column_stack([stick_person + 20 + number % 7, np.full(17, 2)])
            self.images.append({"id": number, "file_name": name, "width": 180, "height": 260})
            self.annotations.append(
                {
                    "id": 100 + number,
                    "image_id": number,
                    "category_id": 1,
                    "bbox": [30, 20, 110, 230],
                    "keypoints": points.ravel().tolist(),
                }
            )
            self.pixels[name] = np.full((260, 180, 3), number, np.uint8)

    def points(self, number):
        """Keypoints `[K, 3]` of annotation `number`, to write into."""
        return np.array(self.annotations[number]["keypoints"], float).reshape(-1, 3)

    def put(self, number, points):
        self.annotations[number]["keypoints"] = np.asarray(points).ravel().tolist()

    def write(self):
        (self.folder / "images").mkdir(parents=True, exist_ok=True)
        for name, pixels in self.pixels.items():
            cv2.imwrite(str(self.folder / "images" / name), pixels)
        category = {"id": 1, "name": "person", "keypoints": self.names}
        content = {"images": self.images, "annotations": self.annotations, "categories": [category]}
        path = self.folder / "labels.json"
        path.write_text(json.dumps(content))
        return Source(images=self.folder / "images", annotations=path)


@pytest.fixture
def people(tmp_path, stick_person):
    return Set(tmp_path, stick_person)


def findings(people, skeleton=COCO, **options):
    """Level, count, problem, example of each finding."""
    report = examine(DataFile(train=(people.write(),), skeleton=skeleton), **options)
    return [(one.level, one.count, one.problem, one.example) for _, one in report.findings]


def only(found):
    """Tell the one finding in words."""
    assert len(found) == 1, found
    level, count, problem, example = found[0]
    return f"{level} {count} {problem}; {example}"


def test_a_good_set_gives_no_finding_and_a_sheet(people):
    report = examine(DataFile(train=(people.write(),)))

    assert report.findings == ()
    assert report.sets == (f"labels.json: {PEOPLE} pictures, {PEOPLE} people",)
    assert report.sheet.shape == (2 * 240, 6 * 240, 3)
    assert (report.sheet > 100).any()


def test_missing_and_broken_files_are_counted(people):
    del people.pixels["3.png"], people.pixels["5.png"], people.pixels["7.png"]
    (people.folder / "images").mkdir()
    (people.folder / "images" / "7.png").write_bytes(b"no picture")

    found = findings(people)

    assert len(found) == 2
    assert found[0][:3] == ("fix", 2, f"of {PEOPLE} pictures are missing")
    assert found[0][3].endswith("3.png")
    assert found[1][:3] == ("fix", 1, "pictures cannot be read")
    assert "7.png" in found[1][3]


def test_a_picture_of_another_size_than_its_labels_is_found(people):
    people.pixels["2.png"] = np.zeros((130, 90, 3), np.uint8)

    assert "fix 1 pictures are not of the size that the labels state" in only(findings(people))
    assert "2.png is 90 x 130, its labels are for 180 x 260" in only(findings(people))


def test_a_picture_labelled_upright_but_stored_on_its_side_is_found(people):
    del people.pixels["2.png"]
    people.images[1]["file_name"] = "2.jpg"
    _, data = cv2.imencode(".jpg", np.zeros((180, 260, 3), np.uint8))
    turn = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    segment = b"\xff\xe1" + (len(turn) + 2).to_bytes(2, "big") + turn
    (people.folder / "images").mkdir()
    (people.folder / "images" / "2.jpg").write_bytes(data[:2].tobytes() + segment + data[2:].tobytes())

    assert "EXIF" in only(findings(people))

    people.images[1] |= {"width": 260, "height": 180}
    assert not any("EXIF" in one[2] or "size" in one[2] for one in findings(people))


def test_a_pair_with_swapped_names_is_found(people):
    left, right = COCO.index("left_hip"), COCO.index("right_hip")
    for number in range(PEOPLE):
        points = people.points(number)
        points[[left, right]] = points[[right, left]]
        people.put(number, points)

    assert only(findings(people)).startswith("fix 1 of 8 pairs look swapped")
    assert "left_hip and right_hip" in only(findings(people))


def test_all_sides_swapped_are_found_by_people_who_face_the_camera(people):
    for number in range(PEOPLE):
        people.put(number, people.points(number)[COCO.flip_permutation])

    assert only(findings(people)).startswith(
        f"fix {PEOPLE} of {PEOPLE} people who face the camera have their left on the picture's left"
    )


def test_people_on_their_heads_or_seen_from_behind_are_no_trouble(people):
    for number in range(PEOPLE):
        points = people.points(number)
        if number % 2:  # stands on the head
            points = transform_points(points, np.array([[-1.0, 0, 179], [0, -1.0, 259]]))
        else:  # seen from behind: the face does not show
            points = points[COCO.flip_permutation]
            points[:5] = 0
        people.put(number, points)
        people.annotations[number]["bbox"] = [0, 0, 180, 260]

    assert findings(people) == []


def test_a_head_against_the_body_is_worth_a_look(people):
    for number in range(4):
        points = people.points(number)
        points[5:] = points[COCO.flip_permutation][5:]
        people.put(number, points)

    assert only(findings(people)).startswith(
        f"look 4 of {PEOPLE} people have eyes and ears the other way round"
    )


@pytest.mark.parametrize(("moved", "level"), [(1, "look"), (9, "fix")])
def test_points_outside_are_a_slip_or_a_fault_by_their_number(people, moved, level):
    for number in range(moved):
        points = people.points(number)
        points[9, :2] = 182, 100
        people.put(number, points)
        people.annotations[number]["bbox"] = [0, 0, 180, 260]

    found = only(findings(people))

    assert found.startswith(f"{level} {moved} keypoints are labelled outside their picture; left_wrist (182")


def test_points_on_the_very_edge_are_no_trouble(people):
    points = people.points(0)
    points[9, :2] = 180, 100
    people.put(0, points)
    people.annotations[0]["bbox"] = [0, 0, 180, 260]

    assert findings(people) == []


def test_labels_at_the_origin_and_odd_marks_are_found(people):
    first, second = people.points(0), people.points(1)
    first[4], second[4, 2] = (0, 0, 1), 3
    people.put(0, first)
    people.put(1, second)
    people.annotations[0]["bbox"] = [0, 0, 180, 260]

    found = findings(people)

    assert [one[:3] for one in found] == [
        ("fix", 1, "keypoints have a v that is not 0, 1 or 2"),
        ("look", 1, "keypoints are labelled at (0, 0)"),
    ]
    assert found[0][3].startswith("right_ear (")
    assert found[0][3].endswith("annotation 102 of 2.png")


def test_people_of_whom_nothing_is_labelled_are_found(people):
    people.annotations[0] |= {"keypoints": [0] * 51, "bbox": None}
    people.annotations[1] |= {"keypoints": [0] * 51}

    found = only(findings(people))

    assert found == "look 1 people have neither keypoints nor a box nor an outline; annotation 101 of 1.png"


def test_people_labelled_twice_are_found(people):
    twin = people.annotations[2] | {"id": 999}
    people.annotations.append(twin)
    other = people.annotations[3] | {"id": 998}
    people.annotations.append(other)
    points = people.points(-1)
    points[:, 0] += 20
    people.put(-1, points)
    people.annotations[-1]["bbox"] = [40, 20, 130, 230]

    assert "1 people are labelled twice; annotation 103 of 3.png and 999" in only(findings(people))


def test_boxes_beside_their_people_are_found(people):
    for annotation in people.annotations[:3]:
        annotation["bbox"] = [30, 20, 55, 230]

    found = only(findings(people))

    assert found == "fix 3 people have visible keypoints outside their box; annotation 101 of 1.png"


def test_boxes_of_what_is_seen_need_not_hold_hidden_keypoints(people):
    points = people.points(0)
    points[13:, 2] = 1
    people.put(0, points)
    people.annotations[0]["bbox"] = [30, 20, 110, 130]

    assert findings(people) == []


def test_boxes_as_two_corners_are_found(people):
    for annotation in people.annotations:
        annotation["bbox"] = [30, 20, 140, 250]

    found = only(findings(people))

    assert found == f"fix {PEOPLE} boxes reach far beyond their picture; annotation 101 of 1.png"


def test_a_box_without_area_is_found(people):
    people.annotations[4]["bbox"] = [30, 20, 0, 230]

    assert ("fix", 1, "boxes have no area") in [one[:3] for one in findings(people)]


def test_broken_annotations_are_counted_and_the_rest_is_checked(people):
    people.annotations[0]["keypoints"] = [1, 2, 2]
    people.annotations[1]["keypoints"][0] = "x"
    people.annotations[2]["bbox"] = [1, 2]
    people.annotations[3]["image_id"] = 77
    del people.pixels["9.png"]

    found = findings(people)

    assert [one[:2] for one in found] == [("fix", 1), ("fix", 3), ("look", 1)]
    assert "missing" in found[0][2]
    assert found[1][3] == "annotation 101, which has 3 numbers, not 51"
    assert "belong to no listed picture" in found[2][2]


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_numbers_that_are_none_are_named_as_such(people, number):
    people.annotations[1]["keypoints"][0] = number

    ((level, count, problem, example),) = findings(people)

    assert (level, count, example) == ("fix", 1, "annotation 102")
    assert problem.endswith("or numbers that are none")


def test_doubled_and_nameless_pictures_are_found(people):
    people.images.append(people.images[0] | {"file_name": "2.png"})
    people.images.append({"id": 99})

    problems = [one[:3] for one in findings(people)]

    assert ("fix", 1, "picture ids occur more than once") in problems
    assert ("fix", 1, "pictures lack a whole number as id or a file_name") in problems


def test_names_that_do_not_match_are_found(people):
    people.names[people.names.index("left_wrist")] = "left_hand"
    people.names[people.names.index("right_wrist")] = "right_hand"

    found = findings(people)

    assert [one[:2] for one in found] == [("look", 2), ("look", 2)]
    assert [one[3] for one in found] == ["left_wrist", "left_hand"]

    people.names = [f"point_{k}" for k in range(17)]
    assert only(findings(people)).startswith(
        "fix 17 keypoints of the file are all unknown to skeleton coco17"
    )


def test_keypoints_that_nobody_has_are_found(people):
    for number in range(PEOPLE):
        points = people.points(number)
        points[[3, 4]] = 0
        people.put(number, points)

    assert only(findings(people)) == "look 2 keypoints are labelled for nobody; left_ear"


def test_copies_of_a_picture_are_found_and_worse_between_training_and_validation(people):
    people.pixels["2.png"] = people.pixels["1.png"]
    source = people.write()
    copies = DataFile(train=(source,))
    leaking = DataFile(
        train=(replace(source, held_out_every=2),),
        validation=(LabelledSet(images=source.images, annotations=source.annotations, name="v", every=2),),
    )
    sound = DataFile(
        train=(replace(source, held_out_every=3),),
        validation=(LabelledSet(images=source.images, annotations=source.annotations, name="v", every=3),),
    )

    def problems(data):
        return [(one.level, one.count, one.problem) for _, one in examine(data).findings]

    copy = ("look", 1, "pictures for training are there more than once, byte by byte")
    assert problems(copies) == [copy]
    assert problems(leaking) == [("fix", 1, "pictures are both for training and for validation")]
    assert problems(sound) == [copy]


def _skeleton(**values):
    given = {"keypoints": ["tip", "left_end", "right_end"], "sigmas": [0.05] * 3, **values}
    return Skeleton.from_dict(given)


@pytest.mark.parametrize(
    ("skeleton", "problem"),
    [
        (_skeleton(flip_pairs=[]), "fix 1 pairs of left and right keypoints change no places"),
        (_skeleton(flip_pairs=[["tip", "left_end"]]), "fix 1 flip_pairs join keypoints"),
        (_skeleton(keypoints=["tip", "end_l", "end_r"], flip_pairs=[]), "fix 1 pairs of left and right"),
        (
            _skeleton(keypoints=["tip", "l1", "r1"], flip_pairs=[["tip", "l1"]]),
            "fix 1 flip_pairs join keypoints",
        ),
        (_skeleton(keypoints=["tip", "left_end", "rigth_end"]), "fix 1 keypoints are named left or right"),
        (_skeleton(sigmas=[0.05, 0.05, 0.06]), "look 1 pairs have different sigmas"),
        (_skeleton(sigmas=[5, 0.05, 0.05]), "look 1 sigmas are outside"),
    ],
)
def test_skeletons_are_checked(people, skeleton, problem):
    assert any(f"{one[0]} {one[1]} {one[2]}".startswith(problem) for one in findings(people, skeleton))


def test_a_good_skeleton_with_pairs_of_other_names_is_no_trouble(people):
    people.names[:3] = ["tip", "port", "starboard"]
    skeleton = _skeleton(keypoints=["tip", "port", "starboard"], flip_pairs=[["port", "starboard"]])

    assert not any(one[0] == "fix" for one in findings(people, skeleton))


def test_a_file_that_cannot_be_read_is_a_finding_and_the_others_are_checked(people):
    source = people.write()
    absent = replace(source, annotations=people.folder / "absent.json")

    report = examine(DataFile(train=(absent, source)))

    ((name, finding),) = report.findings
    assert name == "absent.json"
    assert finding.level == "fix"
    assert "No such file" in finding.example
    assert len(report.sets) == 1


def test_folders_without_people_are_checked_too(people):
    source = people.write()
    rooms = people.folder / "rooms"
    rooms.mkdir()
    cv2.imwrite(str(rooms / "a.png"), people.pixels["4.png"])
    (rooms / "b.png").write_bytes(b"no picture")

    report = examine(DataFile(train=(source, Source(images=rooms))))

    assert report.sets[1] == "rooms: 2 pictures, 0 people"
    assert [(name, one.problem.split(",")[0]) for name, one in report.findings] == [
        ("rooms", "pictures cannot be read"),
        ("", "pictures for training are there more than once"),
    ]


def test_only_so_many_files_are_looked_into_as_asked_for(people):
    done = []

    examine(
        DataFile(train=(people.write(),)), max_pictures=5, progress=lambda at, total: done.append((at, total))
    )

    assert done == [(k, 5) for k in range(1, 6)]


def test_the_skeleton_of_a_file_is_guessed_from_its_names(people, caplog):
    assert closest_skeleton(people.write().annotations) == COCO

    people.names = [*CROWDPOSE.keypoints, "tail", "wing", "beak"]
    assert closest_skeleton(people.write().annotations) == CROWDPOSE

    people.names = [f"point_{k}" for k in range(17)]
    assert closest_skeleton(people.write().annotations).keypoints == tuple(people.names)
    assert "sigmas" in caplog.text

    people.names = []
    with pytest.raises(DatasetError, match="no category"):
        closest_skeleton(people.write().annotations)


def _voted(people):
    """Say of each person what others think: the first three agree with a third of it, keypoint 5 is wrong."""
    for number, annotation in enumerate(people.annotations):
        annotation["agreement"] = 0.3 if number < 3 else 0.9
        annotation["votes"] = [-1 if k == 5 else 1 if k == 6 else 2 for k in range(17)]


def test_what_the_filters_of_a_source_leave_out_is_told(people):
    _voted(people)
    source = replace(people.write(), least_agreement=0.5, least_votes=2)

    report = examine(DataFile(train=(source, replace(source, least_agreement=0, least_votes=-1))))

    assert [(name, one.level, one.count, one.problem) for name, one in report.findings] == [
        ("labels.json", "look", 3, f"of {PEOPLE} people are left out by least_agreement 0.5"),
        (
            "labels.json",
            "look",
            2 * (PEOPLE - 3),
            f"of {17 * (PEOPLE - 3)} keypoints of believed people are left out by least_votes 2",
        ),
    ]
    assert report.findings[0][1].example == "annotation 101 of 1.png"
    assert report.findings[1][1].example == "left_shoulder of annotation 104 of 4.png"


def test_probably_wrong_keypoints_are_left_out_unless_told_otherwise(people):
    _voted(people)

    assert only(findings(people)).startswith(
        f"look {PEOPLE} of {17 * PEOPLE} keypoints of believed people are left out by least_votes 0"
    )


def test_only_pictures_in_use_count_as_filtered(people):
    _voted(people)
    source = replace(people.write(), least_agreement=0.5, least_votes=-1, held_out_every=2)

    (_, finding), *_ = examine(DataFile(train=(source,))).findings

    assert (finding.count, finding.problem) == (2, "of 12 people are left out by least_agreement 0.5")


def test_filters_that_know_nothing_of_people_are_worth_a_look(people):
    _voted(people)
    for annotation in people.annotations[4:]:
        del annotation["agreement"], annotation["votes"]
    source = replace(people.write(), least_agreement=0.2, least_votes=1)

    report = examine(DataFile(train=(source,)))

    assert [(one.count, one.problem.split(" least")[0]) for _, one in report.findings] == [
        (PEOPLE - 4, f"of {PEOPLE} people have no agreement for"),
        (PEOPLE - 4, f"of {PEOPLE} people have no votes for"),
        (4, f"of {17 * PEOPLE} keypoints of believed people are left out by"),
    ]


@pytest.mark.parametrize(
    ("settings", "left"),
    [
        ({"least_agreement": 0.95}, "people"),
        ({"least_votes": 3}, "people"),
        ({"least_votes": 3, "is_single_person": True}, "people"),
        ({"held_out_every": 1}, "pictures"),
    ],
)
def test_a_source_of_which_nothing_is_left_is_to_be_fixed(people, settings, left):
    _voted(people)
    source = replace(people.write(), **settings)

    fixes = [one for _, one in examine(DataFile(train=(source,))).findings if one.level == "fix"]

    assert [(one.count, one.problem) for one in fixes] == [(0, f"{left} of labels.json are left")]


@pytest.mark.parametrize("is_listed", [True, False], ids=["people without keypoints", "no people"])
def test_a_source_in_which_nobody_is_labelled_is_to_be_fixed(people, is_listed):
    for number in range(PEOPLE):
        people.put(number, np.zeros((17, 3)))
    people.annotations = people.annotations if is_listed else []
    rooms = Source(images=people.folder / "images")

    report = examine(DataFile(train=(people.write(), rooms)))

    assert [(name, one.count, one.problem) for name, one in report.findings if one.level == "fix"] == [
        ("labels.json", 0, "people of labels.json are left")
    ]
    assert "Label people" in report.findings[-1][1].remedy


def test_a_mixture_of_folders_without_people_is_to_be_fixed(people):
    source = people.write()

    report = examine(DataFile(train=(Source(images=source.images),)))

    assert [(one.level, one.count, one.problem) for _, one in report.findings] == [
        ("fix", 0, "sources for training have people")
    ]


def test_a_lone_person_s_picture_is_not_drawn_when_another_in_it_has_nothing_left(people):
    _voted(people)
    people.annotations = people.annotations[:2]
    people.annotations[1]["image_id"] = 1
    people.annotations[1]["votes"] = [0] * 17
    people.put(1, people.points(1) + np.array([50, 0, 0]))
    source = replace(people.write(), least_votes=1)

    def problems(source):
        return [one.problem for _, one in examine(DataFile(train=(source,))).findings]

    assert "people of labels.json are left" not in problems(source)
    assert "people of labels.json are left" in problems(replace(source, is_single_person=True))


@pytest.mark.parametrize(
    "opinion", [{"votes": [1] * 16}, {"votes": ["a"] * 17}, {"agreement": None}, {"agreement": True}]
)
def test_opinions_that_training_refuses_are_found(people, opinion):
    people.annotations[4] |= opinion

    assert only(findings(people)).startswith("fix 1 annotations have votes that are not 17 numbers")
    assert "annotation 105" in only(findings(people))


@pytest.fixture
def halves(tmp_path, stick_person):
    """Leeds Sports Pose with two pictures for training, and two for testing that are missing."""
    points = np.ones((3, 14, 4))
    points[:2] = 1 + stick_person[[16, 14, 12, 11, 13, 15, 10, 8, 6, 5, 7, 9, 0, 0]].T[:, :, None]
    savemat(tmp_path / "joints.mat", {"joints": points})
    for number in (1, 2):
        cv2.imwrite(str(tmp_path / f"im000{number}.jpg"), np.full((260, 180, 3), 60 * number, np.uint8))
    return tmp_path


def test_of_a_file_with_both_parts_the_right_one_is_looked_at(halves):
    source = Source(images=halves, annotations=halves / "joints.mat")

    train = examine(DataFile(train=(source,), skeleton=LSP))
    test = examine(DataFile(train=(replace(source, split="test"),), skeleton=LSP))

    assert train.sets == ("joints.mat (train): 2 pictures, 2 people",)
    assert not any(one.level == "fix" for _, one in train.findings)
    assert train.sheet.shape[1] == 2 * 240
    assert test.sets == ("joints.mat (test): 2 pictures, 2 people",)
    missing = next(one for _, one in test.findings if one.level == "fix")
    assert missing.problem == "of 2 pictures are missing"
    assert missing.example.endswith("im0003.jpg")
    assert test.sheet is None


def test_training_and_test_part_of_a_file_have_no_picture_in_common(halves):
    for number in (3, 4):
        cv2.imwrite(str(halves / f"im000{number}.jpg"), np.full((260, 180, 3), 60 * number, np.uint8))
    file = halves / "joints.mat"
    train, test = Source(images=halves, annotations=file), LabelledSet(images=halves, annotations=file)

    apart = examine(DataFile(train=(train,), validation=(test,), skeleton=LSP))
    alike = examine(DataFile(train=(train,), validation=(replace(test, split="train"),), skeleton=LSP))

    assert [line.split(":")[0] for line in apart.sets] == ["joints.mat (train)", "joints.mat (test)"]
    assert not any(one.level == "fix" for _, one in apart.findings)
    assert len(alike.sets) == 1
    assert [(one.count, one.problem) for _, one in alike.findings if one.level == "fix"] == [
        (2, "pictures are both for training and for validation")
    ]


def test_a_list_of_mpii_is_looked_at_by_parts_where_it_has_some(tmp_path):
    entry = {"img_paths": "a.jpg", "joint_self": [[30 + k, 40 + 3 * k, 1] for k in range(16)]}
    entries = [entry | {"isValidation": 0.0}, entry | {"isValidation": 1.0, "img_paths": "b.jpg"}]
    path = tmp_path / "mpii.json"
    train, test = Source(images=tmp_path, annotations=path), LabelledSet(images=tmp_path, annotations=path)

    path.write_text(json.dumps(entries))
    parted = examine(DataFile(train=(train,), validation=(test,)))
    path.write_text(json.dumps([entry]))
    whole = examine(DataFile(train=(train,), validation=(test,)))

    assert parted.sets == (
        "mpii.json (train): 1 pictures, 1 people",
        "mpii.json (test): 1 pictures, 1 people",
    )
    assert whole.sets == ("mpii.json: 1 pictures, 1 people",)


@pytest.mark.parametrize(("every", "left"), [(100, "pictures"), (2, "people")])
def test_a_validation_set_of_which_nothing_is_left_is_to_be_fixed(people, every, left):
    people.annotations = people.annotations[::2]
    source = people.write()
    judged = LabelledSet(images=source.images, annotations=source.annotations, every=every)

    report = examine(DataFile(train=(replace(source, held_out_every=2),), validation=(judged,)))

    assert [(name, one.count, one.problem) for name, one in report.findings] == [
        ("labels.json", 0, f"{left} of labels.json are left")
    ]
