"""`fleetpose evaluate --metric miou` and `--metric top`: scores of whole pictures, from files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from fleetpose.errors import ConfigError

if TYPE_CHECKING:
    from fleetpose.runtime.picture_scores import PictureScores

#: What the metrics read: labels, and what --detections-in names.
PICTURE_METRICS: Mapping[str, str] = {
    "miou": "a folder of PNG pictures of classes",
    "top": "a CSV file of scores per picture",
}


def score_pictures(
    metric: str, labels: Path, predicted: Path | None, *, label_map: str, others: Mapping[str, bool]
) -> PictureScores:
    """Score files with a metric of `PICTURE_METRICS`.

    Args:
        metric: its name.
        labels: folder or file of the labels.
        predicted: folder or file that a tool has written.
        label_map: what the pixels of label pictures mean.
        others: options that are of no use here → whether each was given.

    Raises:
        ConfigError: nothing was predicted, or an option is of no use.
    """
    from fleetpose.runtime.picture_scores import score_classes, score_label_maps  # noqa: PLC0415

    for option, is_given in others.items():
        if is_given:
            raise ConfigError(f"--metric {metric} runs no model and finds nobody; leave {option} out")
    if predicted is None:
        raise ConfigError(
            f"--metric {metric} scores {PICTURE_METRICS[metric]}, which any tool has written: name it with "
            "--detections-in"
        )
    if metric == "miou":
        return score_label_maps(predicted, labels, label_map=label_map)
    return score_classes(predicted, labels)
