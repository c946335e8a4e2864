"""`init`: a run begins with the weights of another, also of one for other keypoints."""

import logging
from dataclasses import replace

import pytest
import torch

from fleetpose.errors import CheckpointError
from fleetpose.models import MODELS
from fleetpose.settings import to_plain
from fleetpose.skeletons import COCO, Skeleton
from fleetpose.train.checkpoint import load_checkpoint, save_checkpoint
from fleetpose.train.config import Phase, TrainConfig
from fleetpose.train.networks import build_network, take_starting_weights

#: Three keypoints of COCO and two others, in another order.
MIXED = ("right_wrist", "racket", "nose", "grip", "left_wrist")
#: Layers of the tiny network that predict heatmaps and tags.
HEADS = [f"heads.{number}.{part}" for number in range(3) for part in ("weight", "bias")]


def skeleton_of(*keypoints, limbs=()):
    return Skeleton.from_dict(
        {
            "name": "own",
            "keypoints": list(keypoints),
            "limbs": [list(limb) for limb in limbs],
            "sigmas": [0.1] * len(keypoints),
        }
    )


@pytest.fixture
def settings(tiny, monkeypatch):
    """Settings of a run, by network and keypoints."""
    for name, family in tiny.FAMILIES.items():
        monkeypatch.setitem(MODELS, name, family)

    def settings(model="tiny", skeleton="coco17", init=None):
        phase = Phase(size=(64, 64), batch=1, steps=1)
        return TrainConfig(model=model, sources=(), phases=(phase,), skeleton=skeleton, init=init)

    return settings


@pytest.fixture
def save(tmp_path):
    """Write what a run with such settings would → path, and the weights in it."""

    def save(config, *, dtype=torch.float32):
        torch.manual_seed(1)
        network = build_network(config)
        weights = {
            name: torch.randn_like(value).to(dtype) if value.is_floating_point() else value
            for name, value in network.state_dict().items()
        }
        path = tmp_path / "earlier.pt"
        save_checkpoint(path, {"ema": weights, "config": to_plain(config), "progress": {}})
        return path, weights

    return save


def begun(config):
    """Weights of a new network before and after it takes its start, and what the log says."""
    torch.manual_seed(2)
    network = build_network(config)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    note = take_starting_weights(network, config)
    return before, network.state_dict(), note


def assert_equal(found, expected):
    torch.testing.assert_close(found, expected, rtol=0, atol=0, check_dtype=False)


def test_the_same_keypoints_take_over_everything_without_a_word(settings, save):
    path, given = save(settings())

    _, after, note = begun(settings(init=path))

    assert_equal(after, given)
    assert note == ""


def test_keypoints_of_other_names_leave_the_predictors_new_and_keep_the_rest_bit_for_bit(settings, save):
    path, given = save(settings(), dtype=torch.float16)
    own = skeleton_of("tip", "left_grip", "right_grip")

    before, after, note = begun(settings(skeleton=own, init=path))

    assert note == f"started from {path}; new, since the keypoints differ: {', '.join(HEADS)}"
    for name, value in after.items():
        assert_equal(value, before[name] if name in HEADS else given[name].float())


def test_as_many_keypoints_of_other_names_are_not_taken_for_the_same(settings, save):
    path, given = save(settings())
    own = skeleton_of(*(f"marker_{k}" for k in range(17)))

    before, after, note = begun(settings(skeleton=own, init=path))

    assert ", ".join(HEADS) in note
    assert_equal([after[name] for name in HEADS], [before[name] for name in HEADS])
    assert_equal(after["fine.0.weight"], given["fine.0.weight"])


@pytest.mark.parametrize("model", ["slimdeconv-b0", "litepose-plain"])
def test_channels_of_keypoints_of_the_same_name_are_taken_over(settings, save, model):
    path, given = save(settings(model), dtype=torch.float16)

    before, after, note = begun(settings(model, skeleton_of(*MIXED), path))

    assert note.endswith("; channels taken over by name: right_wrist, nose, left_wrist")
    new = note.split("differ: ")[1].split(";")[0].split(", ")
    assert new
    assert all("predict" in name for name in new)
    for name, value in after.items():
        if name not in new:
            assert_equal(value, given[name].float())
            continue
        maps = len(value) // len(MIXED)
        assert len(given[name]) == 17 * maps
        for number in range(maps):  # heatmaps, and tags behind them
            for place, keypoint in enumerate(MIXED):
                k = number * len(MIXED) + place
                known = keypoint in COCO.keypoints
                source = given[name][17 * number + COCO.index(keypoint)].float() if known else before[name][k]
                assert_equal(value[k], source)


def test_the_same_keypoints_in_another_order_lose_nothing(settings, save):
    path, given = save(settings())
    order = COCO.keypoints[::-1]

    _, after, note = begun(settings(skeleton=skeleton_of(*order), init=path))

    assert note == f"started from {path}; channels taken over by name: {', '.join(order)}"
    for name, value in after.items():
        assert_equal(value, given[name].flip(0) if name in HEADS else given[name])


