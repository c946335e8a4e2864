"""The decoder that lies beside every artefact gives the people that the package's own decoder gives."""

import json
import subprocess
import sys

import numpy as np
import pytest

from fleetpose.codecs.associative_embedding import AssociativeEmbeddingCodec
from fleetpose.codecs.fields import associative_embedding_fields
from fleetpose.codecs.grouping import GroupingSettings
from fleetpose.export import numpy_decoder
from fleetpose.export.artefact import DECODERS

SIZE = (160, 192)


def _codec(**grouping):
    return AssociativeEmbeddingCodec(
        fields=associative_embedding_fields(17), grouping=GroupingSettings(**grouping)
    )


def _about(codec):
    return {"fields": [field.to_dict() for field in codec.fields], "codec": codec.settings()}


def _maps(seed, people, *, missing=0.2, noise=0.02, tag_noise=0.2):
    """Maps as a trained network gives them: blurred people, tags that differ, noise on all."""
    rng = np.random.default_rng(seed)
    codec = _codec()
    keypoints = np.concatenate(
        [rng.uniform(0, [SIZE[1], SIZE[0]], (people, 17, 2)), np.full((people, 17, 1), 2.0)], axis=-1
    )
    keypoints[..., 2] *= rng.random((people, 17)) > missing
    maps = codec.encode(keypoints, size=SIZE)
    cells = maps.pop("tag_cells")
    h, w = SIZE[0] // 4, SIZE[1] // 4
    tags = rng.normal(0, tag_noise, (17, h, w)) + 1.5 * (np.arange(w) // 12)
    for person in range(people):
        for keypoint, cell in enumerate(cells[person].tolist()):
            if cell >= 0:
                y, x = divmod(cell, w)
                tags[keypoint, max(0, y - 2) : y + 3, max(0, x - 2) : x + 3] = 1.3 * person + rng.normal(
                    0, 0.2
                )
    outputs = {name: values * 0.8 + rng.normal(0, noise, values.shape) for name, values in maps.items()}
    return {name: values.astype(np.float32) for name, values in {**outputs, "tags_s4": tags}.items()}


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("people", [0, 1, 3, 8])
def test_the_same_people_come_out(seed, people):
    maps, codec = _maps(seed, people), _codec()

    keypoints, scores = numpy_decoder.decode(maps, _about(codec))

    expected, expected_scores = codec.decode(maps)
    assert (len(expected) > 0) == (people > 0)
    np.testing.assert_allclose(scores, expected_scores, atol=1e-5)
    np.testing.assert_allclose(keypoints, expected, atol=1e-3)


@pytest.mark.parametrize(
    "grouping",
    [
        {"is_refined": False},
        {"max_people": 2},
        {"window": 9},
        {"detection_threshold": 0.785},
        {"min_keypoints": 9},
        {"tag_threshold": 0.3},
        {"keypoint_order": tuple(reversed(range(17)))},
        {"has_flank_search": True},
    ],
)
def test_the_settings_of_the_description_count(grouping):
    maps, codec = _maps(1, 5), _codec(**grouping)

    keypoints, _ = numpy_decoder.decode(maps, _about(codec))

    expected, _ = codec.decode(maps)
    assert (
        len(expected) != len(_codec().decode(maps)[0])
        or np.abs(expected - _codec().decode(maps)[0]).max() > 1e-3
    )
    np.testing.assert_allclose(keypoints, expected, atol=1e-3)


def test_of_equal_cells_the_middle_counts():
    maps = {name: np.zeros_like(values) for name, values in _maps(0, 1).items()}
    maps["heatmaps_s2"][:, 20:23, 30:33] = 0.5
    codec = _codec()

    keypoints, _ = numpy_decoder.decode(maps, _about(codec))

    np.testing.assert_allclose(keypoints, codec.decode(maps)[0], atol=1e-3)


def test_it_runs_as_a_program_without_the_package(tmp_path):
    maps, codec = _maps(2, 3), _codec()
    copy = tmp_path / "decode.py"
    copy.write_text(DECODERS["associative_embedding"].read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "description.json").write_text(json.dumps(_about(codec)))
    np.savez(tmp_path / "maps.npz", **maps)
    program = f"""
import runpy, sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {{"fleetpose", "cv2", "scipy", "onnxruntime", "torch"}}:
            raise ImportError(name + " is blocked")

sys.meta_path.insert(0, Blocker())
sys.argv = ["decode.py", "description.json", "maps.npz"]
runpy.run_path({str(copy)!r}, run_name="__main__")
"""

    result = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )

    assert result.stderr == ""
    people = json.loads(result.stdout)
    expected, scores = codec.decode(maps)
    np.testing.assert_allclose([one["keypoints"] for one in people], expected, atol=1e-3)
    np.testing.assert_allclose([one["score"] for one in people], scores, atol=1e-5)
