"""Tuning for 8 bits, on networks that are hard on them."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from fleetpose.codecs.fields import Field, FieldKind
from fleetpose.compress.quantise import Quantiser
from fleetpose.compress.tuning import tune_for_int8
from fleetpose.errors import ConfigError
from fleetpose.export.onnx_file import traced
from fleetpose.models.contract import PoseNetwork

pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime.quantization")


class Hard(PoseNetwork):
    """One channel between the convolutions is so large that 8 bits leave little for the others."""

    size_multiple = 4

    def __init__(self):
        super().__init__()
        self.fields = (Field(FieldKind.HEATMAPS, 4, stride=1),)
        self.input_size = (16, 16)
        self.first = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.second = nn.Conv2d(8, 8, 3, padding=1)
        self.last = nn.Conv2d(8, 4, 1)
        with torch.no_grad():
            self.first.weight[0] *= 40
            self.second.weight[:, 0] /= 40

    def forward(self, images):
        maps = torch.relu(self.norm(self.first(images)))
        return self.named(self.last(torch.relu(self.second(maps))))


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return Hard().eval()


@pytest.fixture(scope="module")
def inputs():
    return [np.random.default_rng(n).standard_normal((1, 3, 16, 16)).astype(np.float32) for n in range(6)]


@pytest.fixture(scope="module")
def tuned(network, inputs):
    return tune_for_int8(network, inputs, steps=600, learning_rate=1e-3)


@pytest.fixture(scope="module")
def error_of_int8(network, tuned, inputs):
    """Function that tells the error of the written 8-bit model, tuned or not, against the floats."""
    import onnxruntime

    sessions = {
        name: onnxruntime.InferenceSession(
            Quantiser(traced(one), inputs).quantised().SerializeToString(), providers=["CPUExecutionProvider"]
        )
        for name, one in (("plain", network), ("tuned", tuned.network))
    }

    def error(name, images):
        shares = []
        for image in images:
            with torch.inference_mode():
                expected = network(torch.from_numpy(image))["heatmaps_s1"].numpy()
            got = sessions[name].run(None, {"image": image})[0]
            shares.append(np.mean((got - expected) ** 2) / expected.var(axis=(2, 3)).mean())
        return float(np.sqrt(np.mean(shares)))

    return error


def test_tuning_lowers_the_error(tuned):
    assert 0 < tuned.error_after < 0.7 * tuned.error_before


@pytest.mark.slow
def test_a_tuned_network_errs_less_in_8_bits_than_one_that_is_only_quantised(error_of_int8, inputs, tuned):
    before, after = error_of_int8("plain", inputs), error_of_int8("tuned", inputs)

    assert after < 0.7 * before
    # What tuning saw is what the written model does.
    assert tuned.error_before == pytest.approx(before, rel=0.3)
    assert tuned.error_after == pytest.approx(after, rel=0.3)


def test_a_tuned_network_is_a_plain_one_and_the_original_stays(network, tuned):
    assert tuned.network.state_dict().keys() == network.state_dict().keys()
    assert not tuned.network.first._forward_pre_hooks
    torch.manual_seed(0)
    for key, values in Hard().state_dict().items():
        torch.testing.assert_close(network.state_dict()[key], values, rtol=0, atol=0)
    # Statistics of a normalisation are those of real training, of which a few pictures know nothing.
    torch.testing.assert_close(tuned.network.norm.running_mean, network.norm.running_mean)
    assert not tuned.network.training


@pytest.mark.slow
def test_pictures_that_were_not_learnt_from_gain_too(error_of_int8):
    others = [
        np.random.default_rng(n).standard_normal((1, 3, 16, 24)).astype(np.float32) for n in range(20, 26)
    ]

    assert error_of_int8("tuned", others) < 0.8 * error_of_int8("plain", others)


def test_what_tuning_spoils_is_not_taken(network, inputs):
    spoilt = tune_for_int8(network, inputs, steps=3, learning_rate=10.0)

    assert spoilt.error_after == spoilt.error_before
    for key, values in network.state_dict().items():
        torch.testing.assert_close(spoilt.network.state_dict()[key], values, rtol=0, atol=0)


def test_the_same_seed_gives_the_same_network(network, inputs):
    first, second = (tune_for_int8(copy.deepcopy(network), inputs, steps=4, seed=1) for _ in range(2))

    torch.testing.assert_close(first.network.second.weight, second.network.second.weight, rtol=0, atol=0)


@pytest.mark.parametrize(("count", "steps"), [(0, 5), (2, 0)])
def test_tuning_needs_pictures_and_steps(network, inputs, count, steps):
    with pytest.raises(ConfigError, match=f"at least one step, got {count} and {steps}"):
        tune_for_int8(network, inputs[:count], steps=steps)
