"""What the pixels of label pictures mean: Cityscapes, CamVid and the masks of rendered people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fleetpose.errors import DatasetError

#: Class of pixels that count neither in the loss nor in the score.
IGNORED = 255


@dataclass(frozen=True, slots=True)
class LabelMap:
    """How the pixels of a label picture tell classes.

    Attributes:
        name: what to call it.
        classes: names; class k is the k-th.
        values: grey value or, in a coloured map, 65536 red + 256 green + blue → class. Others are ignored.
        is_coloured: label pictures are RGB.
    """

    name: str
    classes: tuple[str, ...]
    values: Mapping[int, int]
    is_coloured: bool = False

    def decode(self, labels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Label picture `[H, W]`, or `[H, W, 3]` RGB for a coloured map, → classes `[H, W]` uint8.

        Raises:
            DatasetError: the picture is grey and the map coloured, or the reverse.

        >>> CITYSCAPES_IDS.decode(np.array([[7, 24, 0]], np.uint8)).tolist()
        [[0, 11, 255]]
        """
        if (labels.ndim == 3) != self.is_coloured:
            wanted, got = ("coloured", "grey") if self.is_coloured else ("grey", "coloured")
            raise DatasetError(f"labels of {self.name} must be a {wanted} picture, got a {got} one")
        if not self.is_coloured:
            table = np.full(256, IGNORED, np.uint8)
            table[list(self.values)] = list(self.values.values())
            return np.asarray(table[labels])
        codes = np.array(sorted(self.values))
        classes = np.array([self.values[code] for code in codes.tolist()], np.uint8)
        packed = labels.astype(np.int64) @ np.array([65536, 256, 1])
        place = np.minimum(np.searchsorted(codes, packed), len(codes) - 1)
        return np.where(codes[place] == packed, classes[place], IGNORED).astype(np.uint8)


#: The 19 classes of Cityscapes' benchmark (Cordts et al., arXiv:1604.01685), in the order of its train ids.
CITYSCAPES_CLASSES = (
    *("road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign"),
    *("vegetation", "terrain", "sky", "person", "rider", "car", "truck", "bus", "train"),
    *("motorcycle", "bicycle"),
)
#: Label id of each of them, from the data set's own table.
_CITYSCAPES_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
CITYSCAPES_IDS = LabelMap(
    name="Cityscapes label ids",
    classes=CITYSCAPES_CLASSES,
    values={value: number for number, value in enumerate(_CITYSCAPES_IDS)},
)
CITYSCAPES_TRAIN_IDS = LabelMap(
    name="Cityscapes train ids",
    classes=CITYSCAPES_CLASSES,
    values={number: number for number in range(len(CITYSCAPES_CLASSES))},
)

#: Classes of `classes.png` beside rendered pictures (`fleetpose.synth.mesh.Semantic`) among Cityscapes' 19.
#: Whatever a body wears or shows is the person; floors, ceilings and things have no counterpart.
SYNTH = LabelMap(
    name="rendered people",
    classes=CITYSCAPES_CLASSES,
    values={
        **dict.fromkeys(range(1, 10), CITYSCAPES_CLASSES.index("person")),
        21: CITYSCAPES_CLASSES.index("wall"),
        23: CITYSCAPES_CLASSES.index("sky"),
        24: CITYSCAPES_CLASSES.index("vegetation"),
        25: CITYSCAPES_CLASSES.index("road"),
        26: CITYSCAPES_CLASSES.index("building"),
    },
)

#: CamVid's classes and colours (Brostow et al., 2009), without Void, which is black.
_CAMVID_COLOURS = {
    "Animal": (64, 128, 64),
    "Archway": (192, 0, 128),
    "Bicyclist": (0, 128, 192),
    "Bridge": (0, 128, 64),
    "Building": (128, 0, 0),
    "Car": (64, 0, 128),
    "CartLuggagePram": (64, 0, 192),
    "Child": (192, 128, 64),
    "Column_Pole": (192, 192, 128),
    "Fence": (64, 64, 128),
    "LaneMkgsDriv": (128, 0, 192),
    "LaneMkgsNonDriv": (192, 0, 64),
    "Misc_Text": (128, 128, 64),
    "MotorcycleScooter": (192, 0, 192),
    "OtherMoving": (128, 64, 64),
    "ParkingBlock": (64, 192, 128),
    "Pedestrian": (64, 64, 0),
    "Road": (128, 64, 128),
    "RoadShoulder": (128, 128, 192),
    "Sidewalk": (0, 0, 192),
    "SignSymbol": (192, 128, 128),
    "Sky": (128, 128, 128),
    "SUVPickupTruck": (64, 128, 192),
    "TrafficCone": (0, 0, 64),
    "TrafficLight": (0, 64, 64),
    "Train": (192, 64, 128),
    "Tree": (128, 128, 0),
    "Truck_Bus": (192, 128, 192),
    "Tunnel": (64, 0, 64),
    "VegetationMisc": (192, 192, 0),
    "Wall": (64, 192, 0),
}
#: The 11 classes in use since SegNet (arXiv:1511.00561), each with the original ones that it joins.
_CAMVID_GROUPS = {
    "sky": ("Sky",),
    "building": ("Archway", "Bridge", "Building", "Tunnel", "Wall"),
    "pole": ("Column_Pole", "TrafficCone"),
    "road": ("Road", "LaneMkgsDriv", "LaneMkgsNonDriv"),
    "pavement": ("Sidewalk", "ParkingBlock", "RoadShoulder"),
    "tree": ("Tree", "VegetationMisc"),
    "sign": ("SignSymbol", "Misc_Text", "TrafficLight"),
    "fence": ("Fence",),
    "car": ("Car", "SUVPickupTruck", "Truck_Bus", "Train", "OtherMoving"),
    "pedestrian": ("Pedestrian", "Child", "CartLuggagePram", "Animal"),
    "bicyclist": ("Bicyclist", "MotorcycleScooter"),
}


def _packed(name: str) -> int:
    red, green, blue = _CAMVID_COLOURS[name]
    return 65536 * red + 256 * green + blue


CAMVID_32 = LabelMap(
    name="CamVid colours",
    classes=(*_CAMVID_COLOURS, "Void"),
    values={_packed(name): number for number, name in enumerate(_CAMVID_COLOURS)},
    is_coloured=True,
)
CAMVID_11 = LabelMap(
    name="CamVid colours",
    classes=tuple(_CAMVID_GROUPS),
    values={_packed(name): k for k, names in enumerate(_CAMVID_GROUPS.values()) for name in names},
    is_coloured=True,
)
#: Grey pictures of SegNet's copy of the data: class numbers, 11 for Void.
CAMVID_NUMBERS = LabelMap(
    name="CamVid numbers",
    classes=tuple(_CAMVID_GROUPS),
    values={number: number for number in range(len(_CAMVID_GROUPS))},
)
