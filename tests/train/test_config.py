import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from fleetpose.data.scenes import SceneSettings, Source
from fleetpose.errors import ConfigError, UnknownNameError
from fleetpose.recipes.first_weights import recipe
from fleetpose.settings import from_plain, override, to_plain
from fleetpose.train.config import (
    LossSettings,
    OptimiserSettings,
    Phase,
    TeacherSettings,
    TrainConfig,
    ValidationSet,
    changed_settings,
    read_config,
)

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture
def plan():
    """Settings with something in every field."""
    return replace(
        recipe(Path("data")),
        init=Path("earlier/last.pt"),
        sources=(Source(images=Path("a b/images"), weight=0.25), Source(images=Path("c"), held_out_every=7)),
        phases=(
            Phase(size=(64, 96), batch=3, steps=5, scenes=SceneSettings(tiles=(0.1, 0.2, 0.7), shift=0.3)),
        ),
        loss=LossSettings(sigma_cells=(1.0, 2.5)),
        optimiser=OptimiserSettings(lr=2e-3),
        short_side=256,
        seed=4,
    )


def test_settings_written_as_yaml_come_back_as_they_were(plan, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(to_plain(plan), sort_keys=False))

    assert read_config(path) == plan


def test_the_recipe_comes_back_too(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(to_plain(recipe(Path("data")))))

    assert read_config(path) == recipe(Path("data"))


def test_the_settings_in_the_documentation_are_valid():
    (block,) = (text for text in _blocks("training.md", "yaml") if "phases" in text)

    settings = from_plain(TrainConfig, yaml.safe_load(block))

    assert settings.sources[1].is_single_person
    assert settings.total_steps == 6000


def _blocks(name, language):
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / name).read_text(encoding="utf-8"), flags=re.DOTALL)


def test_a_misspelt_setting_is_refused_with_a_suggestion(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("{model: x, sources: [], phases: [], optimizer: {}}")

    with pytest.raises(UnknownNameError, match="optimiser"):
        read_config(path)


@pytest.mark.parametrize("content", [None, "a: [", "42"])
def test_a_file_that_holds_no_settings_is_refused_in_one_line(tmp_path, content):
    path = tmp_path / "config.yaml"
    if content is not None:
        path.write_text(content)

    with pytest.raises(ConfigError, match=r"config\.yaml") as caught:
        read_config(path)

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Phase(size=(0, 64), batch=1, steps=1), r"at least 1, got size \(0, 64\)"),
        (lambda: Phase(size=(64, 64), batch=0, steps=1), "at least 1"),
        (lambda: Phase(size=(64, 64), batch=1, steps=0), "at least 1"),
        (lambda: OptimiserSettings(lr=0), r"optimiser\.lr must be above 0 and finite, got 0"),
        (lambda: OptimiserSettings(warmup_steps=-1), r"optimiser\.warmup_steps must be at least 0"),
        (lambda: OptimiserSettings(weight_decay=-1), r"optimiser\.weight_decay must be at least 0"),
        (lambda: OptimiserSettings(clip_norm=-1), r"optimiser\.clip_norm must be at least 0"),
        (lambda: OptimiserSettings(ema_decay=1), r"optimiser\.ema_decay must be from 0 to below 1"),
        (lambda: OptimiserSettings(lr=math.inf), r"optimiser\.lr must be above 0 and finite, got inf"),
        (lambda: OptimiserSettings(lr=math.nan), r"optimiser\.lr must be above 0 and finite, got nan"),
        (lambda: OptimiserSettings(weight_decay=math.inf), r"optimiser\.weight_decay must be .*finite"),
        (lambda: OptimiserSettings(clip_norm=math.nan), r"optimiser\.clip_norm must be .*finite"),
        (lambda: LossSettings(tags=-1), r"loss\.tags must be at least 0 and finite, got -1"),
        (lambda: LossSettings(foreground=math.inf), r"loss\.foreground must be .*finite, got inf"),
        (lambda: LossSettings(classes=math.nan), r"loss\.classes must be .*finite, got nan"),
        (lambda: LossSettings(sigma_px=math.inf), r"loss\.sigma_px must be .*finite, got inf"),
        (lambda: LossSettings(sigma_cells=(2.0, math.nan)), r"loss\.sigma_cells must be .*finite"),
        (lambda: LossSettings(heatmaps=(1.0, math.inf)), r"loss\.heatmaps must be .*finite"),
        (lambda: LossSettings(sigma_cells=(2.0, 0.0)), r"loss\.sigma_cells must be above 0"),
        (lambda: LossSettings(heatmaps=(1.0, -1.0)), r"loss\.heatmaps must be at least 0"),
        (lambda: LossSettings(heatmaps=(0.0, 0.0)), r"loss\.heatmaps must be above 0"),
        (lambda: TrainConfig(model="x", sources=(), phases=()), "a run needs at least one phase"),
    ],
)
def test_settings_that_make_no_sense_are_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