def test_a_layer_that_reads_predictions_stays_new(settings, save):
    path, given = save(settings("efficienthrnet-hm4"))
    reading = "head.upsample.0.conv.weight"  # features and predicted maps → features

    before, after, note = begun(settings("efficienthrnet-hm4", skeleton_of(*MIXED), path))

    assert reading in note
    assert_equal(after[reading], before[reading])
    nose, here = COCO.index("nose"), MIXED.index("nose")
    assert_equal(after["head.predict_half.bias"][here], given["head.predict_half.bias"][nose])


def test_fields_along_limbs_start_new_for_other_limbs(settings, save):
    one = skeleton_of("a", "b", "c", limbs=[("a", "b"), ("b", "c")])
    other = skeleton_of("a", "b", "c", limbs=[("a", "c"), ("b", "c")])
    path, given = save(settings("efficientpose-rt", one))

    _, same, nothing = begun(settings("efficientpose-rt", one, path))
    before, after, note = begun(settings("efficientpose-rt", other, path))

    assert nothing == ""
    assert_equal(same, given)
    new = note.split("differ: ")[1].split(", ")
    assert len(new) == len([name for name in after if not torch.equal(after[name], given[name])])
    assert any(len(after[name]) == 4 for name in new)
    assert_equal([after[name] for name in new], [before[name] for name in new])


def test_another_network_is_refused_whatever_its_keypoints(settings, save):
    path, _ = save(settings("slimdeconv-b0"))

    for model in ("tiny", "litepose-xs"):
        for skeleton in ("coco17", skeleton_of("tip", "left_grip", "right_grip")):
            with pytest.raises(CheckpointError, match=r"which .* cannot begin with"):
                begun(settings(model, skeleton, path))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda weights: weights.pop("coarse.0.bias"), "1 missing"),
        (lambda weights: weights.update(surplus=torch.zeros(1)), "1 unexpected"),
        (lambda weights: weights.update({"fine.0.bias": torch.zeros(5)}), "1 of another shape"),
        (lambda weights: weights.update({"heads.0.bias": torch.zeros(3)}), "1 of another shape"),
    ],
)
def test_a_checkpoint_that_does_not_fit_its_own_keypoints_is_refused(settings, save, change, problem):
    path, _ = save(settings())
    state = load_checkpoint(path)
    change(state["ema"])
    save_checkpoint(path, state)

    with pytest.raises(CheckpointError, match=problem):
        begun(settings(skeleton=skeleton_of("tip", "left_grip", "right_grip"), init=path))


def test_keypoints_in_a_file_that_is_gone_must_be_as_many(settings, save):
    path, given = save(settings())
    state = load_checkpoint(path)
    state["config"]["skeleton"] = "gone.yaml"
    save_checkpoint(path, state)

    _, after, note = begun(settings(init=path))

    assert note == ""
    assert_equal(after, given)
    with pytest.raises(CheckpointError, match="weights do not fit the model"):
        begun(settings(skeleton=skeleton_of("tip"), init=path))


def test_a_part_of_a_supernet_begins_with_other_keypoints_too(settings, save):
    path, given = save(settings("litepose-supernet"))

    before, after, note = begun(settings("litepose-xs", skeleton_of(*MIXED), path))

    name = "predict_half.refined.pointwise.weight"
    assert name in note
    assert_equal(after["stem.0.conv.weight"], given["stem.0.conv.weight"])
    width = after[name].shape[1]
    assert_equal(after[name][2], given[name][COCO.index("nose"), :width])
    assert_equal(after[name][1], before[name][1])


def test_the_log_of_a_run_says_what_is_new_but_resuming_stays_strict(config, train, tmp_path, caplog):
    train(config, tmp_path / "first")
    own = skeleton_of("red", "blue")
    fewer = replace(config, skeleton=own, init=tmp_path / "first/last.pt")
    caplog.set_level(logging.INFO)

    train(fewer, tmp_path / "second")

    lines = [line for line in caplog.messages if line.startswith("started from")]
    assert len(lines) == 1
    assert lines[0].endswith("channels taken over by name: red, blue")
    with pytest.raises(CheckpointError, match="weights do not fit the model"):
        train(replace(config, skeleton=own), tmp_path / "first", is_resumed=True)


@pytest.mark.parametrize(
    ("init", "wanted"),
    [
        ("slimdeconv-plain", "checkpoints/slimdeconv-plain.pt"),
        ("some/litepose-plain.onnx", "checkpoints/litepose-plain.pt"),
        ("mine.onnx", "last.pt of a run"),
    ],
)
def test_a_model_for_predicting_is_no_start_and_the_message_names_one(settings, tmp_path, init, wanted):
    config = settings(init=tmp_path / init if "." in init else init)
    config = replace(config, init=type(tmp_path)(config.init))

    with pytest.raises(CheckpointError, match=r"starts from a \.pt checkpoint") as refusal:
        begun(config)

    assert wanted in str(refusal.value)
    assert "folder checkpoints/ of the repository" in str(refusal.value)
    assert "\n" not in str(refusal.value)
