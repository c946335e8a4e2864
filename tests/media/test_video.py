import functools
import http.server
import struct
import threading
import time
import tracemalloc

import av
import cv2
import numpy as np
import pytest

from fleetpose.errors import MediaError
from fleetpose.media import video
from fleetpose.media.video import CameraReader, VideoReader, VideoWriter, open_video

SIZE = (48, 64)


def _frame(index, size=SIZE):
    """Red left half, green right half, blue share telling the frame's index."""
    image = np.zeros((*size, 3), np.uint8)
    image[:, : size[1] // 2, 0] = image[:, size[1] // 2 :, 1] = 200
    image[..., 2] = index * 8 % 256
    return image


def _write(path, count=20, *, size=SIZE, times=None, fps=25.0):
    with VideoWriter(path, fps=fps) as writer:
        for index in range(count):
            writer.add(_frame(index, size), timestamp_s=None if times is None else times[index])
    return path


def _read(source):
    reader = open_video(source)
    frames = list(reader)
    reader.close()
    return frames


def test_frames_come_back_with_their_colours_and_indices(tmp_path):
    frames = _read(_write(tmp_path / "a.mp4"))

    assert [frame.index for frame in frames] == list(range(20))
    assert all(frame.image.shape == (*SIZE, 3) for frame in frames)
    assert frames[0].image[24, 10].tolist() == pytest.approx([200, 0, 0], abs=12)
    assert frames[0].image[24, 54].tolist() == pytest.approx([0, 200, 0], abs=12)
    assert [frame.image[24, 10, 2] for frame in frames] == pytest.approx(
        [index * 8 for index in range(20)], abs=12
    )


def test_times_follow_from_the_frame_rate(tmp_path):
    frames = _read(_write(tmp_path / "a.mp4", fps=12.5))

    assert [frame.timestamp_s for frame in frames] == pytest.approx([index / 12.5 for index in range(20)])


def test_a_variable_frame_rate_survives_writing_and_reading(tmp_path):
    times = [0.0, 0.04, 0.08, 0.5, 0.51, 1.7]

    frames = _read(_write(tmp_path / "a.mp4", 6, times=times))

    assert [frame.timestamp_s for frame in frames] == pytest.approx(times, abs=1e-4)


def test_times_that_run_backwards_still_give_a_video(tmp_path):
    frames = _read(_write(tmp_path / "a.mp4", 4, times=[0.0, 0.2, 0.1, 0.1]))

    times = [frame.timestamp_s for frame in frames]
    assert len(times) == 4
    assert times == sorted(times)


@pytest.mark.parametrize(
    ("degrees", "matrix", "corner"),
    # Where the frame's red left half goes: up, right, down.
    [(90, (0, 1, -1, 0), "top"), (180, (-1, 0, 0, -1), "right"), (270, (0, -1, 1, 0), "bottom")],
)
def test_a_video_held_sideways_is_turned_upright(tmp_path, degrees, matrix, corner):
    path = _write(tmp_path / "a.mp4")
    data = bytearray(path.read_bytes())
    # The display matrix stands 44 bytes behind the type of the track header box.
    position = data.index(b"tkhd") + 44
    a, b, c, d = (value << 16 for value in matrix)
    data[position : position + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)

    image = _read(path)[0].image

    places = {"top": image[:20], "right": image[:, -20:], "bottom": image[-20:]}
    assert image.shape == ((64, 48, 3) if degrees != 180 else (48, 64, 3))
    assert places[corner][..., 0].mean() > 180
    assert places[corner][..., 1].mean() < 20


def _cut(path, share):
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def _read_into(frames, reader):
    for frame in reader:
        frames.append(frame)


@pytest.mark.parametrize(
    ("name", "share", "reads_ahead"),
    [("a.mp4", 0.75, False), ("a.mkv", 0.75, False), ("a.avi", 0.3, False), ("a.mp4", 0.75, True)],
)
def test_a_video_that_ends_in_the_middle_yields_what_is_there_and_then_says_so(
    tmp_path, name, share, reads_ahead, capfd
):
    reader = VideoReader(_cut(_write(tmp_path / name, 60), share), reads_ahead=reads_ahead)
    frames = []

    with pytest.raises(MediaError, match=r"is damaged: \d+ frames could be read") as caught:
        _read_into(frames, reader)

    assert 5 < len(frames) < 60
    assert f"{len(frames)} frames" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


def _reading_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("video")]


def test_frames_read_ahead_are_the_same_in_the_same_order(tmp_path):
    path = _write(tmp_path / "a.mp4", 12)
    plain, ahead = (list(VideoReader(path, reads_ahead=reads_ahead)) for reads_ahead in (False, True))

    assert [frame.index for frame in ahead] == list(range(12))
    for one, other in zip(plain, ahead, strict=True):
        assert one.timestamp_s == other.timestamp_s
        np.testing.assert_array_equal(one.image, other.image)
    assert not _reading_threads()


@pytest.mark.parametrize("reads_ahead", [False, True])
def test_one_frame_is_read_ahead_and_no_more(tmp_path, monkeypatch, reads_ahead):
    decoded = threading.Semaphore(0)
    upright = video._upright

    def counted(frame):
        decoded.release()
        return upright(frame)

    monkeypatch.setattr(video, "_upright", counted)
    reader = VideoReader(_write(tmp_path / "a.mp4"), reads_ahead=reads_ahead)
    frames = iter(reader)

    next(frames)

    assert decoded.acquire(timeout=0)
    assert decoded.acquire(timeout=30 if reads_ahead else 0.05) == reads_ahead
    assert not decoded.acquire(timeout=0.05)
    reader.close()


