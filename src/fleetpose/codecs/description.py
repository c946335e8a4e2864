"""What a model file says about itself: everything needed to feed the network and read its outputs.

The exporter writes a `ModelDescription` as JSON into the ONNX file's metadata under `METADATA_KEY`; the
runtime reads it back, so that one file is enough to predict with.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

from fleetpose.codecs.fields import Field
from fleetpose.errors import CheckpointError, ConfigError
from fleetpose.geometry import PADDING
from fleetpose.skeletons import Skeleton

#: Key of the JSON text among an ONNX file's metadata properties.
METADATA_KEY = "fleetpose"
#: Longest side of a canvas in pixels, for models that say nothing else.
MAX_SIDE = 2048
#: Raised when a reader of the old format would misread the new one.
FORMAT = 1

_Kinds: TypeAlias = Mapping[str, type | tuple[type, ...]]
_NUMBER = (int, float)


@dataclass(frozen=True, slots=True)
class InputDescription:
    """How a picture becomes the input tensor `image`, `[1, 3, H, W]` float32."""

    short_side: int  # pixels of the canvas's shorter side that the network was trained for
    multiple: int  # H and W are multiples of this
    mean: tuple[float, float, float]  # of red, green and blue in 0 to 255; the input is (rgb - mean) / std
    std: tuple[float, float, float]
    max_side: int = MAX_SIDE  # pixels; pictures so long that a side would be longer are made smaller
    min_side: int = 1  # pixels; shorter sides are padded to it
    padding: tuple[int, int, int] = PADDING  # colour (R, G, B) of what no picture covers

    def __post_init__(self) -> None:
        if min(self.short_side, self.multiple, self.max_side) < 1:
            raise CheckpointError(
                f"model input: short_side, multiple and max_side must be positive, got {self.short_side}, "
                f"{self.multiple} and {self.max_side}"
            )
        if not all(math.isfinite(value) for value in (*self.mean, *self.std)) or min(self.std) <= 0:
            raise CheckpointError(f"model input: std must be positive and mean finite, got {self}")


@dataclass(frozen=True, slots=True)
class ModelCard:
    """Where the weights come from, what one may do with them and how good they are."""

    licence: str
    data: tuple[str, ...]  # each data set with its terms, in one line
    command: str  # that trained the weights
    commit: str
    hours: float
    hardware: str
    metrics: dict[str, float]  # such as {"coco_dev/AP": 23.5}
    params: int
    macs: int  # multiply-accumulates for one square picture of `short_side`


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """One model file in words: its skeleton, its outputs, its codec's settings, its input and its card."""

    name: str
    family: str
    skeleton: Skeleton
    fields: tuple[Field, ...]  # one per output, in the outputs' order, which bear the fields' names
    input: InputDescription
    card: ModelCard
    codec: dict[str, Any]  # `type` and that codec's own settings

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the file's outputs: those of the fields, unless the codec reads something else."""
        return tuple(self.codec.get("outputs") or (one.name for one in self.fields))

    def to_json(self, *, indent: int | None = None) -> str:
        """Text for the file's metadata, or for a card beside it; `from_json` reads it back."""
        plain = {
            "format": FORMAT,
            "name": self.name,
            "family": self.family,
            "skeleton": self.skeleton.to_dict(),
            "fields": [one.to_dict() for one in self.fields],
            "codec": self.codec,
            "input": asdict(self.input),
            "card": asdict(self.card),
        }
        return json.dumps(plain, indent=indent, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> ModelDescription:
        """Rebuild from `to_json`.

        Raises:
            CheckpointError: the text is no JSON, of another format, or a key is missing, unknown or wrong.
        """
        try:
            data = json.loads(text)
        except json.JSONDecodeError as error:
            raise CheckpointError(f"model description is no JSON: {error}") from error
        _check_format(data)
        _check_keys("model description", data, _TOP_KINDS)
        _check_keys("model description's codec", data["codec"], {"type": str}, is_open=True)
        return cls(
            name=data["name"],
            family=data["family"],
            skeleton=_skeleton(data["skeleton"]),
            fields=tuple(_field(one) for one in data["fields"]),
            codec=data["codec"],
            input=_input(data["input"]),
            card=_card(data["card"]),
        )


_TOP_KINDS: _Kinds = {
    "format": int,
    "name": str,
    "family": str,
    "skeleton": dict,
    "fields": list,
    "codec": dict,
    "input": dict,
    "card": dict,
}
_INPUT_KINDS: _Kinds = {
    "short_side": int,
    "multiple": int,
    "mean": list,
    "std": list,
    "max_side": int,
    "min_side": int,
    "padding": list,
}
_FIELD_KINDS: _Kinds = {"kind": str, "channels": int, "stride": int, "label": str}
_CARD_KINDS: _Kinds = {
    "licence": str,
    "data": list,
    "command": str,
    "commit": str,
    "hours": _NUMBER,
    "hardware": str,
    "metrics": dict,
    "params": int,
    "macs": int,
}


def _check_format(data: object) -> None:
    if not isinstance(data, dict):
        raise CheckpointError(f"model description must be a JSON object, got {type(data).__name__}")
    found = data.get("format")
    if found != FORMAT:
        raise CheckpointError(
            f"model description has format {found!r}, expected {FORMAT}; export the model again, "
            "or update fleetpose if the file is newer"
        )


def _check_keys(what: str, data: object, kinds: _Kinds, *, is_open: bool = False) -> None:
    """Refuse missing keys, wrong types and, unless `is_open`, unknown keys."""
    if not isinstance(data, dict):
        raise CheckpointError(f"{what} must be a JSON object, got {type(data).__name__}")
    for key, kind in kinds.items():
        if key not in data:
            raise CheckpointError(f"{what} lacks the key {key!r}")
        if not isinstance(data[key], kind) or isinstance(data[key], bool):
            name = "number" if isinstance(kind, tuple) else kind.__name__
            raise CheckpointError(f"{what}: {key} must be a {name}, got {data[key]!r}")
    unknown = sorted(set(data) - set(kinds))
    if unknown and not is_open:
        raise CheckpointError(f"{what} has the unknown key {unknown[0]!r}; known: {', '.join(kinds)}")


def _numbers(what: str, values: list[Any], count: int) -> tuple[float, ...]:
    if len(values) != count or not all(isinstance(value, _NUMBER) for value in values):
        raise CheckpointError(f"model description's {what} must be {count} numbers, got {values}")
    return tuple(float(value) for value in values)


def _skeleton(data: dict[str, Any]) -> Skeleton:
    if data.get("sigmas") is None:
        raise CheckpointError("model description's skeleton lacks the key 'sigmas'")
    try:
        return Skeleton.from_dict(data)
    except ConfigError as error:
        raise CheckpointError(f"model description: {error}") from error


def _field(data: object) -> Field:
    _check_keys("a field of the model description", data, _FIELD_KINDS)
    try:
        return Field.from_dict(data)  # type: ignore[arg-type]  # just checked
    except ValueError as error:
        raise CheckpointError(f"a field of the model description: {error}") from error


def _input(data: dict[str, Any]) -> InputDescription:
    # Files from before there were these keys lack them.
    data = {"max_side": MAX_SIDE, "min_side": 1, "padding": list(PADDING), **data}
    _check_keys("model description's input", data, _INPUT_KINDS)
    red, green, blue = _numbers("mean", data["mean"], 3)
    std_red, std_green, std_blue = _numbers("std", data["std"], 3)
    pad_red, pad_green, pad_blue = _numbers("padding", data["padding"], 3)
    return InputDescription(
        short_side=data["short_side"],
        multiple=data["multiple"],
        mean=(red, green, blue),
        std=(std_red, std_green, std_blue),
        max_side=data["max_side"],
        min_side=data["min_side"],
        padding=(int(pad_red), int(pad_green), int(pad_blue)),
    )


def _card(data: dict[str, Any]) -> ModelCard:
    _check_keys("model description's card", data, _CARD_KINDS)
    if not all(isinstance(line, str) for line in data["data"]):
        raise CheckpointError(f"model description's card: data must be a list of lines, got {data['data']}")
    if not all(isinstance(value, _NUMBER) for value in data["metrics"].values()):
        raise CheckpointError(f"model description's card: metrics must be numbers, got {data['metrics']}")
    return ModelCard(**{**data, "data": tuple(data["data"]), "hours": float(data["hours"])})
