"""Options of `predict` and `evaluate` that say how pictures are looked at, as the runtime takes them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fleetpose.errors import ConfigError

if TYPE_CHECKING:
    from fleetpose.data.layouts import Split
    from fleetpose.runtime.bottom_up import BottomUpSettings
    from fleetpose.runtime.cascade import BoxSource

#: Answers of `--boxes` that are no files.
WHOLE = "whole"
LABELLED = "gt"


def bottom_up_settings(
    *,
    scales: str | None,
    zoom: bool,
    all_tags: bool = False,
    project: bool = False,
    canvas_64: bool = False,
) -> BottomUpSettings | None:
    """Settings of a bottom-up model; None where nothing was asked for.

    Raises:
        ConfigError: scales that are no numbers or do not go together.
    """
    from fleetpose.codecs.aggregate import AggregationSettings  # noqa: PLC0415 - help must not wait for it
    from fleetpose.runtime.bottom_up import BottomUpSettings  # noqa: PLC0415 - same
    from fleetpose.runtime.zoom import ZoomSettings  # noqa: PLC0415 - same

    if scales is None and not (zoom or all_tags or project or canvas_64):
        return None
    aggregation = AggregationSettings(
        scales=(1.0,) if scales is None else _numbers(scales), has_all_tags=all_tags, is_projected=project
    )
    return BottomUpSettings(
        aggregation=aggregation, has_canvas_of_64=canvas_64, zoom=ZoomSettings() if zoom else None
    )


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise ConfigError(f"scales must be numbers such as 0.5,1,2, got {text!r}") from error


def short_sides(text: str | None) -> int | tuple[int, ...] | None:
    """One size of the picture, or several; None where nothing was asked for.

    Raises:
        ConfigError: no whole numbers.

    >>> short_sides("128"), short_sides("96,224")
    (128, (96, 224))
    """
    if text is None:
        return None
    try:
        sides = tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise ConfigError(
            f"short side must be pixels such as 128, or several such as 96,224, got {text!r}"
        ) from error
    return sides[0] if len(sides) == 1 else sides


def box_source(boxes: str | None) -> BoxSource | None:
    """Boxes for pictures without labels: `whole` or a COCO file; None where nothing was asked for.

    Raises:
        ConfigError: labelled boxes were asked for.
        DatasetError: the file holds no boxes.
    """
    from fleetpose.runtime.cascade import read_boxes  # noqa: PLC0415 - help must not wait for it

    if boxes == LABELLED:
        raise ConfigError("pictures have no labelled boxes here: give `--boxes whole` or a COCO file")
    return "whole" if boxes == WHOLE else None if boxes is None else read_boxes(Path(boxes))


def labelled_box_source(boxes: str | None, data: Path, *, split: Split = "test") -> BoxSource | None:
    """Boxes for the pictures of an annotation file: `gt` for its own, `whole`, or a file of results.

    Raises:
        DatasetError: a file holds no boxes.
    """
    from fleetpose.data.annotations import load_coco_json  # noqa: PLC0415 - help must not wait for it
    from fleetpose.runtime.cascade import coco_boxes, read_boxes  # noqa: PLC0415 - same

    if boxes is None or boxes == WHOLE:
        return None if boxes is None else "whole"
    annotations = load_coco_json(data, split=split)
    if boxes == LABELLED:
        return coco_boxes(annotations, source=str(data))
    names = {image["id"]: image["file_name"] for image in annotations["images"]}
    return read_boxes(Path(boxes), names=names)
