"""`fleetpose convert`: turn the checkpoint of a network's authors into ours."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from fleetpose.cli.exit_codes import EXIT_OK


def convert(
    checkpoint: Path,
    *,
    name: Annotated[str, Parameter(name="--as")],
    out: Path | None = None,
    keypoints: int = 17,
    backbone: str | None = None,
) -> int:
    """Turn the checkpoint of a network's authors into ours, strictly: nothing missing, nothing left over.

    The result holds the network's name, its number of keypoints and its weights. `fleetpose export` makes a
    model file of it, and training can begin with it: name it in the settings as `init`.

    Args:
        checkpoint: the authors' file: .pth, .pth.tar, .pt or .npz.
        name: which network it belongs to, such as higherhrnet-w32.
        out: file to write instead of NAME.pt.
        keypoints: how many keypoints the checkpoint predicts.
        backbone: the checkpoint is of this classifier, such as efficientnet-b0, in the layout of torchvision
            or lukemelas: give its weights to the network's backbone, and leave the rest new.
    """
    # Imports stand here so that help need not wait for PyTorch.
    from fleetpose.models import MODELS  # noqa: PLC0415
    from fleetpose.models.checkpoints import load_backbone, load_official, read_state_dict  # noqa: PLC0415
    from fleetpose.train.checkpoint import save_checkpoint  # noqa: PLC0415

    if backbone is None:
        network = load_official(checkpoint, name, num_keypoints=keypoints)
    else:
        network = load_backbone(checkpoint, name, classifier=backbone, num_keypoints=keypoints)
    weights = network.state_dict()
    target = Path(f"{name}.pt") if out is None else out
    save_checkpoint(target, {"model": name, "num_keypoints": keypoints, "ema": weights})
    sys.stdout.write(f"{target}: {name} for {keypoints} keypoints, {len(weights)} entries of weights\n")
    if backbone is not None:
        sys.stdout.write(f"all but the weights of {backbone} are new, for training to begin with\n")
    unused = MODELS[name].unused
    if unused is not None and backbone is None:
        for entry in filter(unused.match, read_state_dict(checkpoint)):
            sys.stdout.write(f"left out, because the network has no use for it: {entry}\n")
    return EXIT_OK
