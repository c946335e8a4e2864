"""Losses: (predicted fields, targets) → scalars, as pure functions of tensors."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional


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


def hard_keypoints(
    predicted: Tensor, target: Tensor, weights: Tensor, *, count: int, foreground_weight: float = 0.0
) -> Tensor:
    """Choose the keypoints that a network finds hardest (arXiv:1711.07319, Sect. 3.2).

    Args:
        predicted: `[B, K, h, w]`.
        target: `[B, K, h, w]`.
        weights: `[B, K]`, 0 where the keypoint does not count.
        count: how many of each picture to keep.
        foreground_weight: see `heatmap_loss`.

    Returns:
        `[B, K]`: the weights, times K / `count` where the error is among the greatest and 0 elsewhere, so
        that means over keypoints become means over the chosen ones.
    """
    error = (predicted.detach() - target).square()
    error = (error * (1 + foreground_weight * target)).mean(dim=(2, 3)) * weights
    keypoints = weights.shape[1]
    kept = min(count, keypoints)
    is_hard = torch.zeros_like(weights).scatter(1, error.topk(kept, dim=1).indices, 1.0)
    return weights * is_hard * (keypoints / kept)


def top_down_losses(
    predicted: Tensor,
    target: Tensor,
    weights: Tensor,
    *,
    foreground_weight: float = 0.0,
    location_weight: float = 0.0,
    presence_weight: float = 0.0,
    hardest: int = 0,
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
        hardest: count only so many keypoints of each picture, see `hard_keypoints`; 0 counts all.

    Returns:
        `heatmaps`, `location` (unweighted) if asked for, and `total`.
    """
    are_chances = presence_weight > 0
    if hardest:
        weights = hard_keypoints(
            predicted, target, weights, count=hardest, foreground_weight=foreground_weight
        )
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


