"""The delivered page, opened in a real browser, finds what Python finds."""

import functools
import http.server
import json
import os
import shutil
import socketserver
import subprocess
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from fleetpose.export.web import RUNTIME_FILES, RUNTIME_FOLDER, RUNTIME_VARIABLE, write_web
from fleetpose.media.images import write_image
from fleetpose.runtime.predictor import load
from fleetpose.runtime.session import read_description

onnx = pytest.importorskip("onnx")

RUNTIME = Path(os.environ.get(RUNTIME_VARIABLE) or RUNTIME_FOLDER).resolve()

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        shutil.which("chromium") is None or shutil.which("chromedriver") is None,
        reason="chromium and chromedriver are not installed",
    ),
    pytest.mark.skipif(
        not all((RUNTIME / name).is_file() for name in RUNTIME_FILES),
        reason=f"onnxruntime-web is not at {RUNTIME}; set {RUNTIME_VARIABLE} to its folder dist",
    ),
]

#: Keys of WebDriver's answers that hold an element's number.
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
#: The page keeps its people to itself, so the same module is asked once more, in the same browser.
PREDICT = """
const done = arguments[arguments.length - 1];
(async () => {
  const ort = await import("./ort.wasm.min.mjs");
  const fleetpose = await import("./fleetpose.mjs");
  const model = await fleetpose.load(ort, ".");
  const photo = await createImageBitmap(document.getElementById("photo").files[0]);
  const context = new OffscreenCanvas(photo.width, photo.height).getContext("2d");
  context.drawImage(photo, 0, 0);
  return model.predict(context.getImageData(0, 0, photo.width, photo.height), { threshold: 0 });
})().then(done, (error) => done(String(error)));
"""


class _Quiet(http.server.SimpleHTTPRequestHandler):
    extensions_map = {**http.server.SimpleHTTPRequestHandler.extensions_map, ".mjs": "text/javascript"}  # noqa: RUF012

    def log_message(self, *_):
        pass


@pytest.fixture
def serve():
    """Function that serves a folder → its address."""
    servers = []

    def start(folder):
        server = socketserver.ThreadingTCPServer(
            ("127.0.0.1", 0), functools.partial(_Quiet, directory=folder)
        )
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_address[1]}/"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def browser(tmp_path):
    """Function that sends a command to a browser without a window → its answer."""
    with socketserver.TCPServer(("127.0.0.1", 0), None) as free:
        port = free.server_address[1]
    log = (tmp_path / "chromedriver.log").open("w")
    driver = subprocess.Popen(["chromedriver", f"--port={port}"], stdout=log, stderr=log)

    def send(method, path, body=None):
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/session{path}",
            data=None if body is None else json.dumps(body).encode(),
            method=method,
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=300) as answer:  # noqa: S310 - same
            return json.load(answer)["value"]

    arguments = ["--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    settings = {"goog:chromeOptions": {"args": arguments, "binary": shutil.which("chromium")}}
    started = _patiently(lambda: send("POST", "", {"capabilities": {"alwaysMatch": settings}}))
    own = f"/{started['sessionId']}"
    send("POST", f"{own}/timeouts", {"script": 240_000})
    yield lambda method, path, body=None: send(method, own + path, body)
    send("DELETE", own)
    driver.terminate()
    driver.wait()
    log.close()


def _patiently(call, *, for_s=60):
    """Call until it no longer finds the door closed."""
    last = time.monotonic() + for_s
    while time.monotonic() < last:
        try:
            return call()
        except urllib.error.HTTPError:  # noqa: PERF203 - it waits anyway
            raise
        except urllib.error.URLError:
            time.sleep(0.2)
    return call()


def _status(browser, beginning, *, for_s=240):
    """Wait for the page's line about itself to change → the line."""
    last = time.monotonic() + for_s
    text = beginning
    while text.startswith(beginning) and time.monotonic() < last:
        time.sleep(0.2)
        body = {"script": "return document.getElementById('status').textContent", "args": []}
        text = browser("POST", "/execute/sync", body)
    return text


def _find(browser, address, picture):
    """Open a page, give it a picture → its line about the people, and the people."""
    browser("POST", "/url", {"url": address})
    ready = _status(browser, "Loading")
    assert ready.endswith("is ready"), ready
    field = browser("POST", "/element", {"using": "css selector", "value": "#photo"})[ELEMENT]
    browser("POST", f"/element/{field}/value", {"text": str(picture)})
    line = _status(browser, ready)
    return line, browser("POST", "/execute/async", {"script": PREDICT, "args": []})


@pytest.fixture
def photo(tmp_path, draw_dots, stick_person):
    """Picture of two people, whose size is no multiple of anything."""
    people = [stick_person + 20, np.add(stick_person, (140, 60))]
    write_image(tmp_path / "photo.png", draw_dots(people, (301, 421)))
    return tmp_path / "photo.png"


def test_a_browser_finds_the_same_people_as_python(tmp_path, dots_model, photo, serve, browser):
    page = tmp_path / "page"
    page.mkdir()
    write_web(onnx.load(str(dots_model)), page / "model.onnx", read_description(dots_model))

    line, found = _find(browser, serve(page), photo)

    expected = load(dots_model, runtime="onnx", threshold=0)(photo)
    assert line.startswith("2 people in ")
    assert len(found) == len(expected) == 2
    points = np.array([one["keypoints"] for one in found])
    np.testing.assert_allclose(points[..., :2], expected.keypoints[..., :2], atol=0.5)
    np.testing.assert_allclose(points[..., 2], expected.keypoints[..., 2], atol=0.02)
