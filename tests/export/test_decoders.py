"""The decoder that lies beside every artefact gives the people that the package's own decoder gives."""

import json
import subprocess
import sys

import numpy as np
import pytest

from fleetpose.codecs.associative_embedding import AssociativeEmbeddingCodec
from fleetpose.codecs.efficientpose import EfficientPoseCodec
from fleetpose.codecs.expected_oks import person_scores
from fleetpose.codecs.fields import Field, FieldKind, associative_embedding_fields
from fleetpose.codecs.grouping import GroupingSettings
from fleetpose.codecs.top_down import TopDownCodec
from fleetpose.export.artefact import DECODERS, completed
from fleetpose.export.decoders import associative_embedding, efficientpose, top_down
from fleetpose.skeletons import COCO, MPII

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

    keypoints, scores = associative_embedding.decode(maps, _about(codec))

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

    keypoints, _ = associative_embedding.decode(maps, _about(codec))

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

    keypoints, _ = associative_embedding.decode(maps, _about(codec))

    np.testing.assert_allclose(keypoints, codec.decode(maps)[0], atol=1e-3)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "settings",
    [
        *({"decoding": "dark", "kernel_cells": side} for side in (1, 3, 5, 7, 9, 11)),
        {"decoding": "quarter", "is_corner_aligned": True},
        {"decoding": "parabola"},
        {"decoding": "expected_oks", "sigmas": COCO.sigmas},
        {"decoding": "expected_oks", "sigmas": COCO.sigmas, "person_share": 0.6, "is_corner_aligned": True},
    ],
)
def test_a_crop_gives_the_same_keypoints(settings, seed):
    codec = TopDownCodec(fields=(Field(FieldKind.HEATMAPS, 17, stride=4),), input_size=(128, 96), **settings)
    rng = np.random.default_rng(seed)
    places = np.column_stack([rng.uniform(-3, 99, 17), rng.uniform(-3, 131, 17), np.full(17, 2)])
    maps = codec.encode(places)["heatmaps_s4"] + rng.normal(0, 0.03, (17, 32, 24)).astype(np.float32)
    maps[3] = -1.0
    if not codec.has_expected_scores:  # the middle cells of an even map tie, and rounding decides
        maps[4] = 0.3

    keypoints, _ = top_down.decode({"heatmaps_s4": maps}, _about(codec))

    np.testing.assert_allclose(keypoints[0], codec.decode({"heatmaps_s4": maps}), atol=1e-3)


def test_a_crop_that_decodes_by_expected_similarity_gives_the_same_score():
    fields = (Field(FieldKind.HEATMAPS, 17, stride=4),)
    codec = TopDownCodec(fields=fields, decoding="expected_oks", sigmas=COCO.sigmas)
    maps = np.random.default_rng(0).random((17, 32, 24)).astype(np.float32) ** 9

    keypoints, scores = top_down.decode({"heatmaps_s4": maps}, _about(codec))

    np.testing.assert_allclose(scores, person_scores(keypoints[..., 2], np.ones(1)), atol=1e-6)


@pytest.mark.parametrize(
    "settings", [{}, {"is_blurred": False}, {"detection_threshold": 0.45}, {"keypoints": MPII.keypoints}]
)
def test_efficientpose_gives_the_same_person(settings):
    fields = (Field(FieldKind.HEATMAPS, 16, stride=8, label="pass3"),)
    codec = EfficientPoseCodec(fields=fields, skeleton=MPII, **settings)
    rng = np.random.default_rng(0)
    maps = {fields[0].name: 0.1 * rng.random((16, 12, 9)).astype(np.float32)}
    k, y, x = np.arange(16), rng.integers(0, 12, 16), rng.integers(0, 9, 16)
    maps[fields[0].name][k, y, x] = rng.uniform(0.5, 1, 16)
    about = {**_about(codec), "skeleton": MPII.to_dict()}

    keypoints, scores = efficientpose.decode(maps, about)

    expected, expected_scores = codec.decode(maps)
    assert len(expected) == 1
    np.testing.assert_allclose(keypoints, expected, atol=1e-3)
    np.testing.assert_allclose(scores, expected_scores, atol=1e-5)


def test_efficientpose_finds_nobody_where_nothing_is():
    fields = (Field(FieldKind.HEATMAPS, 16, stride=8),)
    codec = EfficientPoseCodec(fields=fields, skeleton=MPII)
    about = {**_about(codec), "skeleton": MPII.to_dict()}

    keypoints, scores = efficientpose.decode({"heatmaps_s8": np.zeros((16, 4, 4), np.float32)}, about)

    assert (len(keypoints), len(scores)) == (0, 0)


@pytest.mark.parametrize(
    ("kind", "most"), [("associative_embedding", 140), ("top_down", 95), ("efficientpose", 50)]
)
def test_a_decoder_is_short_enough_to_be_ported(kind, most):
    lines = DECODERS[kind].read_text(encoding="utf-8").splitlines()

    assert len([line for line in lines if line.strip()]) <= most


def test_settings_that_a_model_leaves_out_are_written_down(fake_description):
    about = completed(fake_description)

    assert about.codec["grouping"]["tag_threshold"] == 1.0
    assert about.skeleton == fake_description.skeleton


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
