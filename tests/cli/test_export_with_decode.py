"""`fleetpose export --with-decode`: only candidates leave the network, and the people stay the same."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")

from fleetpose.models import build  # noqa: E402 - after the skips
from fleetpose.recipes.converted import describe_converted  # noqa: E402 - same
from fleetpose.runtime.predictor import Predictor, load  # noqa: E402 - same
from fleetpose.runtime.session import OnnxSession  # noqa: E402 - same
from fleetpose.runtime.torch_session import TorchSession  # noqa: E402 - same
from fleetpose.train.checkpoint import save_checkpoint  # noqa: E402 - same


@pytest.fixture
def network(two_convolutions):
    """A network that is known by name."""
    torch.manual_seed(0)
    return build(two_convolutions, num_keypoints=17).eval()


def test_the_file_gives_candidates_and_finds_the_people_of_the_networks_maps(
    fleetpose_here, tmp_path, network
):
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    checkpoint = {"model": "two-convolutions", "num_keypoints": 17, "ema": network.state_dict()}
    save_checkpoint(tmp_path / "pose.pt", checkpoint)

    code, out, err = fleetpose_here("export", "pose.pt", "pose.onnx", "--with-decode")

    assert (code, err) == (0, "")
    assert "pose.onnx" in out
    session = OnnxSession(tmp_path / "pose.onnx", threads=1)
    outputs = session.run(np.zeros((1, 3, 32, 48), np.float32))
    assert outputs.keys() == {"candidate_cells", "candidate_heights", "candidate_tags", "grid_size"}
    found = load(tmp_path / "pose.onnx", threshold=0.0, threads=1)(image)
    description = describe_converted(network, "two-convolutions", 17, name="pose")
    expected = Predictor(TorchSession(network, description), threshold=0.0)(image)
    assert len(expected) > 0
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)
    np.testing.assert_allclose(found.keypoints, expected.keypoints, atol=1e-2)


def test_a_file_that_cannot_be_packed_is_not_left_behind_unpacked(fleetpose_here, tmp_path, network):
    checkpoint = {"model": "two-convolutions", "num_keypoints": 17, "ema": network.state_dict()}
    save_checkpoint(tmp_path / "pose.pt", checkpoint)

    code, out, err = fleetpose_here("export", "pose.pt", "pose.onnx", "--packed-weights")

    assert (code, out) == (2, "")
    assert "no convolution of pose.onnx has 100000 float32 weights to be packed" in err
    assert [path.name for path in tmp_path.iterdir()] == ["pose.pt"]


def test_a_refused_export_leaves_an_earlier_file_as_it_was(fleetpose_here, tmp_path, network):
    checkpoint = {"model": "two-convolutions", "num_keypoints": 17, "ema": network.state_dict()}
    save_checkpoint(tmp_path / "pose.pt", checkpoint)
    (tmp_path / "pose.onnx").write_bytes(b"earlier")

    assert fleetpose_here("export", "pose.pt", "pose.onnx", "--packed-weights")[0] == 2

    assert (tmp_path / "pose.onnx").read_bytes() == b"earlier"


@pytest.mark.parametrize(
    "options",
    [
        ("--precision", "fp16"),
        ("--calibration", "photos"),
        ("--pictures", "photos"),
        ("--labels", "labels.json"),
        ("--max-drop", "2"),
        ("--number", "5"),
        ("--tune", "3"),
        ("--nncf",),
    ],
)
def test_options_of_a_proof_are_refused_for_a_single_file(fleetpose_here, tmp_path, network, options):
    checkpoint = {"model": "two-convolutions", "num_keypoints": 17, "ema": network.state_dict()}
    save_checkpoint(tmp_path / "pose.pt", checkpoint)

    code, out, err = fleetpose_here("export", "pose.pt", "pose.onnx", *options)

    assert (code, out) == (2, "")
    assert f"{options[0]} would change nothing in a single file" in err
    assert "add --to onnx" in err
    assert not (tmp_path / "pose.onnx").exists()
