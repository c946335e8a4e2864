import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")

from fleetpose.media.images import write_image  # noqa: E402 - after the checks above
from fleetpose.media.sources import Source, SourceKind  # noqa: E402
from fleetpose.models import build  # noqa: E402
from fleetpose.recipes.comparing import checkpoint_candidates  # noqa: E402
from fleetpose.runtime.benchmark import benchmark  # noqa: E402
from fleetpose.train.checkpoint import FORMAT  # noqa: E402


@pytest.mark.slow
def test_a_checkpoint_runs_as_a_model_file_and_in_pytorch(tmp_path, draw_dots, stick_person):
    torch.manual_seed(0)
    state = build("slimdeconv-plain", num_keypoints=17).state_dict()
    checkpoint = tmp_path / "mine.pt"
    torch.save({"model": "slimdeconv-plain", "num_keypoints": 17, "ema": state, "format": FORMAT}, checkpoint)
    write_image(tmp_path / "photo.png", draw_dots([stick_person]))

    candidates = checkpoint_candidates(checkpoint, tmp_path, runtimes="onnx,torch", threads=1)
    rows = benchmark(candidates, Source(SourceKind.IMAGE, str(tmp_path / "photo.png")), frames=2, threads=1)

    assert [row.label for row in rows] == ["mine onnx", "mine torch"]
    assert rows[1].megabytes == pytest.approx(checkpoint.stat().st_size / 1e6)
    assert all(row.gflops > 0 for row in rows)
    assert [one.label for one in checkpoint_candidates(checkpoint, tmp_path, runtimes="torch")] == [
        "mine torch"
    ]
