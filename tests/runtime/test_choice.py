import json
import shutil

import pytest

from fleetpose.errors import CheckpointError, ConfigError, MissingExtraError, UnknownNameError
from fleetpose.runtime import choice
from fleetpose.runtime.choice import Engine, engines_for, interleaved_ms, model_files, open_session
from fleetpose.runtime.openvino_session import OpenVinoSession
from fleetpose.runtime.session import OnnxSession

needs_openvino = pytest.mark.skipif(
    not choice.is_installed("openvino"), reason="the extra fleetpose[openvino] is not installed"
)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """File of kept answers, in an empty folder."""
    monkeypatch.setenv("FLEETPOSE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "runtimes.json"


@pytest.fixture
def measured(monkeypatch):
    """Measurements that take no time: what they return is set by the test, and calls are counted."""
    calls = []

    def measure(sessions):
        calls.append(list(sessions))
        return {name: {"onnx": 10.0, "openvino": measure.openvino_ms}[name] for name in sessions}

    measure.openvino_ms = 5.0
    measure.calls = calls
    monkeypatch.setattr(choice, "measure_networks", measure)
    return measure


def test_a_pinned_runtime_is_taken(dots_model, cache):
    assert isinstance(open_session(dots_model, runtime="onnx"), OnnxSession)
    assert not cache.exists()


@needs_openvino
def test_openvino_can_be_pinned(dots_model):
    assert isinstance(open_session(dots_model, runtime="openvino", threads=1), OpenVinoSession)


@needs_openvino
def test_the_faster_runtime_is_taken_and_remembered(dots_model, cache, measured):
    first = open_session(dots_model, threads=1)
    again = open_session(dots_model, threads=1)

    assert isinstance(first, OpenVinoSession)
    assert isinstance(again, OpenVinoSession)
    assert measured.calls == [["onnx", "openvino"]]
    (answer,) = json.loads(cache.read_text()).values()
    assert answer == {"engine": "openvino", "median_ms": {"onnx": 10.0, "openvino": 5.0}}


@needs_openvino
def test_a_gain_within_the_noise_changes_nothing(dots_model, cache, measured):
    measured.openvino_ms = 9.9

    assert isinstance(open_session(dots_model, threads=1), OnnxSession)
    assert cache.exists()


@needs_openvino
@pytest.mark.usefixtures("cache")
def test_an_answer_holds_for_its_model_and_number_of_threads_only(dots_model, measured, tmp_path):
    other = tmp_path / "other.onnx"
    shutil.copy(dots_model, other)
    open_session(dots_model, threads=1)

    open_session(other, threads=1)  # the same content
    assert len(measured.calls) == 1
    open_session(dots_model, threads=2)
    assert len(measured.calls) == 2


@needs_openvino
@pytest.mark.parametrize("content", ["{", "[]", '{"x": 1}'])
def test_a_damaged_cache_is_measured_again(dots_model, cache, measured, content):
    cache.parent.mkdir()
    cache.write_text(content)

    open_session(dots_model, threads=1)

    assert len(measured.calls) == 1
    assert "openvino" in cache.read_text()


@needs_openvino
def test_a_cache_that_cannot_be_written_does_no_harm(dots_model, cache, measured, caplog):
    cache.parent.write_text("a file where the folder should be")

    assert isinstance(open_session(dots_model, threads=1), OpenVinoSession)
    assert len(measured.calls) == 1
    assert "runtimes will be measured again next time" in caplog.text


def test_one_installed_runtime_needs_no_measurement(dots_model, cache, measured, monkeypatch):
    monkeypatch.setattr(choice, "is_installed", lambda runtime: runtime == "onnx")

    assert isinstance(open_session(dots_model), OnnxSession)
    assert measured.calls == []
    assert not cache.exists()


@needs_openvino
def test_measuring_really_runs_both(dots_model, cache):
    open_session(dots_model, threads=1)

    (answer,) = json.loads(cache.read_text()).values()
    assert set(answer["median_ms"]) == {"onnx", "openvino"}
    assert min(answer["median_ms"].values()) > 0


def test_calls_take_turns():
    order = []

    interleaved_ms({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, rounds=3)

    assert "".join(order) == "ab" * 4


def test_measuring_ends_in_time_but_not_before_three_turns():
    order = []

    interleaved_ms({"a": lambda: order.append("a")}, rounds=100, most_s=0.0)

    assert len(order) == 1 + 3


def test_a_folder_gives_each_runtime_its_file(tmp_path):
    for name in ("model.onnx", "model.xml", "description.json"):
        (tmp_path / name).touch()

    assert model_files(tmp_path) == {"onnx": tmp_path / "model.onnx", "openvino": tmp_path / "model.xml"}


def test_ncnn_has_a_file_of_its_own(tmp_path):
    network = tmp_path / "model.ncnn.param"
    network.touch()

    assert model_files(tmp_path) == model_files(network) == {"ncnn": network}
    (tmp_path / "model.onnx").touch()
    assert model_files(tmp_path)["ncnn"] == network
    assert set(model_files(tmp_path)) == {"onnx", "openvino", "ncnn"}


def test_openvino_reads_the_onnx_file_where_there_is_no_other(tmp_path):
    (tmp_path / "model.onnx").touch()

    assert model_files(tmp_path)["openvino"] == tmp_path / "model.onnx"


def test_a_folder_without_a_model_or_with_two_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"holds no model: no file that ends in one of \.onnx, \.xml"):
        open_session(tmp_path)
    for name in ("a.onnx", "b.onnx"):
        (tmp_path / name).touch()
    with pytest.raises(CheckpointError, match=r"several models, a\.onnx and b\.onnx; name one"):
        open_session(tmp_path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"runtime": "onxx"}, "unknown runtime 'onxx'; did you mean onnx"),
        ({"precision": "int3"}, "unknown precision 'int3'"),
        ({"runtime": "torch"}, "a model file runs on onnx or openvino"),
        ({"runtime": "onnx", "precision": "bf16"}, "no bf16 arithmetic here; use runtime openvino"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(dots_model, settings, message):
    with pytest.raises(ConfigError, match=message) as caught:
        open_session(dots_model, **settings)

    assert "\n" not in str(caught.value)


def test_a_file_of_another_runtime_is_refused(tmp_path):
    (tmp_path / "model.xml").touch()

    with pytest.raises(ConfigError, match=r"model\.xml cannot run on onnx, only on openvino"):
        open_session(tmp_path / "model.xml", runtime="onnx")


def test_a_runtime_that_is_not_installed_is_told_with_the_line_that_installs_it(dots_model, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "openvino", None)

    with pytest.raises(MissingExtraError, match=r"pip install 'fleetpose\[openvino\]'"):
        open_session(dots_model, runtime="openvino")


def test_an_unknown_model_is_answered_as_ever():
    with pytest.raises(UnknownNameError, match="unknown model 'litepose-plane'"):
        open_session("litepose-plane")


@needs_openvino
def test_bf16_is_one_candidate_more_where_the_processor_has_it(dots_model, monkeypatch):
    files = model_files(dots_model)
    monkeypatch.setattr(choice, "_has_bf16", lambda: True)

    assert [engine.name for engine in engines_for(files, precision="bf16")] == [
        "onnx",
        "openvino",
        "openvino-bf16",
    ]
    assert engines_for(files, runtime="openvino", precision="bf16") == [Engine("openvino", "bf16")]
    monkeypatch.setattr(choice, "_has_bf16", lambda: False)
    assert len(engines_for(files, precision="bf16")) == 2
