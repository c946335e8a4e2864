import zlib

import cv2
import numpy as np
import pytest
from PIL import Image as Pil

from fleetpose.errors import ConfigError, MediaError, ShapeError
from fleetpose.media.images import as_rgb, decode_image, read_image, write_image

ORIENTATION = 0x0112


@pytest.fixture
def picture():
    """Smooth picture, red above, blue below, brighter to the right: every turn and channel swap shows."""
    image = np.zeros((40, 60, 3), np.uint8)
    image[:20, :, 0] = image[20:, :, 2] = np.linspace(60, 250, 60).astype(np.uint8)
    return image


def _saved(tmp_path, picture, name, *, mode="RGB", **options):
    path = tmp_path / name
    Pil.fromarray(picture).convert(mode).save(path, **options)
    return path


@pytest.mark.parametrize(
    ("name", "tolerance"), [("a.png", 0), ("a.bmp", 0), ("a.tif", 0), ("a.jpg", 14), ("a.webp", 20)]
)
def test_a_picture_is_read_as_rgb(tmp_path, picture, name, tolerance):
    path = _saved(tmp_path, picture, name)

    image = read_image(path)

    # Formats that store colour at half size blur the edge between red and blue.
    away_from_edge = np.r_[0:16, 24:40]
    assert image.shape == (40, 60, 3)
    assert image.dtype == np.uint8
    assert np.abs(image[away_from_edge].astype(int) - picture[away_from_edge]).max() <= tolerance


@pytest.mark.parametrize("mode", ["L", "LA", "I;16", "1", "P"])
def test_grey_16_bit_and_palette_pictures_become_rgb(tmp_path, mode):
    grey = np.repeat(np.linspace(0, 255, 60).round().astype(np.uint8)[None], 40, axis=0)
    if mode == "I;16":
        Pil.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "a.png")
    else:
        _saved(tmp_path, grey, "a.png", mode=mode)

    image = read_image(tmp_path / "a.png")

    assert image.shape == (40, 60, 3)
    assert np.ptp(image.astype(int), axis=2).max() == 0
    if mode in {"L", "LA", "I;16"}:
        assert np.abs(image[..., 0].astype(int) - grey).max() <= 1


def test_16_bit_colour_keeps_its_channels(tmp_path, picture):
    cv2.imwrite(str(tmp_path / "a.png"), picture[..., ::-1].astype(np.uint16) * 257)

    image = read_image(tmp_path / "a.png")

    assert np.abs(image.astype(int) - picture).max() <= 1


def test_transparency_is_dropped_and_colour_stays(tmp_path, picture):
    path = _saved(tmp_path, picture, "a.png", mode="RGBA")

    np.testing.assert_array_equal(read_image(path), picture)


def test_a_cmyk_jpeg_shows_its_true_colours(tmp_path, picture):
    path = _saved(tmp_path, picture, "a.jpg", mode="CMYK", quality=95)

    assert np.abs(read_image(path).astype(int) - picture).max() < 25


@pytest.mark.parametrize(
    ("orientation", "expected"),
    [(3, lambda image: image[::-1, ::-1]), (6, lambda image: np.rot90(image, -1)), (8, np.rot90)],
)
def test_a_photo_is_turned_upright_as_its_exif_says(tmp_path, picture, orientation, expected):
    exif = Pil.Exif()
    exif[ORIENTATION] = orientation
    path = _saved(tmp_path, picture, "a.png", exif=exif)

    np.testing.assert_array_equal(read_image(path), expected(picture))


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_pixels_are_left_as_stored_where_asked(tmp_path, picture, name):
    exif = Pil.Exif()
    exif[ORIENTATION] = 6
    turned = read_image(_saved(tmp_path, picture, name, exif=exif), is_as_stored=True)

    np.testing.assert_array_equal(turned, read_image(_saved(tmp_path, picture, name)))
    assert turned.shape == (40, 60, 3)


def test_a_picture_of_one_pixel_is_read(tmp_path):
    path = _saved(tmp_path, np.array([[[200, 10, 90]]], np.uint8), "a.png")

    assert read_image(path).tolist() == [[[200, 10, 90]]]


def test_a_picture_of_12000_pixels_is_read(tmp_path):
    path = _saved(tmp_path, np.zeros((40, 12_000, 3), np.uint8), "a.png")

    assert read_image(path).shape == (40, 12_000, 3)


@pytest.mark.parametrize("share", [0.3, 0.7, 0.99])
@pytest.mark.parametrize(
    ("name", "options"), [("a.jpg", {}), ("a.jpg", {"progressive": True}), ("a.png", {}), ("a.webp", {})]
)
def test_a_cut_off_picture_is_an_error_and_never_half_grey(tmp_path, name, options, share, capfd):
    noise = np.random.default_rng(0).integers(0, 256, (80, 60, 3), dtype=np.uint8)
    data = _saved(tmp_path, noise, name, **options).read_bytes()

    with pytest.raises(MediaError, match=r"cannot read cut") as caught:
        decode_image(data[: int(len(data) * share)], name="cut")

    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


