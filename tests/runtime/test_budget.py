from dataclasses import replace

import pytest

import fleetpose
from fleetpose.errors import ConfigError
from fleetpose.runtime import budget
from fleetpose.runtime.budget import choose
from fleetpose.weights import DEFAULT_MODEL, DEFAULT_REFINER

onnx = pytest.importorskip("onnx")


@pytest.fixture
def shelf(tmp_path, monkeypatch, dots_model, fake_description):
    """Two bundled models; the slow one's card is better."""
    monkeypatch.setenv("FLEETPOSE_CACHE", str(tmp_path / "cache"))
    paths = {}
    for name, accuracy in (("quick", 20.0), ("slow", 40.0)):
        model = onnx.load(str(dots_model))
        card = replace(fake_description.card, metrics={"coco_dev/AP": accuracy, "lspet/PCK": 90.0})
        onnx.helper.set_model_props(
            model, {"fleetpose": replace(fake_description, name=name, card=card).to_json()}
        )
        paths[name] = tmp_path / f"{name}.onnx"
        onnx.save(model, str(paths[name]))
    monkeypatch.setattr(budget, "bundled_models", lambda: paths)
    return paths


@pytest.fixture
def times(monkeypatch):
    """Made-up times: the slow model takes 20 ms at its own 256 pixels, the quick one 5; a quarter at half."""
    asked = []

    def find_ms(one, *_):
        asked.append((one.model.stem, one.short_side))
        sides = one.short_side if isinstance(one.short_side, tuple) else (one.short_side or 256,)
        alone = {"slow": 20.0, "quick": 5.0}.get(one.model.stem, 8.0)
        return alone * sum((side / 256) ** 2 for side in sides) + (10.0 if one.refine else 0.0)

    monkeypatch.setattr(budget, "_find_ms", find_ms)
    return asked


@pytest.mark.parametrize(
    ("max_ms", "name", "short_side"),
    [
        (30.0, "slow", None),
        (20.0, "slow", None),
        (19.0, "quick", None),  # a model at its own size rather than a better one at less
        (4.5, "quick", 192),
        (1.5, "quick", 128),
    ],
)
@pytest.mark.usefixtures("times")
def test_the_most_accurate_that_fits_is_taken(shelf, max_ms, name, short_side):
    chosen = choose(max_ms)

    assert (chosen.model, chosen.short_side) == (shelf[name], short_side)
    assert chosen.find_ms <= max_ms


@pytest.mark.usefixtures("times")
def test_a_named_model_is_fitted_by_its_size(shelf):
    assert choose(12.0, model=shelf["slow"]).short_side == 192


@pytest.fixture
def pair(shelf, crop_dots_model):
    """Both default models are bundled too."""
    shelf[DEFAULT_MODEL] = shelf["slow"].rename(shelf["slow"].with_stem(DEFAULT_MODEL))
    shelf["slow"] = shelf[DEFAULT_MODEL]
    shelf[DEFAULT_REFINER] = crop_dots_model
    return shelf


@pytest.mark.parametrize(
    ("max_ms", "name", "short_side", "is_refined"),
    [
        (50.0, DEFAULT_MODEL, (96, 160, 256, 416), True),
        (25.0, DEFAULT_MODEL, (64, 128, 256), True),
        (15.0, DEFAULT_MODEL, (128,), True),
        (9.0, DEFAULT_MODEL, None, False),
        (7.0, "quick", None, False),
    ],
)
@pytest.mark.usefixtures("times")
def test_both_default_models_come_first_in_as_many_sizes_as_fit(pair, max_ms, name, short_side, is_refined):
    chosen = choose(max_ms)

    assert (chosen.model, chosen.short_side) == (pair[name], short_side)
    assert chosen.refine == (pair[DEFAULT_REFINER] if is_refined else None)


@pytest.mark.usefixtures("times")
def test_a_model_is_fitted_together_with_what_refines_its_people(pair):
    chosen = choose(12.0, model=pair["quick"], refine=pair[DEFAULT_REFINER])

    assert (chosen.model, chosen.short_side) == (pair["quick"], 128)
    assert chosen.refine == pair[DEFAULT_REFINER]


@pytest.mark.usefixtures("pair")
def test_what_is_chosen_together_is_loaded_together():
    predictor = fleetpose.load(max_ms=60_000.0, runtime="onnx", threads=1)

    assert " + " in predictor.name


@pytest.mark.usefixtures("shelf", "times")
def test_nothing_that_fits_is_told_with_the_fastest():
    with pytest.raises(ConfigError, match=r"within 1 ms on this machine; the fastest takes 1\.2 ms"):
        choose(1.0)


@pytest.mark.usefixtures("shelf")
def test_what_was_measured_is_not_measured_again(times):
    choose(19.0)
    assert times == [("slow", None), ("quick", None)]

    choose(19.0)
    assert len(times) == 2
    choose(19.0, threads=1)  # another setting
    assert len(times) == 4


@pytest.mark.usefixtures("shelf")
def test_no_time_at_all_is_refused():
    with pytest.raises(ConfigError, match="max_ms must be more than 0, got 0"):
        choose(0.0)


def test_no_model_at_all_is_told(monkeypatch):
    monkeypatch.setattr(budget, "bundled_models", dict)

    with pytest.raises(ConfigError, match="no model is bundled"):
        choose(10.0)


@pytest.mark.usefixtures("shelf")
def test_loading_within_a_budget_really_measures():
    predictor = fleetpose.load(max_ms=60_000.0, runtime="onnx", threads=1)

    assert predictor.description.name == "slow"


def test_a_size_and_a_budget_exclude_each_other(dots_model):
    with pytest.raises(ConfigError, match="short_side and max_ms both"):
        fleetpose.load(dots_model, max_ms=10.0, short_side=128)
