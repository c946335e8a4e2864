import numpy as np
import pytest

from fleetpose.errors import DatasetError
from fleetpose.synth.rle import decode_mask, encode_mask

MASKS = {
    "empty": np.zeros((5, 7), bool),
    "full": np.ones((5, 7), bool),
    "first pixel": np.eye(1, 35, 0, dtype=bool).reshape(5, 7),
    "last pixel": np.eye(1, 35, 34, dtype=bool).reshape(5, 7),
    "noise": np.random.default_rng(0).random((61, 83)) < 0.4,
    "long runs": np.arange(200 * 300).reshape(200, 300) // 7001 % 2 == 1,
}


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_a_mask_survives_encoding(mask):
    decoded = decode_mask(encode_mask(mask))

    np.testing.assert_array_equal(decoded, mask)


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_the_text_is_the_one_that_coco_tools_write(mask):
    tool = pytest.importorskip("pycocotools.mask")

    ours = encode_mask(mask)

    assert ours["counts"] == tool.encode(np.asfortranarray(mask, np.uint8))["counts"].decode()


def test_run_lengths_of_another_size_are_refused():
    segmentation = encode_mask(np.ones((4, 4), bool)) | {"size": [4, 5]}

    with pytest.raises(DatasetError, match="cover 16 pixels, but the mask has 20"):
        decode_mask(segmentation)
