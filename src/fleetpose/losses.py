"""Losses: (predicted fields, targets) → scalars, as pure functions of tensors."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def heatmap_loss(
    predicted: Tensor, target: Tensor, mask: Tensor | None = None, *, foreground_weight: float = 0.0
) -> Tensor:
    """Mean squared error between heatmaps, over the cells that count.

    Args:
        predicted: `[B, K, h, w]`.
        target: `[B, K, h, w]` in [0, 1].
        mask: `[B, K, h, w]` or `[B, K, 1, 1]`, 1 where the cell counts; None counts all. Ignored
            cells add nothing but stay in the denominator, as in HigherHRNet (arXiv:1908.10357).
        foreground_weight: the squared error of a cell is weighted by 1 + this times its target, so that the
            few cells near a keypoint are not drowned by the background. 0 is the papers' loss.

    Returns:
        Scalar: mean over all cells and keypoints, then over the batch.
    """
    error = (predicted - target).square()
    if foreground_weight:
        error = error * (1 + foreground_weight * target)
    if mask is not None:
        error = error * mask
    return error.mean()


#: Chances closer to 0 or 1 than this count as this close.
SMALLEST_CHANCE = 1e-6


def presence_loss(predicted: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """Binary cross-entropy between heatmaps read as chances that the cell holds the keypoint.

    Args:
        predicted: `[B, K, h, w]` in [0, 1].
        target: `[B, K, h, w]` in [0, 1].
        mask: `[B, K, h, w]` or `[B, K, 1, 1]`, 1 where the cell counts; None counts all.

    Returns:
        Scalar in nats: sum over the cells that count, divided by the sum of the target, so that the few cells
        near keypoints weigh alike in small and large maps (the normalisation of arXiv:1904.07850, Eq. 1).
    """
    chances = predicted.clamp(SMALLEST_CHANCE, 1 - SMALLEST_CHANCE)
    error = -(target * chances.log() + (1 - target) * (1 - chances).log())
    if mask is not None:
        error, target = error * mask, target * mask
    return error.sum() / target.sum().clamp(min=1)


#: Heatmaps are read as a distribution over cells with these logits per unit of height.
LOCATION_SHARPNESS = 10.0


def location_loss(
    predicted: Tensor, target: Tensor, mask: Tensor | None = None, *, are_chances: bool = False
) -> Tensor:
    """Compare target and predicted heatmaps by cross-entropy, as distributions over the cells that count.

    A squared error first teaches that most cells are empty and only much later where the few full ones lie;
    this asks for the place from the first step. It leaves the height of the peaks to `heatmap_loss`.

    Args:
        predicted: `[B, K, h, w]`.
        target: `[B, K, h, w]` in [0, 1].
        mask: `[B, K, h, w]` or `[B, K, 1, 1]`, 1 where the cell counts; None counts all.
        are_chances: `predicted` is a sigmoid, whose logits are compared; else its values times a constant.

    Returns:
        Scalar in nats: mean over the maps that show at least one keypoint; 0 if none does.
    """
    heights = predicted.logit(eps=SMALLEST_CHANCE) if are_chances else LOCATION_SHARPNESS * predicted
    logits, weights = heights.flatten(2), target.flatten(2)
    if mask is not None:
        counts = mask.flatten(2)
        logits = logits.masked_fill(counts == 0, -1e4)
        weights = weights * counts
    mass = weights.sum(dim=2)
    shown = (weights.amax(dim=2) > 0.5) & (mass > 1)
    entropy = -(weights * logits.log_softmax(dim=2)).sum(dim=2) / mass.clamp(min=1)
    return (entropy * shown).sum() / shown.sum().clamp(min=1)


def top_down_losses(
    predicted: Tensor,
    target: Tensor,
    weights: Tensor,
    *,
    foreground_weight: float = 0.0,
    location_weight: float = 0.0,
    presence_weight: float = 0.0,
) -> dict[str, Tensor]:
    """Add up the parts of the top-down loss.

    Args:
        predicted: heatmaps `[B, K, h, w]`.
        target: `[B, K, h, w]` in [0, 1].
        weights: `[B, K]`, 1 where the keypoint counts, 0 where nobody knows where it is.
        foreground_weight: see `heatmap_loss`.
        location_weight: factor of `location_loss`; the papers use 0.
        presence_weight: factor of `presence_loss`, which then takes the place of `heatmap_loss`, the papers'
            loss.

    Returns:
        `heatmaps`, `location` (unweighted) if asked for, and `total`.
    """
    are_chances = presence_weight > 0
    mask = weights[:, :, None, None]
    if are_chances:
        parts = {"heatmaps": presence_weight * presence_loss(predicted, target, mask)}
    else:
        parts = {"heatmaps": heatmap_loss(predicted, target, mask, foreground_weight=foreground_weight)}
    total = parts["heatmaps"]
    if location_weight:
        parts["location"] = location_loss(predicted, target, mask, are_chances=are_chances)
        total = total + location_weight * parts["location"]
    return {**parts, "total": total}


def tag_loss(tags: Tensor, cells: Tensor) -> tuple[Tensor, Tensor]:
    """Pull the tags of one person together and push those of different people apart.

    Newell et al., arXiv:1611.05424, Eq. 1, in the form of HigherHRNet: pull is the mean over people of the
    mean over their keypoints of the squared distance to the person's mean tag; push is half the mean over
    ordered pairs of people of exp(-(difference of mean tags)^2).

    Args:
        tags: `[B, K, h, w]`.
        cells: `[B, N, K]` int64 flat indices y * w + x, -1 where the person lacks the keypoint.

    Returns:
        (pull, push): scalars, mean over the batch; push is 0 in pictures with fewer than two people.
    """
    present = cells >= 0
    flat = tags.flatten(2)  # [B, K, h * w]
    values = flat.gather(2, cells.clamp(min=0).transpose(1, 2)).transpose(1, 2)  # [B, N, K]
    keypoints = present.sum(dim=2)  # [B, N]
    is_person = keypoints > 0
    people = is_person.sum(dim=1)  # [B]
    means = (values * present).sum(dim=2) / keypoints.clamp(min=1)
    spread = ((values - means[:, :, None]).square() * present).sum(dim=2) / keypoints.clamp(min=1)
    pull = spread.sum(dim=1) / people.clamp(min=1)
    closeness = torch.exp(-(means[:, :, None] - means[:, None, :]).square())
    is_pair = is_person[:, :, None] & is_person[:, None, :]
    is_pair = is_pair & ~torch.eye(cells.shape[1], dtype=torch.bool, device=cells.device)
    pairs = (people * (people - 1)).clamp(min=1)
    push = 0.5 * (closeness * is_pair).sum(dim=(1, 2)) / pairs
    return pull.mean(), push.mean()


def associative_embedding_losses(
    predicted: Mapping[str, Tensor],
    heatmaps: Mapping[str, Tensor],
    masks: Mapping[str, Tensor],
    tag_cells: Tensor,
    *,
    tags: str,
    tag_weight: float = 1e-3,
    foreground_weight: float = 0.0,
    location_weight: float = 0.0,
    presence_weight: float = 0.0,
    heatmap_weights: Mapping[str, float] | None = None,
) -> dict[str, Tensor]:
    """Add up the parts of the bottom-up loss.

    Args:
        predicted: the network's maps by field name.
        heatmaps: target heatmaps by field name; each is compared.
        masks: which cells count, by the same names.
        tag_cells: `[B, N, K]`, see `tag_loss`.
        tags: name of the tag field.
        tag_weight: factor of pull and of push; the papers use 1e-3.
        foreground_weight: see `heatmap_loss`.
        location_weight: factor of `location_loss`; the papers use 0.
        presence_weight: factor of `presence_loss`, which then takes the place of `heatmap_loss`; the papers
            use 0.
        heatmap_weights: factor of each heatmap field in all of the above, 1 for those not named; fields with
            0 are left out.

    Returns:
        One scalar per heatmap field that counts, `pull`, `push` and, if asked for, `location` (without its
        factor), and `total`.
    """
    are_chances = presence_weight > 0
    parts = {}
    weights = {name: (heatmap_weights or {}).get(name, 1.0) for name in heatmaps}
    heatmaps = {name: target for name, target in heatmaps.items() if weights[name]}
    for name, target in heatmaps.items():
        mask = masks.get(name)
        if are_chances:
            parts[name] = presence_weight * presence_loss(predicted[name], target, mask)
        else:
            parts[name] = heatmap_loss(predicted[name], target, mask, foreground_weight=foreground_weight)
    total = torch.stack([weights[name] * part for name, part in parts.items()]).sum()
    parts["pull"], parts["push"] = tag_loss(predicted[tags], tag_cells)
    total = total + tag_weight * (parts["pull"] + parts["push"])
    if location_weight:
        maps = [
            weights[name] * location_loss(predicted[name], target, masks.get(name), are_chances=are_chances)
            for name, target in heatmaps.items()
        ]
        parts["location"] = torch.stack(maps).sum()
        total = total + location_weight * parts["location"]
    parts["total"] = total
    return parts