@pytest.mark.parametrize(
    "name",
    ["seed=-1", "threads=-1", "workers=-1", "cache_mb=-1", "log_every_steps=0", "checkpoint_every_s=-1"],
)
def test_counts_cannot_be_negative(plan, name):
    with pytest.raises(ConfigError, match=name.partition("=")[0]):
        override(plan, [name])


@pytest.mark.parametrize("name", ["seed=9223372036854775808", "threads=1025"])
def test_counts_that_no_machine_holds_are_refused(plan, name):
    with pytest.raises(ConfigError, match=f"^{name.partition('=')[0]} must be from 0 to"):
        override(plan, [name])


def test_changes_are_named_with_both_values(plan):
    after = override(plan, ["optimiser.lr=0.5", "phases.0.scenes.zoom=[1, 2]"])

    changes = changed_settings(to_plain(plan), after)

    assert changes == {
        "optimiser.lr": (2e-3, 0.5),
        "phases.0.scenes.zoom.0": (0.75, 1.0),
        "phases.0.scenes.zoom.1": (1.6, 2.0),
    }


def test_settings_that_an_earlier_version_did_not_know_have_not_changed(plan):
    before = to_plain(plan)
    del before["short_side"]

    assert changed_settings(before, plan) == {}


def test_settings_that_this_version_does_not_know_are_told(plan):
    before = to_plain(plan) | {"magic": 3}

    assert changed_settings(before, plan) == {"magic": (3, None)}


def test_a_precision_that_does_not_exist_is_refused_with_the_closest(plan):
    with pytest.raises(ConfigError, match=r"precision.*bf16.*did you mean.*bf16-mixed"):
        override(plan, ["precision=bf16-mixd"])


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"weight": 0.0}, "teacher.weight or teacher.location must be above 0"),
        ({"weight": -1.0, "location": 1.0}, "teacher.weight and teacher.location must be at least 0"),
        ({"labels": -0.5}, "teacher.labels must be at least 0"),
        ({"labels": math.inf}, "teacher.labels must be at least 0 and finite, got inf"),
        ({"size": (-32, 32)}, "teacher.size must be at least 1 x 1, got"),
        ({"location": math.nan}, "teacher.weight and teacher.location must be at least 0 and finite"),
    ],
)
def test_a_teacher_that_teaches_nothing_is_refused(settings, name):
    with pytest.raises(ConfigError, match=name):
        TeacherSettings(Path("teacher.pt"), **settings)


def test_a_teacher_may_teach_places_alone():
    assert TeacherSettings(Path("teacher.pt"), weight=0.0, location=1.0).location == 1


@pytest.mark.parametrize("every", [0, -3])
def test_a_validation_set_takes_a_positive_every(every):
    with pytest.raises(ConfigError, match=f"^every of validation set mine must be at least 1, got {every}$"):
        ValidationSet(name="mine", annotations=Path("a.json"), images=Path("images"), every=every)


@pytest.mark.parametrize(
    ("name", "value", "least"), [("short_side", 0, 1), ("short_side", -64, 1), ("validate_every_s", -1.0, 0)]
)
def test_settings_of_validation_are_checked_at_once(plan, name, value, least):
    with pytest.raises(ConfigError, match=f"^{name} must be at least {least}, got {value}$"):
        replace(plan, **{name: value})
