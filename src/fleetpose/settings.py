"""Plain data ↔ frozen dataclasses, strictly: a typo in a settings file or an override is refused by name."""

from __future__ import annotations

import dataclasses
import math
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml

from fleetpose.errors import ConfigError, UnknownNameError

T = TypeVar("T")

#: YAML 1.1 takes such a number, as in `lr=1e-3`, for text.
_EXPONENT_WITHOUT_POINT = re.compile(r"[+-]?\d+[eE][+-]?\d+")


def from_plain(kind: type[T], data: object, *, where: str = "settings") -> T:
    """Build a dataclass of type `kind` from mappings, lists and scalars, checking every name and type.

    Args:
        kind: a dataclass whose fields are scalars, literals, paths, tuples, dicts by name, optional values
            (one type or None), text or a dataclass, or further dataclasses. A dataclass with a `from_dict` of
            its own is read by that.
        data: mapping with the fields' names; fields that have a default may be absent.
        where: what the data is, for messages.

    Raises:
        ConfigError: a name is unknown, a value is missing or of the wrong type.
    """
    if not isinstance(data, Mapping):
        raise ConfigError(f"{where} must be a mapping, got {data!r}")
    fields = {item.name: item for item in dataclasses.fields(kind) if item.init}  # type: ignore[arg-type]
    for name in data:
        if name not in fields:
            raise UnknownNameError(f"field of {where}", name, fields)
    missing = [name for name, item in fields.items() if name not in data and _is_required(item)]
    if missing:
        raise ConfigError(f"{where} lacks {', '.join(missing)}")
    hints = typing.get_type_hints(kind)
    values = {str(name): _convert(hints[name], value, f"{where}.{name}") for name, value in data.items()}
    return kind(**values)


def to_plain(value: Any) -> Any:  # noqa: ANN401 - any settings value
    """Turn dataclasses, tuples and paths into mappings, lists and text; `from_plain` reads it back."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            item.name: to_plain(getattr(value, item.name)) for item in dataclasses.fields(value) if item.init
        }
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    if isinstance(value, dict):
        return {name: to_plain(item) for name, item in value.items()}
    if isinstance(value, Path):
        return str(value)
    return value


def override(settings: T, assignments: Sequence[str]) -> T:
    """Replace fields by dotted assignments, such as `phases.0.batch=8`; values are read as YAML.

    Raises:
        ConfigError: an assignment has no `=`, names an unknown field or holds a value of the wrong type.
    """
    plain = to_plain(settings)
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        if not equals:
            raise ConfigError(f"an override reads name=value, got {assignment!r}")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            reason = " ".join(str(error).split())
            raise ConfigError(f"the value in {assignment!r} is no YAML: {reason}") from error
        keys = path.strip().split(".")
        whole = _as_whole(settings, plain, keys, text)
        if whole:
            raise ConfigError(
                f"{assignment!r} sets a part of what is not set; give it whole: --set '{whole}'"
            )
        _assign(plain, keys, value, assignment)
    return from_plain(type(settings), plain)


def _as_whole(settings: object, plain: Any, keys: Sequence[str], text: str) -> str:  # noqa: ANN401
    """Write the override of a part of a dataclass that `plain` leaves out as one of all of it; else ""."""
    for number, key in enumerate(keys[:-1], start=1):
        hint = typing.get_type_hints(type(settings)).get(key) if dataclasses.is_dataclass(settings) else None
        if isinstance(plain, dict) and key in plain:
            settings, plain = getattr(settings, key, None), plain[key]
        elif isinstance(plain, list) and key in map(str, range(len(plain))):
            whole = settings if isinstance(settings, tuple) else ()
            settings, plain = next(iter(whole[int(key) :]), None), plain[int(key)]
        else:
            return ""
        if plain is None and any(map(dataclasses.is_dataclass, typing.get_args(hint))):
            part = text
            for inner in reversed(keys[number:]):
                part = f"{{{inner}: {part}}}"
            return f"{'.'.join(keys[:number])}={part}"
    return ""


def _assign(plain: Any, path: Sequence[str], value: object, assignment: str) -> None:  # noqa: ANN401
    *parents, last = path
    for part in parents:
        plain = plain[_key(plain, part, assignment)]
    plain[_key(plain, last, assignment)] = value


def _key(plain: object, part: str, assignment: str) -> Any:  # noqa: ANN401 - of a list or of a mapping
    """Position or name in `plain` that `part` of an override's path means."""
    if isinstance(plain, list):
        known: list[Any] = list(range(len(plain)))
    else:
        known = list(plain) if isinstance(plain, dict) else []
    names = {str(key): key for key in known}
    if part not in names:
        raise UnknownNameError(f"field in {assignment!r}", part, names)
    return names[part]


