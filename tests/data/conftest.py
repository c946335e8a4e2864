"""Small data sets, drawn and written to disk."""

import json

import cv2
import numpy as np
import pytest

from fleetpose.skeletons import Skeleton


@pytest.fixture(scope="session")
def arrow():
    """Skeleton of three keypoints, two of which are left and right of each other."""
    return Skeleton.from_dict(
        {"name": "arrow", "keypoints": ["tip", "left_end", "right_end"], "sigmas": [0.05, 0.05, 0.05]}
    )


@pytest.fixture(scope="session")
def draw_spots():
    """Function that draws a bright spot around each point (x, y), in the channel of its number, on black."""

    def draw(points, size, *, sigma=4.0):
        image = np.zeros((*size, 3))
        ys, xs = np.mgrid[: size[0], : size[1]]
        for channel, (x, y) in enumerate(points):
            image[..., channel] = 255 * np.exp(-((xs - x) ** 2 + (ys - y) ** 2) / (2 * sigma**2))
        return np.rint(image).astype(np.uint8)

    return draw


@pytest.fixture(scope="session")
def spot_centre():
    """Function that finds where the spot of a channel near (x, y) lies, to a fraction of a pixel, or None."""

    def centre(image, channel, near, radius=15):
        # Whatever is brighter than the padding counts, by how much it is: a symmetric cap of the spot.
        light = np.maximum(image[..., channel].astype(float) - 130, 0)
        ys, xs = np.mgrid[: image.shape[0], : image.shape[1]]
        light[np.hypot(xs - near[0], ys - near[1]) > radius] = 0
        if light.sum() == 0:
            return None
        return np.array([(light * xs).sum(), (light * ys).sum()]) / light.sum()

    return centre


@pytest.fixture
def write_coco(tmp_path):
    """Function that writes pictures and COCO annotations to a folder → (annotations, images)."""

    def write(images, annotations, *, names=("tip", "left_end", "right_end"), records=None, **more):
        folder = tmp_path / "images"
        folder.mkdir(exist_ok=True)
        for number, image in enumerate(images, start=1):
            cv2.imwrite(str(folder / f"{number}.png"), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        listed = [
            {"id": number, "file_name": f"{number}.png", "height": image.shape[0], "width": image.shape[1]}
            for number, image in enumerate(images, start=1)
        ]
        content = {
            "images": listed if records is None else records,
            "annotations": annotations,
            "categories": [{"id": 1, "name": "person", "keypoints": list(names)}],
            **more,
        }
        path = tmp_path / "labels.json"
        path.write_text(json.dumps(content))
        return path, folder

    return write
