import numpy as np
import pytest

from fleetpose.errors import MediaError
from fleetpose.media.images import write_image
from fleetpose.media.sources import Source, SourceKind, find_sources


@pytest.fixture
def folder(tmp_path):
    for name in ("b.jpg", "a.PNG", "c.mp4", "notes.txt", "sub/d.jpg"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    return tmp_path


def _names(sources, folder):
    return [(source.kind.value, source.location.removeprefix(f"{folder}/")) for source in sources]


def test_a_folder_stands_for_its_pictures_and_videos_by_name(folder):
    found = find_sources(str(folder))

    assert _names(found, folder) == [("image", "a.PNG"), ("image", "b.jpg"), ("video", "c.mp4")]


def test_a_pattern_matches_through_folders(folder):
    found = find_sources(f"{folder}/**/*.jpg")

    assert _names(found, folder) == [("image", "b.jpg"), ("image", "sub/d.jpg")]


def test_a_file_whose_name_holds_brackets_is_no_pattern(tmp_path):
    path = tmp_path / "me [1].jpg"
    path.write_bytes(b"x")

    assert find_sources(str(path)) == [Source(SourceKind.IMAGE, str(path))]


def test_a_picture_without_a_known_ending_is_known_by_its_content(tmp_path):
    write_image(tmp_path / "a.png", np.zeros((2, 2, 3), np.uint8))
    odd = (tmp_path / "a.png").rename(tmp_path / "photo")

    assert find_sources(str(odd)) == [Source(SourceKind.IMAGE, str(odd))]


def test_a_number_is_a_camera_unless_a_file_is_called_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    before = find_sources("0")
    (tmp_path / "0").write_bytes(b"x")
    after = find_sources("0")

    assert before == [Source(SourceKind.CAMERA, "0")]
    assert after == [Source(SourceKind.VIDEO, "0")]


@pytest.mark.parametrize(
    "address", ["rtsp://me:secret@10.0.0.2:554/yard?x=1", "https://example.org/yard.mp4"]
)
def test_an_address_is_a_stream_and_its_name_keeps_no_secret(address):
    (source,) = find_sources(address)

    assert source == Source(SourceKind.STREAM, address)
    assert source.name.endswith(("yard", "yard.mp4"))
    assert not set("/:@?") & set(source.name)
    assert "secret" not in source.name


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("nothing.jpg", "no such file or folder"),
        ("*.gif", "no file matches the pattern"),
        ("empty", "holds no picture and no video"),
    ],
)
def test_an_argument_that_names_nothing_is_an_error(tmp_path, monkeypatch, argument, message):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)

    with pytest.raises(MediaError, match=message):
        find_sources(argument)