def _is_required(item: dataclasses.Field[Any]) -> bool:
    return item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING


def _convert(hint: Any, value: object, where: str) -> Any:  # noqa: ANN401 - a type and its value
    """Bring `value` to the type `hint`, or raise."""
    origin = typing.get_origin(hint)
    if origin in _CONVERTERS:
        return _CONVERTERS[origin](typing.get_args(hint), value, where)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return value if isinstance(value, hint) else _convert_dataclass(hint, value, where)
    if hint is float:
        value = _as_float(value)
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{where} must be a finite number, got {value}")
    elif hint is Path and isinstance(value, str):
        value = Path(value)
    if isinstance(value, hint) and (hint is bool or not isinstance(value, bool)):
        return value
    raise ConfigError(f"{where} must be {hint.__name__}, got {value!r}")


def _convert_dataclass(hint: Any, value: object, where: str) -> Any:  # noqa: ANN401 - a class and one of it
    read = getattr(hint, "from_dict", None)
    if read is None or not isinstance(value, Mapping):
        return from_plain(hint, value, where=where)
    try:
        return read(dict(value))
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


def _convert_dict(members: tuple[Any, ...], value: object, where: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{where} must be a mapping, got {value!r}")
    return {str(name): _convert(members[1], item, f"{where}.{name}") for name, item in value.items()}


def _convert_choice(choices: tuple[Any, ...], value: object, where: str) -> object:
    if value not in choices:
        raise UnknownNameError(where, str(value), [str(choice) for choice in choices])
    return value


def _convert_union(members: tuple[Any, ...], value: object, where: str) -> Any:  # noqa: ANN401
    """Bring `value` to the one type that may be None, or to text or, if it is a mapping, a dataclass."""
    if value is None and type(None) in members:
        return None
    is_whole = isinstance(value, Mapping) or dataclasses.is_dataclass(value)
    kinds = [member for member in members if member is not type(None)]
    fitting = [member for member in kinds if dataclasses.is_dataclass(member) == is_whole]
    return _convert((fitting or kinds)[0], value, where)


def _as_float(value: object) -> object:
    """Make whole numbers and exponents without a point float; return anything else as it is."""
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    is_exponent = isinstance(value, str) and _EXPONENT_WITHOUT_POINT.fullmatch(value)
    try:
        return float(value) if is_whole or is_exponent else value  # type: ignore[arg-type]  # one of the two
    except OverflowError:  # a whole number beyond what float holds
        return math.inf


def _convert_tuple(members: tuple[Any, ...], value: object, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise ConfigError(f"{where} must be a list, got {value!r}")
    if len(members) == 2 and members[1] is Ellipsis:
        members = (members[0],) * len(value)
    if len(members) != len(value):
        raise ConfigError(f"{where} must have {len(members)} entries, got {len(value)}")
    return tuple(
        _convert(member, item, f"{where}.{index}")
        for index, (member, item) in enumerate(zip(members, value, strict=True))
    )


#: How values of a composed type are brought to it: (its arguments, value, name) → value.
_CONVERTERS: Mapping[Any, Callable[[tuple[Any, ...], object, str], Any]] = {
    typing.Union: _convert_union,
    types.UnionType: _convert_union,
    typing.Literal: _convert_choice,
    tuple: _convert_tuple,
    dict: _convert_dict,
}
