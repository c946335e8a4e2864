"""Pictures of training data, decoded once where memory allows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from fleetpose.errors import DatasetError, MediaError
from fleetpose.media.images import Reduction, read_image


class PictureCache:
    """Reads pictures, and keeps the first ones that `limit_mb` MiB hold for the next time.

    Nothing that is kept makes room for something else: when samples are drawn at random, no picture is more
    likely to be asked for again than another. A picture that changes on disk meanwhile is not read again.

    Args:
        limit_mb: MiB of decoded pixels, 0 to keep nothing.
    """

    def __init__(self, limit_mb: int = 0) -> None:
        self._room = limit_mb * 2**20
        self._kept: dict[tuple[Path, int], npt.NDArray[np.uint8]] = {}

    def read(self, path: Path, *, reduction: Reduction = 1) -> npt.NDArray[np.uint8]:
        """Read a picture as it is stored → `[H, W, 3]` RGB, which must not be written to.

        Pixels are taken as they lie in the file: COCO's labels, and their width and height, refer to those,
        so an EXIF orientation is not applied. Grey, 16-bit and transparent pictures become RGB.

        Args:
            path: the file.
            reduction: divides both sides.

        Raises:
            DatasetError: the picture is missing or broken.
        """
        kept = self._kept.get((path, reduction))
        if kept is not None:
            return kept
        try:
            image = read_image(path, is_as_stored=True, reduction=reduction)
        except MediaError as error:
            raise DatasetError(
                f"cannot read the picture {path}: it is missing or broken; replace it or remove its entry "
                "(fleetpose doctor finds all such)"
            ) from error
        image.flags.writeable = False
        if image.nbytes <= self._room:
            self._room -= image.nbytes
            self._kept[path, reduction] = image
        return image