def test_a_cut_off_jpeg_with_a_thumbnail_in_its_header_is_an_error(tmp_path, picture):
    noise = np.random.default_rng(0).integers(0, 256, (80, 60, 3), dtype=np.uint8)
    data = _saved(tmp_path, noise, "a.jpg").read_bytes()
    thumbnail = _saved(tmp_path, picture, "t.jpg").read_bytes()
    header = b"\xff\xe1" + (2 + len(thumbnail)).to_bytes(2, "big") + thumbnail
    whole = data[:2] + header + data[2:]

    assert decode_image(whole, name="whole").shape == (80, 60, 3)
    with pytest.raises(MediaError, match="is cut off"):
        decode_image(whole[:-2], name="cut")


def test_bytes_behind_a_jpegs_end_do_no_harm(tmp_path, picture):
    data = _saved(tmp_path, picture, "a.jpg").read_bytes()

    assert decode_image(data + b"a maker's notes", name="a").shape == (40, 60, 3)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file"),
        (b"", "the file is empty"),
        (b"print('hello')\n" * 50, "not a picture"),
        (b"\xff\xd8", "cut off"),
        (b"\xff\xd8\xff\xd9", "not a picture"),
    ],
)
def test_a_file_that_is_no_picture_is_named_in_one_line(tmp_path, content, message, capfd):
    path = tmp_path / "broken.jpg"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(MediaError, match=message) as caught:
        read_image(path)

    assert "broken.jpg" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


def test_a_header_that_claims_a_giant_picture_is_an_error(tmp_path, picture):
    data = bytearray(_saved(tmp_path, picture, "a.png").read_bytes())
    data[16:24] = (200_000).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")

    with pytest.raises(MediaError, match="cannot read giant") as caught:
        decode_image(bytes(data), name="giant")

    assert "\n" not in str(caught.value)


def test_a_folder_in_place_of_a_picture_is_an_error(tmp_path):
    with pytest.raises(MediaError, match="Is a directory"):
        read_image(tmp_path)


def test_an_rgb_array_is_taken_without_a_copy(picture):
    assert as_rgb(picture) is picture


def test_a_bgr_array_is_turned_into_rgb(picture):
    np.testing.assert_array_equal(as_rgb(picture[..., ::-1], color="bgr"), picture)


def test_the_order_of_channels_holds_with_transparency_too(picture):
    alpha = np.full((*picture.shape[:2], 1), 7, np.uint8)

    from_rgba = as_rgb(np.concatenate([picture, alpha], axis=2))
    from_bgra = as_rgb(np.concatenate([picture[..., ::-1], alpha], axis=2), color="bgr")

    np.testing.assert_array_equal(from_rgba, picture)
    np.testing.assert_array_equal(from_bgra, picture)


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 1)])
def test_a_grey_array_is_repeated_over_the_channels(shape):
    grey = np.arange(20, dtype=np.uint8).reshape(shape)

    image = as_rgb(grey)

    np.testing.assert_array_equal(image, np.repeat(grey.reshape(4, 5, 1), 3, axis=2))


def test_a_pil_image_is_rgb_whatever_the_order_of_arrays(picture):
    np.testing.assert_array_equal(as_rgb(Pil.fromarray(picture), color="bgr"), picture)


def test_a_16_bit_pil_image_keeps_its_shades():
    grey = np.array([[0, 128 * 257, 255 * 257]], np.uint16)

    assert as_rgb(Pil.fromarray(grey))[0, :, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (np.zeros((4, 5, 3), np.float32), "uint8 from 0 to 255, but got float32"),
        (np.zeros((4, 5, 2), np.uint8), r"\[4, 5, 2\]"),
        (np.zeros((2, 4, 5, 3), np.uint8), r"\[2, 4, 5, 3\]"),
        (np.zeros((0, 5, 3), np.uint8), r"\[0, 5, 3\]"),
        (np.zeros(5, np.uint8), r"\[5\]"),
        (3.5, "a PIL image, but got float"),
    ],
)
def test_a_thing_that_is_no_picture_is_refused(picture, message):
    with pytest.raises(ShapeError, match=message):
        as_rgb(picture)


def test_an_unknown_order_of_channels_is_refused(picture):
    with pytest.raises(ConfigError, match="'rgb' or 'bgr', got 'hsv'"):
        as_rgb(picture, color="hsv")


def test_a_written_picture_reads_back(tmp_path, picture):
    write_image(tmp_path / "a.png", picture)

    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), picture)


@pytest.mark.parametrize(
    ("name", "message"), [("a.xyz", "no picture format '.xyz'"), ("no/folder/a.png", "No such file")]
)
def test_a_picture_that_cannot_be_written_is_named(tmp_path, picture, name, message):
    with pytest.raises(MediaError, match=message):
        write_image(tmp_path / name, picture)
