from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from fleetpose.errors import ConfigError, UnknownNameError
from fleetpose.settings import from_plain, override, to_plain


@dataclass(frozen=True, slots=True)
class Phase:
    size: tuple[int, int]
    batch: int = 8

    def __post_init__(self):
        if self.batch < 1:
            raise ConfigError(f"batch must be at least 1, got {self.batch}")


@dataclass(frozen=True, slots=True)
class Run:
    model: str
    phases: tuple[Phase, ...] = (Phase(size=(64, 64)),)
    lr: float = 1e-3
    is_quick: bool = False
    init: Path | None = None
    limit: int | None = None
    last: Phase | None = None
    end: Phase | None = None
    classes: dict[str, float] = field(default_factory=dict)
    total: int = field(init=False, default=0)


@dataclass(frozen=True, slots=True)
class Shape:
    name: str
    sides: int

    @classmethod
    def from_dict(cls, data):
        if data.get("sides", 3) < 3:
            raise ConfigError(f"sides must be at least 3, got {data['sides']}")
        return cls(name=data["name"], sides=data.get("sides", 3))


@dataclass(frozen=True, slots=True)
class Drawing:
    shape: str | Shape = "square"
    other: str | Shape | None = None


RUN = Run(
    model="tiny",
    phases=(Phase(size=(32, 64), batch=2), Phase(size=(64, 96))),
    init=Path("weights") / "first.pt",
    last=Phase(size=(1, 2)),
    classes={"left": 0.5},
)


def test_settings_survive_the_way_through_yaml():
    assert from_plain(Run, yaml.safe_load(yaml.safe_dump(to_plain(RUN)))) == RUN


@pytest.mark.parametrize("shape", ["round", Shape(name="kite", sides=4)])
def test_text_or_what_it_names_survives_the_way_through_yaml(shape):
    drawing = Drawing(shape=shape, other=shape)

    assert from_plain(Drawing, yaml.safe_load(yaml.safe_dump(to_plain(drawing)))) == drawing
    assert from_plain(Drawing, {"shape": shape, "other": None}) == Drawing(shape=shape)


def test_a_part_that_reads_itself_fills_in_what_is_absent_and_is_named_when_wrong():
    assert from_plain(Drawing, {"shape": {"name": "sail"}}) == Drawing(shape=Shape(name="sail", sides=3))
    with pytest.raises(ConfigError, match=r"settings\.shape: sides must be at least 3, got 2"):
        from_plain(Drawing, {"shape": {"name": "line", "sides": 2}})
    with pytest.raises(ConfigError, match=r"settings\.shape must be str, got 5"):
        from_plain(Drawing, {"shape": 5})


def test_what_is_absent_keeps_its_default():
    assert from_plain(Run, {"model": "tiny"}) == Run(model="tiny")


def test_plain_data_holds_nothing_that_only_python_knows():
    plain = to_plain(RUN)

    assert plain["phases"][0] == {"size": [32, 64], "batch": 2}
    assert plain["init"] == str(Path("weights") / "first.pt")
    assert "total" not in plain


@pytest.mark.parametrize("text", ["1e-3", "1E-3", "0.001", "1.0e-3"])
def test_a_number_may_be_written_with_an_exponent(text):
    assert override(RUN, [f"lr={text}"]).lr == 0.001


def test_a_whole_number_will_do_for_a_float_and_becomes_one():
    lr = from_plain(Run, {"model": "tiny", "lr": 1}).lr

    assert isinstance(lr, float)
    assert lr == 1


@pytest.mark.parametrize(
    ("assignment", "read"),
    [
        ("phases.1.batch=4", lambda run: run.phases[1].batch == 4),
        ("phases.0.size=[8, 16]", lambda run: run.phases[0].size == (8, 16)),
        ("phases.0.size.1=16", lambda run: run.phases[0].size == (32, 16)),
        ("model=a=b", lambda run: run.model == "a=b"),
        ("is_quick=true", lambda run: run.is_quick is True),
        ("limit=3", lambda run: run.limit == 3),
        ("init=null", lambda run: run.init is None),
        ("init=here.pt", lambda run: run.init == Path("here.pt")),
        ("last.batch=9", lambda run: run.last.batch == 9),
        ("classes.left=1", lambda run: run.classes == {"left": 1.0}),
        (" lr =2.5", lambda run: run.lr == 2.5),
    ],
)
def test_an_override_replaces_one_value(assignment, read):
    assert read(override(RUN, [assignment]))


