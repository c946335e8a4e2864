"""A network with a decoding tail gives the people that its maps give."""

from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from fleetpose.codecs.associative_embedding import AssociativeEmbeddingCodec
from fleetpose.codecs.candidates import OUTPUTS, CandidateCodec
from fleetpose.codecs.description import METADATA_KEY
from fleetpose.codecs.fields import Field, FieldKind, associative_embedding_fields
from fleetpose.codecs.grouping import GroupingSettings
from fleetpose.errors import CheckpointError, ConfigError, ShapeError
from fleetpose.export.decode_tail import add_decode_tail, append_tail
from fleetpose.runtime.predictor import load

ONE_SCALE = (Field(FieldKind.HEATMAPS, 17, 4), Field(FieldKind.TAGS, 17, 4))


def tail_of(description):
    """Run a tail alone: a function from maps to the tail's outputs."""
    names = [item.name for item in description.fields]
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 17, None, None]) for name in names]
    model = helper.make_model(
        helper.make_graph([], "maps", inputs, inputs),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=9,
    )
    append_tail(model, description, onnx)
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])

    def run(maps):
        found = session.run(list(OUTPUTS), {name: values[None] for name, values in maps.items()})
        return {name: values[0] for name, values in zip(OUTPUTS, found, strict=True)}

    return run


