"""Official checkpoints load exactly, and what is no such checkpoint is refused in one clear line."""

import pickle
import re

import pytest
import torch

from fleetpose.errors import CheckpointError, UnknownNameError
from fleetpose.models import build
from fleetpose.models.checkpoints import load_official, load_strictly, read_state_dict

# How the authors of LitePose name what we name otherwise; the inverse of what the package does.
OFFICIAL_LITEPOSE_NAMES = [
    (r"^stem\.([01])\.conv", r"first.\1.0"),
    (r"^stem\.([01])\.norm", r"first.\1.1"),
    (r"^stem\.2\.conv", "first.2"),
    (r"^stem\.2\.norm", "first.3"),
    (r"^stages\.", "stage."),
    (r"^(stage.*)\.expand\.", r"\1.inv."),
    (r"^(stage.*)\.depthwise\.", r"\1.depth_conv."),
    (r"^(stage.*)\.project\.", r"\1.point_conv."),
    (r"^(stage.*)\.conv\.", r"\1.0."),
    (r"^(stage.*)\.norm\.", r"\1.1."),
    (r"^upsamples\.(\d)\.(refined|raw)", r"deconv_\2.\1"),
    (r"^upsamples\.(\d)\.norm", r"deconv_bnrelu.\1.0"),
    (r"^predict_quarter\.(refined|raw)", r"final_\1.0"),
    (r"^predict_half\.(refined|raw)", r"final_\1.1"),
    (r"^(final.*)\.depthwise\.conv", r"\1.conv.0"),
    (r"^(final.*)\.depthwise\.norm", r"\1.conv.1"),
    (r"^(final.*)\.pointwise", r"\1.conv.3"),
]


def official_name(name):
    for pattern, replacement in OFFICIAL_LITEPOSE_NAMES:
        name = re.sub(pattern, replacement, name)
    return name


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return build("litepose-xs", num_keypoints=3)


@pytest.fixture
def official(network):
    """Return the entries of an official checkpoint for three keypoints."""
    return {official_name(key): value for key, value in network.state_dict().items()}


def assert_same_weights(loaded, network):
    state = loaded.state_dict()
    for key, value in network.state_dict().items():
        assert torch.equal(state[key], value), key


def test_an_official_checkpoint_file_loads_for_evaluation(tmp_path, network, official):
    torch.save(official, tmp_path / "litepose.pth")

    loaded = load_official(tmp_path / "litepose.pth", "litepose-xs", num_keypoints=3)

    assert not loaded.training
    assert_same_weights(loaded, network)


@pytest.mark.parametrize(
    ("nest", "prefix"),
    [
        ("state_dict", "module."),
        ("model_state_dict", "1."),
        ("model", "module.1."),
        ("model", "module.module."),
    ],
)
def test_wrappers_around_the_weights_do_not_matter(network, official, nest, prefix):
    wrapped = {"epoch": 3, nest: {prefix + key: value for key, value in official.items()}}

    loaded = load_official(wrapped, "litepose-xs", num_keypoints=3)

    assert_same_weights(loaded, network)


def test_a_missing_entry_is_named(official):
    del official["first.3.bias"]

    with pytest.raises(CheckpointError, match=r"^checkpoint: .* 1 missing \(such as stem\.2\.norm\.bias\)$"):
        load_official(official, "litepose-xs", num_keypoints=3)


def test_an_entry_that_the_family_does_not_have_is_named(official):
    official["first.9.bias"] = torch.zeros(1)

    with pytest.raises(CheckpointError, match=r"not of litepose-xs's family: entry 'first\.9\.bias'"):
        load_official(official, "litepose-xs", num_keypoints=3)


def test_an_entry_that_the_variant_does_not_have_is_named(official):
    official["stage.0.6.inv.0.weight"] = torch.zeros(1)

    with pytest.raises(CheckpointError, match=r"1 unexpected \(such as stages\.0\.6\.expand\.conv\.weight\)"):
        load_official(official, "litepose-xs", num_keypoints=3)


