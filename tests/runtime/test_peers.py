import sys

import numpy as np
import pytest

from fleetpose.errors import CheckpointError, ConfigError, MissingExtraError, UnknownNameError
from fleetpose.media.images import read_image
from fleetpose.runtime.benchmark import peer_candidates
from fleetpose.runtime.peers import PEERS, Peer, efficientpose_keypoints, movenet_keypoints
from fleetpose.skeletons import COCO


def test_movenet_gives_shares_of_the_square_edge_to_edge():
    output = np.zeros((1, 1, 17, 3), np.float32)
    output[0, 0, 0] = 0.5, 0.25, 0.9  # (y, x, score) of the nose

    keypoints = movenet_keypoints([output], 192)

    # A quarter of 192 pixels is the edge between pixels 47 and 48.
    np.testing.assert_allclose(keypoints[0], [47.5, 95.5, 0.9], atol=1e-5)


def test_efficientpose_gives_peaks_of_the_largest_output_in_cells():
    maps, small = np.zeros((1, 56, 56, 16), np.float32), np.ones((1, 28, 28, 16), np.float32)
    maps[0, 10, 20, 2] = 1.0

    keypoints = efficientpose_keypoints([small, maps], 224)

    x, y, score = keypoints[COCO.index("right_shoulder")]
    assert (x, y) == (20.5 * 4 - 0.5, 10.5 * 4 - 0.5)
    assert score > 0
    assert keypoints[COCO.index("nose"), 2] == 0


def test_peers_are_given_by_kind_and_file():
    (candidate,) = peer_candidates(["movenet=some/lightning.tflite"])

    assert (candidate.peer, candidate.model) == ("movenet", "some/lightning.tflite")
    assert candidate.label == "lightning litert"
    with pytest.raises(ConfigError, match=r"KIND=FILE, such as movenet=lightning\.tflite, got 'movenet'"):
        peer_candidates(["movenet"])
    with pytest.raises(UnknownNameError, match="unknown peer 'movnet'; did you mean movenet"):
        peer_candidates(["movnet=a.tflite"])


def test_a_missing_file_and_a_missing_package_are_told(tmp_path, monkeypatch):
    with pytest.raises(CheckpointError, match="no such file"):
        Peer("movenet", tmp_path / "gone.tflite")

    (tmp_path / "there.tflite").touch()
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)  # it may have been imported before
    with pytest.raises(MissingExtraError, match=r"fleetpose\[peers\]"):
        Peer("movenet", tmp_path / "there.tflite")


def test_a_file_that_is_no_network_is_refused_in_one_line(tmp_path):
    pytest.importorskip("ai_edge_litert")
    (tmp_path / "text.tflite").write_text("hello")

    with pytest.raises(CheckpointError, match=r"cannot read the peer .*text\.tflite") as caught:
        Peer("movenet", tmp_path / "text.tflite")

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "name"),
    [("movenet", "movenet_singlepose_lightning_int8_4.tflite"), ("efficientpose", "EfficientPoseRT.tflite")],
)
def test_published_networks_find_the_person_of_the_demo(shared, kind, name):
    pytest.importorskip("ai_edge_litert")
    from fleetpose.cli.demo import PICTURE

    image = read_image(PICTURE)
    result = Peer(kind, shared / "peers" / name, threads=1).find(image)

    assert kind in PEERS
    assert len(result) == 1
    h, w = image.shape[:2]
    shoulders = result.keypoints[0, [COCO.index("left_shoulder"), COCO.index("right_shoulder")]]
    assert (shoulders[:, 2] > 0).all()
    assert (shoulders[:, :2] > -0.5).all()
    assert (shoulders[:, :2] < [w, h]).all()
    assert {"resize", "network", "grouping"} == result.timings_ms.keys()