def crowd(codec, count, *, seed, size=(256, 320)):
    """Maps of people in random places, noisy, with tags that differ."""
    rng = np.random.default_rng(seed)
    people = np.concatenate(
        [rng.uniform((4, 4), (size[1] - 4, size[0] - 4), (count, 17, 2)), np.full((count, 17, 1), 2)], axis=-1
    )
    maps = codec.encode(people.astype(np.float32), size=size)
    tags = rng.normal(0, 0.3, (17, size[0] // 4, size[1] // 4)).astype(np.float32)
    for person, cells in enumerate(maps.pop("tag_cells")[:count]):
        for k, cell in enumerate(cells.tolist()):
            y, x = divmod(cell, size[1] // 4)
            tags[k, max(0, y - 2) : y + 3, max(0, x - 2) : x + 3] = 1.5 * person
    for name in maps:
        heights = rng.choice([0.05, 0.5, 1.0], (17, 1, 1))
        maps[name] = (maps[name] * heights + rng.normal(0, 0.003, maps[name].shape)).astype(np.float32)
    return {**maps, "tags_s4": tags}


@pytest.mark.parametrize("count", [0, 1, 4, 12])
@pytest.mark.parametrize("fields", [ONE_SCALE, associative_embedding_fields(17)])
def test_candidates_give_the_people_of_the_maps(fake_description, fields, count):
    sigmas = (2.0,) * (len(fields) - 1)
    codec = AssociativeEmbeddingCodec(fields=fields, sigma_cells=sigmas)
    description = replace(fake_description, fields=fields, codec=codec.settings())
    run = tail_of(description)

    for seed in range(3):
        maps = crowd(codec, count, seed=seed)
        expected, expected_scores = codec.decode(maps)
        keypoints, scores = CandidateCodec(fields=fields).decode(run(maps))

        assert len(expected) >= count
        # With one scale nothing is computed twice; with two, resizing rounds otherwise.
        tolerance = 0 if len(fields) == 2 else 1e-3
        np.testing.assert_allclose(scores, expected_scores, atol=tolerance)
        np.testing.assert_allclose(keypoints, expected, atol=tolerance)


def test_plateaus_and_borders_come_out_as_from_the_maps(fake_description):
    codec = AssociativeEmbeddingCodec(fields=ONE_SCALE, sigma_cells=(2.0,))
    description = replace(fake_description, fields=ONE_SCALE, codec=codec.settings())
    heatmaps = np.zeros((17, 12, 15), np.float32)
    heatmaps[0, 4:7, 5:8] = heatmaps[1, 0, 0:2] = heatmaps[2, 11, 13:15] = 0.8
    heatmaps[3, 10:12, 14], heatmaps[4, 0, 14], heatmaps[5, 6, 6] = 0.8, 0.7, 0.05
    rng = np.random.default_rng(0)
    tags = rng.normal(0, 0.1, heatmaps.shape).astype(np.float32)
    maps = {"heatmaps_s4": heatmaps, "tags_s4": tags}

    keypoints, scores = CandidateCodec(fields=ONE_SCALE).decode(tail_of(description)(maps))

    expected, expected_scores = codec.decode(maps)
    assert (expected[..., 2] > 0).sum() == 6
    np.testing.assert_array_equal(keypoints, expected)
    np.testing.assert_array_equal(scores, expected_scores)


def test_a_model_file_with_a_tail_finds_the_same_people(dots_model, tmp_path, draw_dots, stick_person):
    target = tmp_path / "tailed.onnx"
    add_decode_tail(dots_model, target)
    image = draw_dots([stick_person, np.add(stick_person, (130, 20))])

    ours, expected = load(target, threads=1)(image), load(dots_model, threads=1)(image)

    assert len(expected.keypoints) == 2
    np.testing.assert_allclose(ours.keypoints, expected.keypoints, atol=1e-3)
    np.testing.assert_allclose(ours.boxes, expected.boxes, atol=1e-2)
    np.testing.assert_allclose(ours.scores, expected.scores, atol=1e-4)
    text = {one.key: one.value for one in onnx.load(str(target)).metadata_props}[METADATA_KEY]
    assert "the flat indices y * w + x of the highest cells" in text


def test_a_tail_cannot_look_at_the_mirrored_picture(dots_model, tmp_path, draw_dots, stick_person):
    target = tmp_path / "tailed.onnx"
    add_decode_tail(dots_model, target)

    with pytest.raises(ConfigError, match="without --with-decode"):
        load(target, threads=1, has_flip_test=True)(draw_dots([stick_person]))


def test_a_second_tail_is_refused(dots_model, tmp_path):
    target = tmp_path / "tailed.onnx"
    add_decode_tail(dots_model, target)

    with pytest.raises(CheckpointError, match="for models that decode by associative_embedding"):
        add_decode_tail(target)


def test_a_window_wider_than_the_candidates_surroundings_is_refused():
    with pytest.raises(ConfigError, match="window must be at most 5, got 7"):
        CandidateCodec(fields=ONE_SCALE, grouping=GroupingSettings(window=7))


def test_a_search_beyond_the_candidates_is_refused():
    with pytest.raises(ConfigError, match="leave has_flank_search out"):
        CandidateCodec(fields=ONE_SCALE, grouping=GroupingSettings(has_flank_search=True))


def described(fake_description, **grouping):
    codec = AssociativeEmbeddingCodec(
        fields=ONE_SCALE, sigma_cells=(2.0,), max_people=300, grouping=GroupingSettings(**grouping)
    )
    return codec, replace(fake_description, fields=ONE_SCALE, codec=codec.settings())


def by_place(keypoints):
    return keypoints[np.lexsort(keypoints[:, 0, :2].T)]


@pytest.mark.parametrize("seed", range(3))
def test_mirrored_maps_give_mirrored_people(fake_description, seed):
    codec, description = described(fake_description)
    maps, run, tail = crowd(codec, 5, seed=seed), tail_of(description), CandidateCodec(fields=ONE_SCALE)

    keypoints, scores = tail.decode(run(maps))
    mirrored, mirrored_scores = tail.decode(
        run({name: np.ascontiguousarray(one[..., ::-1]) for name, one in maps.items()})
    )

    back = np.where(mirrored[..., 2:] > 0, mirrored * (-1, 1, 1) + (320 - 1, 0, 0), 0)
    assert len(keypoints) >= 5
    np.testing.assert_array_equal(scores, mirrored_scores)
    np.testing.assert_allclose(by_place(back), by_place(keypoints), atol=1e-3)


@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_the_candidates_of_a_keypoint_changes_nothing(fake_description, seed):
    codec, description = described(fake_description)
    candidates = tail_of(description)(crowd(codec, 5, seed=seed))
    keypoints, scores = CandidateCodec(fields=ONE_SCALE).decode(candidates)
    order = np.random.default_rng(seed).permutation(candidates["candidate_cells"].shape[1])

    shuffled = {name: one if name == "grid_size" else one[:, order] for name, one in candidates.items()}
    again, again_scores = CandidateCodec(fields=ONE_SCALE).decode(shuffled)

    np.testing.assert_allclose(np.sort(again_scores), np.sort(scores), atol=1e-6)
    np.testing.assert_allclose(by_place(again), by_place(keypoints), atol=1e-6)


def test_300_people_come_back(fake_description):
    codec, description = described(fake_description, max_people=300)
    rows, columns = np.divmod(np.arange(300), 20)
    corners = np.stack([72 * columns, 72 * rows], axis=1)[:, None] + (30.3, 34.2)
    places = np.repeat(corners, 17, axis=1)
    people = np.concatenate([places, np.full((300, 17, 1), 2.0)], axis=2).astype(np.float32)
    maps = codec.encode(people, size=(1088, 1472))
    tags = np.zeros((17, 272, 368), np.float32)
    for person, cells in enumerate(maps.pop("tag_cells")):
        y, x = np.divmod(cells[0], 368)
        tags[:, y - 2 : y + 3, x - 2 : x + 3] = 3.0 * person

    keypoints, _ = CandidateCodec(fields=ONE_SCALE, grouping=codec.grouping).decode(
        tail_of(description)({**maps, "tags_s4": tags})
    )

    np.testing.assert_allclose(by_place(keypoints)[..., :2], by_place(people)[..., :2], atol=0.05)


def test_maps_of_one_cell_give_a_person_in_it(fake_description):
    _, description = described(fake_description)
    maps = {"heatmaps_s4": np.full((17, 1, 1), 0.5, np.float32), "tags_s4": np.zeros((17, 1, 1), np.float32)}

    keypoints, scores = CandidateCodec(fields=ONE_SCALE).decode(tail_of(description)(maps))

    assert keypoints.tolist() == [[[1.5, 1.5, 0.5]] * 17]
    assert scores.tolist() == [0.5]


@pytest.mark.parametrize(
    ("name", "value"),
    [("candidate_heights", np.nan), ("candidate_heights", np.inf), ("candidate_tags", np.nan)],
)
def test_candidates_that_are_no_numbers_are_refused(fake_description, name, value):
    codec, description = described(fake_description)
    candidates = tail_of(description)(crowd(codec, 1, seed=0))
    changed = candidates[name].copy()
    changed[:, 0] = value

    with pytest.raises(ShapeError, match="must be finite numbers, but got NaN or infinity"):
        CandidateCodec(fields=ONE_SCALE).decode({**candidates, name: changed})
