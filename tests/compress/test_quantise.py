import numpy as np
import pytest

from fleetpose.compress.quantise import Quantiser, as_inputs, pictures_in
from fleetpose.errors import ConfigError
from fleetpose.media.images import write_image

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime.quantization")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402 - after the checks above


def _drawn(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


@pytest.fixture(scope="module")
def model():
    """Three convolutions, of which the second is hard on 8 bits, and a large ramp behind the last one."""
    first, second = 0.3 * _drawn(8, 3, 3, 3), 0.3 * _drawn(8, 8, 1, 1)
    # The second one's other inputs drown in one that is large and hardly counts.
    first[0] *= 400
    second[:, 0] /= 400
    weights = {
        "w1": first,
        "w2": second,
        "w3": 0.3 * _drawn(4, 8, 3, 3),
        "ramp": np.linspace(0, 1000, 4, dtype=np.float32).reshape(1, 4, 1, 1),
    }
    conv = {"pads": [1, 1, 1, 1]}
    nodes = [
        helper.make_node("Conv", ["image", "w1"], ["c1"], **conv),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", "w2"], ["c2"]),
        helper.make_node("Add", ["c2", "c2"], ["s2"]),
        helper.make_node("Relu", ["s2"], ["r2"]),
        helper.make_node("Conv", ["r2", "w3"], ["maps"], **conv),
        helper.make_node("Add", ["maps", "ramp"], ["tags"]),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, "h", "w"])],
        [helper.make_tensor_value_info("tags", TensorProto.FLOAT, [1, 4, "h", "w"])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    helper.set_model_props(made, {"fleetpose": "about"})
    return made


@pytest.fixture(scope="module")
def inputs():
    return [_drawn(1, 3, 16, 24, seed=n) for n in range(5)]


@pytest.fixture(scope="module")
def quantiser(model, inputs):
    return Quantiser(model, inputs)


def _maps(model, image):
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"image": image})[0]


def _int8_weights(model):
    return [
        one for one in model.graph.initializer if one.data_type == TensorProto.INT8 and len(one.dims) == 4
    ]


def test_all_convolutions_become_8_bits_and_keep_the_description(quantiser, model, inputs):
    quantised = quantiser.quantised()

    assert len(_int8_weights(quantised)) == 3
    assert [(one.key, one.value) for one in quantised.metadata_props] == [("fleetpose", "about")]
    difference = _maps(quantised, inputs[0]) - _maps(model, inputs[0])
    assert np.abs(difference).max() > 0
    assert np.sqrt(np.mean(difference**2)) < 0.2 * (_maps(model, inputs[0]) - 500).std()


def test_what_shapes_the_output_stays_in_floats(quantiser):
    quantised = quantiser.quantised()

    last = next(node for node in quantised.graph.node if "tags" in node.output)
    assert last.op_type == "Add"


def test_only_the_layers_asked_for_are_quantised(quantiser):
    first, _, third = quantiser.layers

    assert len(_int8_weights(quantiser.quantised(layers=[first]))) == 1
    assert len(_int8_weights(quantiser.quantised(layers=[first, third]))) == 2
    with pytest.raises(ConfigError, match="no convolution 'Conv_99'"):
        quantiser.quantised(layers=["Conv_99"])


def test_layers_that_suffer_are_named_first(quantiser):
    harms = quantiser.harms()

    # The large map is the first one's output and the second one's input.
    assert {harm.name for harm in harms[:2]} == set(quantiser.layers[:2])
    assert harms[1].error > 2 * harms[2].error > 0
    assert [harm.weights for harm in harms if harm.name == quantiser.layers[0]] == [8 * 3 * 9]


def test_weights_stored_as_halves_are_quantised_too(model, inputs):
    from fleetpose.export.rewrite import halve_weights

    halved = type(model).FromString(model.SerializeToString())
    halve_weights(halved)

    assert len(_int8_weights(Quantiser(halved, inputs).quantised())) == 3


