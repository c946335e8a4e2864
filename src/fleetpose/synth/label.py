"""Exact labels of a drawn picture: keypoints with true visibility, masks, boxes, 3D, depth, classes."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from fleetpose.geometry import boxes_to_coco, is_inside
from fleetpose.skeletons import COCO, CROWDPOSE, MPII
from fleetpose.synth.actor import KEYPOINTS, Actor
from fleetpose.synth.arrays import Array
from fleetpose.synth.camera import Camera
from fleetpose.synth.render import Frame
from fleetpose.synth.rle import encode_mask

# How far in metres a keypoint may lie below the skin or cloth that shows it, for a body 1.7 m tall.
TOLERANCE = {
    "nose": 0.03,
    "eye": 0.03,
    "ear": 0.05,
    "shoulder": 0.14,
    "elbow": 0.09,
    "wrist": 0.07,
    "hip": 0.19,
    "knee": 0.11,
    "ankle": 0.1,
    "head_top": 0.06,
    "upper_neck": 0.12,
    "neck": 0.14,
    "pelvis": 0.22,
}
# Which of our keypoints answers to a name of another skeleton.
SYNONYMS = {
    COCO.name: {},
    CROWDPOSE.name: {"head": "head_top"},
    MPII.name: {"neck": "upper_neck", "thorax": "neck"},
}
MIN_AREA = 16  # pixels: people who show less are left out


@dataclass(frozen=True, slots=True, eq=False)
class PersonLabel:
    """One visible person. keypoints: `[21, 3]` (x, y, v) in `KEYPOINTS` order, pixels. box: xyxy pixels.

    points_3d: `[21, 3]` camera frame (right, down, forward), metres. mask: `[H, W]` bool.
    """

    person_id: int
    action: str
    keypoints: Array
    points_3d: Array
    mask: Array
    box: Array
    hidden_share: float

    def in_skeleton(self, name: str, keypoints: tuple[str, ...]) -> Array:
        """Keypoints `[K, 3]` in the order of the skeleton called `name`."""
        order = [KEYPOINTS.index(SYNONYMS[name].get(keypoint, keypoint)) for keypoint in keypoints]
        chosen: Array = self.keypoints[order]
        return chosen


def label_people(frame: Frame, actors: tuple[Actor, ...], camera: Camera) -> list[PersonLabel]:
    """Labels of everyone who shows at least `MIN_AREA` pixels; `camera` is the picture's."""
    labels = []
    for number, actor in enumerate(actors):
        mask = picture_mask(frame.owner, number, camera.size)
        if int(mask.sum()) < MIN_AREA:
            continue
        seen = camera.project(actor.keypoints)
        inside = is_inside(seen[:, :2], camera.size) & (seen[:, 2] > 0)
        visible = inside & is_near(mask, seen)
        visible &= keypoint_visibility(frame, actor, number, camera)
        v = np.where(visible, 2, np.where(inside, 1, 0))
        labels.append(
            PersonLabel(
                person_id=actor.person_id,
                action=actor.action,
                keypoints=np.column_stack([np.where(inside[:, None], seen[:, :2], 0), v]),
                points_3d=camera.to_camera(actor.keypoints),
                mask=mask,
                box=mask_box(mask),
                hidden_share=float(np.mean(v[:17] == 1)),
            )
        )
    return labels


def is_near(mask: Array, points: Array) -> Array:
    """Whether `mask` `[H, W]` holds the pixel of each of `points` `[K, 2+]`, or one next to it → `[K]`."""
    grown = cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8))
    height, width = mask.shape
    x = np.clip(np.rint(points[:, 0]), 0, width - 1).astype(int)
    y = np.clip(np.rint(points[:, 1]), 0, height - 1).astype(int)
    near: Array = grown[y, x] > 0
    return near


def picture_mask(owner: Array, number: int, size: tuple[int, int]) -> Array:
    """Pixels `[H, W]` of the picture that actor `number` covers at least by half."""
    rows = np.flatnonzero((owner == number).any(axis=1))
    if rows.size == 0:
        return np.zeros(size, bool)
    cover = cv2.resize((owner == number).astype(np.float32), (size[1], size[0]), interpolation=cv2.INTER_AREA)
    mask: Array = cover >= 0.5
    return mask


def mask_box(mask: Array) -> Array:
    """Tight box xyxy `[4]` around a mask's pixels."""
    ys, xs = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return np.array([xs[0] - 0.5, ys[0] - 0.5, xs[-1] + 0.5, ys[-1] + 0.5])