def test_a_prefix_that_not_every_entry_has_is_not_removed(official):
    official["1.first.0.0.weight"] = official["first.0.0.weight"]

    with pytest.raises(CheckpointError, match=r"entry '1\.first\.0\.0\.weight'"):
        load_official(official, "litepose-xs", num_keypoints=3)


def test_an_entry_of_another_shape_is_named_with_both_shapes(official):
    official["first.3.bias"] = torch.zeros(7)

    with pytest.raises(CheckpointError, match=r"1 of another shape \(such as .* is \[7\], not \[16\]\)"):
        load_official(official, "litepose-xs", num_keypoints=3)


def test_the_wrong_number_of_keypoints_is_answered_with_the_right_one(official):
    with pytest.raises(CheckpointError, match="these are weights of litepose-xs for 3 keypoints"):
        load_official(official, "litepose-xs", num_keypoints=17)


def test_the_wrong_variant_is_answered_with_the_right_one(official):
    with pytest.raises(CheckpointError, match="these are weights of litepose-xs for 3 keypoints"):
        load_official(official, "litepose-s", num_keypoints=3)


def test_the_wrong_family_is_refused(official):
    with pytest.raises(CheckpointError, match="not of efficienthrnet-hm4's family"):
        load_official(official, "efficienthrnet-hm4", num_keypoints=3)


def test_an_unknown_name_is_answered_before_the_file_is_read():
    with pytest.raises(UnknownNameError, match="did you mean litepose-xs"):
        load_official("no-such-file", "litepose-xss")


def test_a_refused_state_leaves_the_model_unchanged(network):
    before = {key: value.clone() for key, value in network.state_dict().items()}
    state = {key: value + 1 for key, value in before.items()}
    del state["stem.2.norm.bias"]

    with pytest.raises(CheckpointError, match="1 missing"):
        load_strictly(network, state)

    after = network.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "expected named weights, but got nothing"),
        ({"state_dict": {}}, "expected named weights, but got nothing"),
        ([1, 2], "expected named weights, but got type list"),
        ({"epoch": 3}, "expected named weights, but 'epoch' has type int"),
        ({3: torch.zeros(1)}, "expected named weights, but 3 has type Tensor"),
    ],
)
def test_a_file_of_something_else_is_described(tmp_path, content, message):
    torch.save(content, tmp_path / "other.pth")

    with pytest.raises(CheckpointError, match=f"other.pth: {message}"):
        read_state_dict(tmp_path / "other.pth")


@pytest.mark.parametrize("new_format", [True, False])
@pytest.mark.parametrize("part", [0.0, 0.1, 0.5, 0.9])
def test_a_file_that_is_cut_short_is_refused_in_one_line(tmp_path, official, new_format, part):
    path = tmp_path / "short.pth"
    torch.save(official, path, _use_new_zipfile_serialization=new_format)
    content = path.read_bytes()
    path.write_bytes(content[: int(part * len(content))])

    with pytest.raises(CheckpointError, match=r"short\.pth: .*cut short") as caught:
        read_state_dict(path)

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [b"hello", b"\x80\x02}q\x00.", b"\x80\xb2}.", pickle.dumps({"weights": [1.0]}), bytes(range(256))],
    ids=["text", "pickle", "future pickle", "plain pickle", "bytes"],
)
def test_a_file_that_is_no_checkpoint_is_refused_in_one_line(tmp_path, content):
    path = tmp_path / "strange.pth"
    path.write_bytes(content)

    with pytest.raises(CheckpointError, match=r"^[^\n]*strange\.pth: is no PyTorch checkpoint[^\n]*$"):
        read_state_dict(path)


def test_a_whole_pickled_model_is_refused_without_running_its_code(tmp_path, network):
    torch.save(network, tmp_path / "model.pth")

    with pytest.raises(CheckpointError, match="more than plain weights"):
        read_state_dict(tmp_path / "model.pth")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"nowhere\.pth: cannot be read: No such file"):
        load_official(tmp_path / "nowhere.pth", "litepose-xs")
