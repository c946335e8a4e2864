"""Plain data ↔ frozen dataclasses, strictly: a typo in a settings file or an override is an error that names it."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml

from fleetpose.errors import ConfigError, UnknownNameError

T = TypeVar("T")


def from_plain(kind: type[T], data: object, *, where: str = "settings") -> T:
    """Build a dataclass of type `kind` from mappings, lists and scalars, checking every name and type.

    Args:
        kind: a dataclass whose fields are scalars, paths, tuples, optional values or further dataclasses.
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
            raise UnknownNameError(f"field of {where}", str(name), fields)
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
        _assign(plain, path.strip().split("."), yaml.safe_load(text), assignment)
    return from_plain(type(settings), plain)


def _assign(plain: Any, path: Sequence[str], value: object, assignment: str) -> None:  # noqa: ANN401
    for depth, part in enumerate(path):
        key: Any = int(part) if isinstance(plain, list) and part.isdigit() else part
        known = range(len(plain)) if isinstance(plain, list) else plain
        if not isinstance(plain, list | dict) or key not in known:
            raise UnknownNameError(f"field in {assignment!r}", str(part), [str(name) for name in known or ()])
        if depth == len(path) - 1:
            plain[key] = value
        else:
            plain = plain[key]


def _is_required(item: dataclasses.Field[Any]) -> bool:
    return item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING


def _convert(hint: Any, value: object, where: str) -> Any:  # noqa: ANN401 - a type and its value
    """Bring `value` to the type `hint`, or raise."""
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return _convert_optional(hint, value, where)
    if origin is tuple:
        return _convert_tuple(typing.get_args(hint), value, where)
    if dataclasses.is_dataclass(hint):
        return value if isinstance(value, hint) else from_plain(hint, value, where=where)  # type: ignore[arg-type]
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is Path and isinstance(value, str):
        return Path(value)
    if isinstance(value, hint) and (hint is bool or not isinstance(value, bool)):
        return value
    raise ConfigError(f"{where} must be {hint.__name__}, got {value!r}")


def _convert_optional(hint: Any, value: object, where: str) -> Any:  # noqa: ANN401
    members = [member for member in typing.get_args(hint) if member is not type(None)]
    if value is None:
        return None
    return _convert(members[0], value, where)


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