def test_overrides_leave_the_given_settings_alone_and_the_last_one_wins():
    changed = override(RUN, ["phases.0.batch=4", "phases.0.batch=5"])

    assert changed.phases[0].batch == 5
    assert RUN.phases[0].batch == 2


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], r"settings must be a mapping, got \[\]"),
        ({}, "settings lacks model"),
        ({"model": "tiny", "ls": 1.0}, "unknown field of settings 'ls'"),
        ({"model": "tiny", 3: 1.0}, "unknown field of settings 3"),
        ({"model": 3}, "settings.model must be str, got 3"),
        ({"model": None}, "settings.model must be str, got None"),
        ({"model": "tiny", "lr": "fast"}, "settings.lr must be float, got 'fast'"),
        ({"model": "tiny", "lr": "nan"}, "settings.lr must be float, got 'nan'"),
        ({"model": "tiny", "lr": float("nan")}, "settings.lr must be a finite number, got nan"),
        ({"model": "tiny", "lr": "1e999"}, "settings.lr must be a finite number, got inf"),
        ({"model": "tiny", "lr": -(10**400)}, "settings.lr must be a finite number, got"),
        ({"model": "tiny", "lr": True}, "settings.lr must be float, got True"),
        ({"model": "tiny", "limit": 2.0}, "settings.limit must be int, got 2.0"),
        ({"model": "tiny", "limit": True}, "settings.limit must be int, got True"),
        ({"model": "tiny", "is_quick": 1}, "settings.is_quick must be bool, got 1"),
        ({"model": "tiny", "is_quick": "no"}, "settings.is_quick must be bool, got 'no'"),
        ({"model": "tiny", "init": 3}, "settings.init must be Path, got 3"),
        ({"model": "tiny", "phases": "all"}, "settings.phases must be a list, got 'all'"),
        ({"model": "tiny", "phases": [{"size": [1]}]}, r"settings.phases.0.size must have 2 entries, got 1"),
        ({"model": "tiny", "phases": [{"size": [1, "x"]}]}, r"settings.phases.0.size.1 must be int, got 'x'"),
        ({"model": "tiny", "phases": [3]}, r"settings.phases.0 must be a mapping, got 3"),
        ({"model": "tiny", "last": {"size": [1, 1], "batch": 0}}, "batch must be at least 1, got 0"),
        ({"model": "tiny", "classes": [1]}, r"settings.classes must be a mapping, got \[1\]"),
        ({"model": "tiny", "classes": {"left": "x"}}, "settings.classes.left must be float, got 'x'"),
        ({"model": "tiny", "total": 3}, "unknown field of settings 'total'"),
    ],
)
def test_wrong_settings_are_refused_by_name(data, message):
    with pytest.raises(ConfigError, match=message):
        from_plain(Run, data)


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("lr", "an override reads name=value, got 'lr'"),
        ("lrr=1", "unknown field in 'lrr=1' 'lrr'; did you mean lr"),
        ("=1", "unknown field in '=1' ''"),
        ("lr.x=1", "unknown field in 'lr.x=1' 'x'; known: none"),
        ("model.x=1", "unknown field in 'model.x=1' 'x'; known: none"),
        ("limit.x=1", "unknown field in 'limit.x=1' 'x'; known: none"),
        ("end.batch=3", "'end.batch=3' sets a part of what is not set; .* --set 'end={batch: 3}'"),
        ("phases.0.end.batch=3", "unknown field"),
        ("phases.2.batch=1", "unknown field in 'phases.2.batch=1' '2'; known: 0, 1"),
        ("phases.-1.batch=1", "unknown field in .* '-1'"),
        ("phases.².batch=1", "unknown field in .* '²'"),
        ("lr=[1", r"the value in 'lr=\[1' is no YAML"),
        ("lr=", "settings.lr must be float, got None"),
        ("phases.0.batch=0", "batch must be at least 1, got 0"),
    ],
)
def test_a_wrong_override_is_refused_by_name(assignment, message):
    with pytest.raises(ConfigError, match=message) as caught:
        override(RUN, [assignment])

    assert "\n" not in str(caught.value)


def test_a_misspelt_field_is_answered_with_the_closest():
    with pytest.raises(UnknownNameError, match="did you mean phases"):
        from_plain(Run, {"model": "tiny", "phase": []})