def keypoint_visibility(frame: Frame, actor: Actor, number: int, camera: Camera) -> Array:
    """Whether the first surface seen at each keypoint `[21]` is the person's own and close to the keypoint.

    The surface is looked for within one pixel of the drawing, because thin wrists may fall between samples.
    The
    person's own hair hides nothing: people who annotate photographs place ears under hair too.
    """
    drawn = camera.scaled(frame.owner.shape[0] / camera.size[0])
    seen = drawn.project(actor.keypoints)
    height, width = frame.owner.shape
    tall = float(np.ptp(actor.person.rest[:, 1])) / 1.7
    allowed = (
        np.array([TOLERANCE[name.removeprefix("left_").removeprefix("right_")] for name in KEYPOINTS]) * tall
    )
    result = np.zeros(len(KEYPOINTS), bool)
    centre = np.rint(np.clip(seen[:, :2], -9, max(height, width) + 9)).astype(int)
    for dy in (0, -1, 1):
        for dx in (0, -1, 1):
            x, y = np.clip(centre[:, 0] + dx, 0, width - 1), np.clip(centre[:, 1] + dy, 0, height - 1)
            own = (frame.owner[y, x] == number) & (frame.bare_owner[y, x] == number)
            depth = 1 / np.maximum(frame.nearness[y, x], 1e-6)
            result |= own & (depth > seen[:, 2] - allowed)
    return result


def annotation(label: PersonLabel, *, number: int, image_id: int) -> dict[str, object]:
    """One person as a COCO annotation, with what COCO has no field for in extra ones."""
    coco = label.in_skeleton(COCO.name, COCO.keypoints)
    x, y, w, h = (float(value) for value in boxes_to_coco(label.box))
    pelvis = label.points_3d[KEYPOINTS.index("pelvis")]
    return {
        "id": number,
        "image_id": image_id,
        "category_id": 1,
        "iscrowd": 0,
        "keypoints": flat(coco),
        "num_keypoints": int((coco[:, 2] > 0).sum()),
        "bbox": [x, y, w, h],
        "area": int(label.mask.sum()),
        "segmentation": encode_mask(label.mask),
        "person_id": label.person_id,
        "action": label.action,
        "keypoints_mpii16": flat(label.in_skeleton(MPII.name, MPII.keypoints)),
        "keypoints_crowdpose14": flat(label.in_skeleton(CROWDPOSE.name, CROWDPOSE.keypoints)),
        "keypoints_3d": [round(float(value), 4) for value in label.points_3d[:17].ravel()],
        "depth": round(float(pelvis[2]), 3),
        "hidden_share": round(label.hidden_share, 3),
    }


def flat(keypoints: Array) -> list[float | int]:
    """Keypoints `[K, 3]` → COCO's flat list: x, y to a hundredth of a pixel, v whole."""
    result: list[float | int] = []
    for x, y, v in keypoints.tolist():
        result += [round(x, 2), round(y, 2), int(v)]
    return result


def category() -> dict[str, object]:
    """The one category of the data set, COCO's person."""
    limbs = [[COCO.keypoints.index(a) + 1, COCO.keypoints.index(b) + 1] for a, b in COCO.limbs]
    return {
        "id": 1,
        "name": "person",
        "supercategory": "person",
        "keypoints": list(COCO.keypoints),
        "skeleton": limbs,
    }


def semantic_picture(frame: Frame, size: tuple[int, int]) -> Array:
    """Classes `[H, W]` uint8 of the picture (see `fleetpose.synth.mesh.Semantic`)."""
    worn = np.where(frame.owner >= 0, frame.semantic, 0).astype(np.uint8)
    return _people_first(frame.semantic, cv2.dilate(worn, np.ones((3, 3), np.uint8)), frame.owner, size)


def depth_picture(frame: Frame, size: tuple[int, int]) -> Array:
    """Depth `[H, W]` uint16 in millimetres of people and things, 0 where there is only backdrop."""
    near = np.where(frame.owner >= 0, frame.nearness, 0).astype(np.float32)
    nearness = _people_first(frame.nearness, cv2.dilate(near, np.ones((3, 3), np.uint8)), frame.owner, size)
    depth: Array = np.where(nearness > 0, np.minimum(1000 / np.maximum(nearness, 1e-6), 65535), 0)
    return depth.astype(np.uint16)


def _people_first(values: Array, of_people: Array, owner: Array, size: tuple[int, int]) -> Array:
    """Scale per-pixel `values` down; a pixel that people cover by half takes its value from `of_people`."""
    width_height = (size[1], size[0])
    cover = cv2.resize((owner >= 0).astype(np.float32), width_height, interpolation=cv2.INTER_AREA)
    own = cv2.resize(((owner >= 0) * 1).astype(np.uint8), width_height, interpolation=cv2.INTER_NEAREST)
    plain = cv2.resize(values, width_height, interpolation=cv2.INTER_NEAREST)
    grown = cv2.resize(of_people, width_height, interpolation=cv2.INTER_NEAREST)
    picked: Array = np.where((cover >= 0.5) & (own == 0), grown, plain)
    return picked