def tag_loss(tags: Tensor, cells: Tensor, *, has_hinge: bool = False) -> tuple[Tensor, Tensor]:
    """Pull the tags of one person together and push those of different people apart.

    Newell et al., arXiv:1611.05424, Eq. 1, in the form of HigherHRNet: pull is the mean over people of the
    mean over their keypoints of the squared distance to the person's mean tag; push is half the mean over
    ordered pairs of people of how close their mean tags are.

    Args:
        tags: `[B, K, h, w]`.
        cells: `[B, N, K]` int64 flat indices y * w + x, -1 where the person lacks the keypoint.
        has_hinge: whether people whose mean tags differ by d are close by max(0, 1 - |d|), HigherHRNet's
            "max", which leaves those alone who are 1 and more apart; else by exp(-d^2), as in the papers.

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
    difference = means[:, :, None] - means[:, None, :]
    closeness = (1 - difference.abs()).clamp(min=0) if has_hinge else torch.exp(-difference.square())
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
    has_hinge: bool = False,
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
        has_hinge: see `tag_loss`.

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
    parts["pull"], parts["push"] = tag_loss(predicted[tags], tag_cells, has_hinge=has_hinge)
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


def part_affinity_losses(
    predicted: Mapping[str, Tensor],
    targets: Mapping[str, Tensor],
    masks: Mapping[str, Tensor],
    *,
    pafs: Mapping[str, float],
    foreground_weight: float = 0.0,
    location_weight: float = 0.0,
    presence_weight: float = 0.0,
) -> dict[str, Tensor]:
    """Compare heatmaps and part affinity fields of all passes.

    Args:
        predicted: the network's maps by field name.
        targets: `[B, C, h, w]` by field name.
        masks: `[B, C, h, w]` or `[B, C, 1, 1]` by the same names, 1 where the cell counts.
        pafs: factor of each field of vectors, by name; the other maps are heatmaps, of factor 1.
        foreground_weight: of heatmaps, see `heatmap_loss`.
        location_weight: factor of `location_loss` of the heatmaps; the papers use 0.
        presence_weight: factor of `presence_loss`, which then takes the place of `heatmap_loss`, the papers'
            loss, for heatmaps; fields of vectors keep the squared error.

    Returns:
        One scalar per map, without its factor, `location` (likewise, the sum over heatmaps) if asked for, and
        `total`.
    """
    are_chances = presence_weight > 0
    factors, parts = dict.fromkeys(targets, presence_weight or 1.0) | dict(pafs), {}
    for name, target in targets.items():
        if name in pafs:
            parts[name] = heatmap_loss(predicted[name], target, masks[name])
        elif are_chances:
            parts[name] = presence_loss(predicted[name], target, masks[name])
        else:
            parts[name] = heatmap_loss(
                predicted[name], target, masks[name], foreground_weight=foreground_weight
            )
    total = torch.stack([factors[name] * part for name, part in parts.items()]).sum()
    if location_weight:
        maps = [
            location_loss(predicted[name], target, masks[name], are_chances=are_chances)
            for name, target in targets.items()
            if name not in pafs
        ]
        parts["location"] = torch.stack(maps).sum()
        total = total + location_weight * parts["location"]
    return {**parts, "total": total}


#: Class of pixels that do not count.
IGNORED_CLASS = 255


def class_loss(
    scores: Tensor,
    labels: Tensor,
    *,
    weights: Tensor | None = None,
    smoothing: float = 0.0,
    ignored: int = IGNORED_CLASS,
) -> Tensor:
    """Cross-entropy between scores and classes, of pictures or of their pixels.

    Args:
        scores: `[B, C, h, w]` before the softmax; enlarged to the labels' size if they have another.
        labels: `[B, H, W]` int64 classes, `ignored` where nobody knows.
        weights: `[C]` of the classes; None weighs all alike.
        smoothing: share of the certainty that all classes divide.
        ignored: what stands for no class; -1 where every number may be one, as with whole pictures.

    Returns:
        Scalar in nats: weighted mean over what counts; 0 where nothing does.
    """
    if scores.shape[2:] != labels.shape[1:]:
        size = (labels.shape[1], labels.shape[2])
        scores = functional.interpolate(scores.float(), size=size, mode="bilinear", align_corners=False)
    if not bool((labels != ignored).any()):
        return scores.sum() * 0
    return functional.cross_entropy(
        scores.float(), labels, weight=weights, ignore_index=ignored, label_smoothing=smoothing
    )


def class_weights(counts: Tensor) -> Tensor:
    """Weights that let rare classes count for more: 1 / ln(1.02 + share), of mean 1 over classes that occur.

    The formula of ENet (arXiv:1606.02147, Sect. 5.2) grows for rare classes, but not beyond all bounds.

    Args:
        counts: `[C]` pixels of each class.

    >>> class_weights(torch.tensor([98.0, 2.0])).tolist()[1] > 1
    True
    """
    shares = counts / counts.sum().clamp(min=1)
    weights = 1 / torch.log(1.02 + shares)
    present = counts > 0
    return weights / weights[present].mean() if bool(present.any()) else torch.ones_like(weights)


def distillation_loss(
    predicted: Mapping[str, Tensor],
    taught: Mapping[str, Tensor],
    masks: Mapping[str, Tensor],
) -> Tensor:
    """Mean squared error to a teacher's heatmaps, summed over fields.

    Args:
        predicted: the student's maps by field name.
        taught: the teacher's heatmaps `[B, K, h, w]`; only these fields are compared.
        masks: which cells count, by field name; fields without one count whole. Lite Pose uses the same as
            for the labels (arXiv:2205.01271).
    """
    parts = [heatmap_loss(predicted[name], target, masks.get(name)) for name, target in taught.items()]
    return torch.stack(parts).sum()


def taught_location_loss(
    predicted: Mapping[str, Tensor],
    taught: Mapping[str, Tensor],
    masks: Mapping[str, Tensor],
) -> Tensor:
    """Compare a teacher's and a student's heatmaps by cross-entropy, as distributions, summed over fields.

    Where a label names one cell, the teacher says how likely each is; a map counts as much as the teacher is
    sure to see anything.

    Args:
        predicted: the student's chances by field name.
        taught: the teacher's chances `[B, K, h, w]`; only these fields are compared.
        masks: which cells count, by field name; fields without one count whole.

    Returns:
        Scalar in nats: mean over the maps of each field, weighted by the teacher's highest chance.
    """
    parts = []
    for name, chances in taught.items():
        mask = masks.get(name)
        counts = torch.ones_like(chances) if mask is None else mask.expand_as(chances)
        teacher, student = (
            maps.logit(eps=SMALLEST_CHANCE).masked_fill(counts == 0, -1e4).flatten(2)
            for maps in (chances, predicted[name])
        )
        entropy = -(teacher.softmax(dim=2) * student.log_softmax(dim=2)).sum(dim=2)
        sureness = (chances * counts).flatten(2).amax(dim=2)
        parts.append((entropy * sureness).sum() / sureness.sum().clamp(min=1))
    return torch.stack(parts).sum()