@pytest.mark.parametrize("closed", ["reader", "frames", "nothing"])
def test_whoever_stops_early_leaves_no_thread(tmp_path, monkeypatch, closed):
    upright = video._upright

    def slow(frame):
        time.sleep(0.05)
        return upright(frame)

    monkeypatch.setattr(video, "_upright", slow)
    reader = VideoReader(_write(tmp_path / "a.mp4"), reads_ahead=True)
    frames = iter(reader)
    next(frames)
    assert _reading_threads()

    if closed == "reader":
        reader.close()
    elif closed == "frames":
        frames.close()
    del frames

    assert not _reading_threads()
    reader.close()


def test_damage_in_the_middle_costs_only_the_damaged_frames(tmp_path):
    path = _write(tmp_path / "a.mp4", 60)
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    data = bytearray(path.read_bytes())
    start = packets[20].pos
    data[start : start + packets[20].size] = bytes([0xFF]) * packets[20].size
    path.write_bytes(data)
    frames = []

    with pytest.raises(MediaError, match="is damaged"):
        _read_into(frames, VideoReader(path))

    assert len(frames) >= 50


@pytest.mark.parametrize("content", [b"", b"hello " * 100, None])
def test_a_file_that_is_no_video_is_named_in_one_line(tmp_path, content):
    path = tmp_path / "broken.mp4"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(MediaError, match=r"broken\.mp4") as caught:
        open_video(path)

    assert "\n" not in str(caught.value)


def test_a_file_with_sound_alone_is_no_video(tmp_path):
    path = tmp_path / "song.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16_000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        sound.sample_rate = 16_000
        container.mux(stream.encode(sound))
        container.mux(stream.encode(None))

    with pytest.raises(MediaError, match="holds no pictures"):
        open_video(path)


def test_a_stream_needs_one_source(tmp_path):
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(b"x")

    with pytest.raises(MediaError, match="names 2 files; give one"):
        open_video(tmp_path)


def test_a_camera_that_is_not_there_is_an_error(capfd):
    with pytest.raises(MediaError, match="cannot open camera 97"):
        open_video(97)

    assert capfd.readouterr().err == ""


def test_a_camera_gives_rgb_frames_with_growing_times(tmp_path):
    path = _write(tmp_path / "a.avi", 5)

    reader = CameraReader(cv2.VideoCapture(str(path)), name="camera 0")
    frames = list(reader)
    reader.close()

    times = [frame.timestamp_s for frame in frames]
    assert [frame.index for frame in frames] == [0, 1, 2, 3, 4]
    assert times[0] == 0
    assert times == sorted(times)
    assert frames[0].image[24, 10].tolist() == pytest.approx([200, 0, 0], abs=25)


def test_a_camera_that_gives_no_pictures_is_an_error(tmp_path):
    capture = cv2.VideoCapture(str(_write(tmp_path / "a.avi", 3)))
    while capture.read()[0]:
        pass

    with pytest.raises(MediaError, match="camera 0: it gives no pictures"):
        list(CameraReader(capture, name="camera 0"))


def test_a_network_address_streams_its_frames(tmp_path):
    _write(tmp_path / "a.mp4", 5)
    handler = functools.partial(_SilentHandler, directory=str(tmp_path))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    reader = open_video(f"http://127.0.0.1:{server.server_port}/a.mp4", reads_ahead=True)
    frames, threads = [], []
    for frame in reader:
        frames.append(frame)
        threads += _reading_threads()
    reader.close()
    server.shutdown()
    server.server_close()

    assert reader.frame_count is None
    assert [frame.index for frame in frames] == [0, 1, 2, 3, 4]
    assert not threads  # what waits would grow old


class _SilentHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        """Say nothing."""


def test_a_network_address_that_nobody_serves_is_an_error():
    with pytest.raises(MediaError, match=r"cannot read http://127\.0\.0\.1:9/a\.mp4 as") as caught:
        open_video("http://me:secret@127.0.0.1:9/a.mp4?token=1")

    assert "secret" not in str(caught.value)


def test_a_written_video_is_what_browsers_play(tmp_path):
    path = _write(tmp_path / "a.mp4")

    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat"), "the index must come first, to play while loading"


def test_odd_sizes_grow_by_a_pixel_and_keep_their_place(tmp_path):
    frames = _read(_write(tmp_path / "a.mp4", size=(47, 63)))

    assert frames[0].image.shape == (48, 64, 3)
    assert frames[0].image[20, 20, 0] > 180
    assert frames[0].image[20, 40, 1] > 180


def test_a_frame_of_another_size_is_fitted_to_the_first(tmp_path):
    with VideoWriter(tmp_path / "a.mp4") as writer:
        writer.add(_frame(0))
        writer.add(_frame(0, (96, 128)))

    first, second = _read(tmp_path / "a.mp4")
    assert np.abs(first.image.astype(int) - second.image).mean() < 5


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, ValueError])
def test_a_video_is_complete_when_writing_is_interrupted(tmp_path, interruption):
    def write_and_stop():
        with VideoWriter(tmp_path / "a.mp4") as writer:
            for index in range(7):
                writer.add(_frame(index))
            raise interruption

    with pytest.raises(interruption):
        write_and_stop()

    assert len(_read(tmp_path / "a.mp4")) == 7


def test_a_video_without_frames_leaves_no_file(tmp_path):
    _write(tmp_path / "a.mp4", 0)

    assert not (tmp_path / "a.mp4").exists()


def test_a_video_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(MediaError, match=r"cannot write .*a\.mp4: No such file"):
        _write(tmp_path / "no" / "a.mp4")


def test_reading_holds_no_frames_back(tmp_path):
    path = _write(tmp_path / "a.mp4", 200)
    reader = iter(VideoReader(path))
    for _ in range(20):
        next(reader)

    tracemalloc.start()
    for _ in reader:
        pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 10 * 48 * 64 * 3