def test_weights_that_were_packed_are_quantised_too_with_the_same_result(model, inputs):
    from fleetpose.export.packing import pack_float_weights

    packed = type(model).FromString(model.SerializeToString())
    assert pack_float_weights(packed, from_elements=1) == 3

    quantised = Quantiser(packed, inputs).quantised()

    assert len(_int8_weights(quantised)) == 3
    assert {node.op_type for node in quantised.graph.node}.isdisjoint({"Mul", "Cast"})


def test_an_int8_file_takes_a_quarter_of_the_room_although_transposed_convolutions_stay_floats():
    weights = {"w1": 0.1 * _drawn(64, 3, 3, 3), "w2": 0.1 * _drawn(64, 64, 4, 4), "w3": _drawn(64, 64, 3, 3)}
    nodes = [
        helper.make_node("Conv", ["image", "w1"], ["c1"], pads=[1] * 4),
        helper.make_node("ConvTranspose", ["c1", "w2"], ["c2"], strides=[2, 2], pads=[1] * 4),
        helper.make_node("Conv", ["c2", "w3"], ["maps"], pads=[1] * 4),
    ]
    graph = helper.make_graph(
        nodes,
        "deconv",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, "h", "w"])],
        [helper.make_tensor_value_info("maps", TensorProto.FLOAT, [1, 64, "H", "W"])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    images = [_drawn(1, 3, 8, 8, seed=n) for n in range(3)]

    quantised = Quantiser(made, images).quantised()

    assert len(quantised.SerializeToString()) < 0.27 * len(made.SerializeToString())
    expected = _maps(made, images[0])
    assert np.abs(_maps(quantised, images[0]) - expected).mean() < 0.03 * expected.std()


def test_top_down_networks_are_calibrated_on_the_labelled_people(
    tmp_path, crop_dots_model, draw_dots, stick_person
):
    from fleetpose.runtime.cascade import BoxTable
    from fleetpose.runtime.session import OnnxSession

    for name in ("labelled", "other"):
        write_image(tmp_path / f"{name}.png", draw_dots([stick_person]))
    boxes = BoxTable({"labelled.png": [[10, 0, 110, 210], [0, 0, 50, 50]]}, source="labels")
    network = OnnxSession(crop_dots_model, threads=1)

    inputs = as_inputs([tmp_path / "labelled.png", tmp_path / "other.png"], network, boxes=boxes)

    assert len(inputs) == 3
    assert np.abs(inputs[0] - inputs[1]).max() > 0.1


def test_calibration_needs_pictures(model, tmp_path):
    with pytest.raises(ConfigError, match="at least one picture"):
        Quantiser(model, [])
    with pytest.raises(ConfigError, match=r"calibration needs a folder of pictures, but .* holds none"):
        pictures_in(tmp_path, limit=4, what="calibration")
    with pytest.raises(ConfigError, match="there is no folder"):
        pictures_in(tmp_path / "gone", limit=4, what="calibration")


def test_of_many_pictures_some_are_picked_evenly(tmp_path):
    for number in range(10):
        (tmp_path / f"{number}.jpg").touch()
    (tmp_path / "notes.txt").touch()

    names = [path.stem for path in pictures_in(tmp_path, limit=4, what="calibration")]

    assert names == ["0", "3", "6", "9"]
    assert len(pictures_in(tmp_path, limit=40, what="calibration")) == 10


def test_pictures_become_what_the_predictor_feeds_the_network(
    tmp_path, fake_description, draw_dots, stick_person
):
    image = draw_dots([stick_person], size=(240, 300))
    write_image(tmp_path / "a.png", image)
    seen = []

    class Network:
        description = fake_description

        def run(self, image):
            seen.append(image)
            return {
                field.name: np.zeros((17, image.shape[2] // field.stride, image.shape[3] // field.stride))
                for field in fake_description.fields
            }

    from fleetpose.runtime.predictor import Predictor

    Predictor(Network())(image)
    (heard,) = as_inputs([tmp_path / "a.png"], Network())

    np.testing.assert_array_equal(heard, seen[0])
