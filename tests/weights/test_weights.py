import pytest

from fleetpose.errors import CheckpointError, UnknownNameError
from fleetpose.runtime.predictor import load
from fleetpose.runtime.session import read_description
from fleetpose.weights import (
    DEFAULT_MODEL,
    DEFAULT_REFINER,
    bundled_models,
    default_refiner,
    find_model,
)


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """Folder of bundled models with two of them."""
    for name in ("litepose-xs", "litepose-s"):
        (tmp_path / f"{name}.onnx").touch()
    monkeypatch.setattr("fleetpose.weights.FOLDER", tmp_path)
    return tmp_path


def test_bundled_models_go_by_their_files_names(shelf):
    assert bundled_models() == {
        "litepose-s": shelf / "litepose-s.onnx",
        "litepose-xs": shelf / "litepose-xs.onnx",
    }
    assert find_model("litepose-s") == shelf / "litepose-s.onnx"


def test_the_default_is_taken_where_none_is_named(shelf):
    (shelf / f"{DEFAULT_MODEL}.onnx").touch()

    assert find_model() == shelf / f"{DEFAULT_MODEL}.onnx"


def test_the_default_is_refined_where_the_second_model_is_bundled_too(shelf):
    assert default_refiner() is None

    (shelf / f"{DEFAULT_REFINER}.onnx").touch()

    assert default_refiner() == shelf / f"{DEFAULT_REFINER}.onnx"


@pytest.mark.usefixtures("shelf")
def test_an_unknown_name_is_answered_with_close_matches():
    with pytest.raises(UnknownNameError, match="unknown model 'litpose-s'; did you mean litepose-s"):
        find_model("litpose-s")


def test_a_path_is_taken_as_it_is(tmp_path):
    path = tmp_path / "mine.onnx"
    path.touch()

    assert find_model(path) == path
    assert find_model(str(path)) == path


@pytest.mark.parametrize("kind", [str, "path"])
def test_a_path_that_leads_nowhere_is_named(tmp_path, kind):
    path = tmp_path / "mine.onnx"

    with pytest.raises(CheckpointError, match=r"mine\.onnx: no such file"):
        find_model(path if kind == "path" else str(path))


def test_an_installation_without_models_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr("fleetpose.weights.FOLDER", tmp_path)

    with pytest.raises(CheckpointError, match=r"bundles none; give the path of an \.onnx file"):
        find_model()


@pytest.mark.parametrize(
    "name", list(bundled_models()) or [pytest.param("", marks=pytest.mark.skip("none yet"))]
)
def test_each_bundled_model_describes_itself_and_is_small(name):
    path = bundled_models()[name]

    description = read_description(path)

    assert description.name == name
    assert description.card.licence
    assert description.card.data
    assert description.card.metrics
    assert path.stat().st_size <= 12e6
    assert load(name).skeleton == description.skeleton
