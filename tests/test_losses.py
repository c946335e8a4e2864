import math

import numpy as np
import pytest
import torch

from fleetpose.losses import (
    LOCATION_SHARPNESS,
    associative_embedding_losses,
    class_loss,
    class_weights,
    distillation_loss,
    hard_keypoints,
    heatmap_loss,
    location_loss,
    part_affinity_losses,
    presence_loss,
    tag_loss,
    taught_location_loss,
    top_down_losses,
)


def cells_of(people, *, num_keypoints=3, max_people=4):
    """Tag cells `[1, N, K]` of people given as {keypoint: cell}."""
    cells = torch.full((1, max_people, num_keypoints), -1)
    for person, keypoints in enumerate(people):
        for keypoint, cell in keypoints.items():
            cells[0, person, keypoint] = cell
    return cells


def tags_with(values, *, num_keypoints=3, size=(2, 4)):
    """Tag maps `[1, K, h, w]`, 0 but for {(keypoint, cell): tag}."""
    tags = torch.zeros(1, num_keypoints, math.prod(size))
    for (keypoint, cell), value in values.items():
        tags[0, keypoint, cell] = value
    return tags.reshape(1, num_keypoints, *size)


class TestHeatmapLoss:
    def test_it_is_the_mean_squared_error_over_all_cells(self):
        target = torch.zeros(2, 3, 4, 5)
        predicted = target.clone()
        predicted[0, 1, 2, 3] = 0.6

        assert heatmap_loss(predicted, target).item() == pytest.approx(0.36 / 120)

    def test_ignored_cells_add_nothing_but_stay_in_the_denominator(self):
        predicted = torch.tensor([[[[1.0, 2.0]]]])
        mask = torch.tensor([[[[1, 0]]]], dtype=torch.uint8)

        assert heatmap_loss(predicted, torch.zeros(1, 1, 1, 2), mask).item() == pytest.approx(0.5)

    def test_cells_near_a_keypoint_weigh_more_on_request(self):
        target = torch.tensor([[[[1.0, 0.5, 0.0]]]])
        predicted = target + 0.1

        loss = heatmap_loss(predicted, target, foreground_weight=4.0)

        assert loss.item() == pytest.approx(0.01 * (5 + 3 + 1) / 3, rel=1e-5)

    def test_no_gradient_reaches_ignored_cells(self):
        predicted = torch.ones(1, 1, 1, 2, requires_grad=True)

        heatmap_loss(predicted, torch.zeros(1, 1, 1, 2), torch.tensor([[[[1.0, 0.0]]]])).backward()

        assert predicted.grad.flatten().tolist() == [1.0, 0.0]


class TestTagLoss:
    def test_equal_tags_of_one_person_cost_nothing(self):
        cells = cells_of([{0: 1, 1: 2, 2: 5}])
        tags = tags_with({(0, 1): 0.7, (1, 2): 0.7, (2, 5): 0.7})

        pull, push = tag_loss(tags, cells)

        assert pull.item() == pytest.approx(0, abs=1e-12)
        assert push.item() == 0

    def test_pull_is_the_mean_over_people_of_their_tags_variance(self):
        cells = cells_of([{0: 0, 1: 1}, {0: 2, 1: 3, 2: 4}])
        tags = tags_with({(0, 0): 1.0, (1, 1): 3.0, (0, 2): 10.0, (1, 3): 10.0, (2, 4): 13.0})

        pull, _ = tag_loss(tags, cells)

        assert pull.item() == pytest.approx((1.0 + 2.0) / 2)

    def test_push_is_half_the_mean_closeness_of_ordered_pairs(self):
        cells = cells_of([{0: 0}, {0: 1}, {0: 2}])
        tags = tags_with({(0, 0): 0.0, (0, 1): 1.0, (0, 2): 3.0})

        _, push = tag_loss(tags, cells)

        closeness = 2 * (math.exp(-1) + math.exp(-9) + math.exp(-4))
        assert push.item() == pytest.approx(0.5 * closeness / 6)

    def test_with_a_hinge_only_people_less_than_one_apart_are_pushed(self):
        cells = cells_of([{0: 0}, {0: 1}, {0: 2}])
        tags = tags_with({(0, 0): 0.0, (0, 1): 0.25, (0, 2): 3.0})

        _, push = tag_loss(tags, cells, has_hinge=True)

        assert push.item() == pytest.approx(0.5 * 2 * 0.75 / 6)

    def test_absent_people_and_keypoints_play_no_part(self):
        tags = tags_with({(0, 0): 1.0, (1, 1): 3.0, (2, 0): 99.0})

        with_gaps = tag_loss(tags, cells_of([{}, {0: 0, 1: 1}, {}]))
        without = tag_loss(tags, cells_of([{0: 0, 1: 1}], max_people=1))

        torch.testing.assert_close(with_gaps, without)

    def test_a_picture_without_people_costs_nothing_and_has_gradients(self):
        tags = torch.randn(2, 3, 2, 4, requires_grad=True)

        pull, push = tag_loss(tags, torch.full((2, 4, 3), -1))
        (pull + push).backward()

        assert (pull.item(), push.item()) == (0, 0)
        assert (tags.grad == 0).all()

    def test_a_batch_is_averaged_over_all_its_pictures(self):
        cells = torch.cat([cells_of([{0: 0, 1: 1}]), cells_of([])])
        tags = tags_with({(0, 0): 1.0, (1, 1): 3.0}).repeat(2, 1, 1, 1)

        pull, _ = tag_loss(tags, cells)

        assert pull.item() == pytest.approx(0.5)

    def test_descending_draws_a_person_together_and_people_apart(self):
        cells = cells_of([{0: 0, 1: 1}, {0: 2, 1: 3}])
        tags = tags_with({(0, 0): 0.1, (1, 1): -0.1, (0, 2): 0.3, (1, 3): 0.2}).requires_grad_()

        for _ in range(200):
            pull, push = tag_loss(tags, cells)
            (gradient,) = torch.autograd.grad(pull + push, tags)
            tags.data -= gradient

        flat = tags.detach().flatten(2)[0]
        first, second = (flat[0, 0], flat[1, 1]), (flat[0, 2], flat[1, 3])
        assert abs(first[0] - first[1]) < 0.05
        assert abs(second[0] - second[1]) < 0.05
        assert second[0] - first[0] > 1.5

    def test_gradients_equal_differences(self):
        torch.manual_seed(0)
        tags = torch.randn(1, 3, 2, 4, dtype=torch.float64, requires_grad=True)
        cells = cells_of([{0: 0, 1: 1}, {0: 2, 1: 3, 2: 7}])

        assert torch.autograd.gradcheck(lambda maps: tag_loss(maps, cells), (tags,))


class TestLocationLoss:
    def test_a_flat_map_costs_the_logarithm_of_its_cells(self):
        target = torch.zeros(1, 1, 4, 4)
        target[0, 0, 1, 1:3] = 1.0

        assert location_loss(torch.zeros(1, 1, 4, 4), target).item() == pytest.approx(math.log(16))

    def test_ignored_cells_leave_the_distribution(self):
        target = torch.zeros(1, 1, 4, 4)
        target[0, 0, 1, 1:3] = 1.0
        mask = torch.ones(1, 1, 4, 4)
        mask[0, 0, 3] = 0
        predicted = torch.zeros(1, 1, 4, 4)
        predicted[0, 0, 3] = 50.0

        assert location_loss(predicted, target, mask).item() == pytest.approx(math.log(12))

    def test_it_is_the_cross_entropy_at_the_stated_sharpness(self):
        target = torch.tensor([[[[1.0, 0.5, 0.0]]]])
        predicted = torch.tensor([[[[0.3, 0.1, 0.0]]]])
        logits = [LOCATION_SHARPNESS * value for value in (0.3, 0.1, 0.0)]
        total = math.log(sum(math.exp(value) for value in logits))

        expected = ((total - logits[0]) + 0.5 * (total - logits[1])) / 1.5

        assert location_loss(predicted, target).item() == pytest.approx(expected, rel=1e-5)

    def test_maps_without_a_keypoint_are_left_out_of_the_mean(self):
        target = torch.zeros(1, 3, 4, 4)
        target[0, 1, 1, 1:3] = 1.0
        target[0, 2, 0, 0] = 0.3  # the rim of a keypoint beyond the edge

        assert location_loss(torch.zeros(1, 3, 4, 4), target).item() == pytest.approx(math.log(16))

    def test_without_any_keypoint_it_is_zero_and_has_gradients(self):
        predicted = torch.zeros(1, 2, 4, 4, requires_grad=True)

        loss = location_loss(predicted, torch.zeros(1, 2, 4, 4))
        loss.backward()

        assert loss.item() == 0
        assert (predicted.grad == 0).all()

    def test_descending_raises_the_right_cell(self):
        target = torch.zeros(1, 1, 4, 4)
        target[0, 0, 2, 1:3] = 1.0
        predicted = torch.zeros(1, 1, 4, 4, requires_grad=True)

        location_loss(predicted, target).backward()

        is_full = target > 0
        assert (predicted.grad[is_full] < 0).all()
        assert (predicted.grad[~is_full] > 0).all()


class TestTotal:
    def parts(self, **weights):
        torch.manual_seed(0)
        heatmaps = {"heatmaps_s4": torch.rand(2, 3, 4, 4), "heatmaps_s2": torch.rand(2, 3, 8, 8)}
        predicted = {name: torch.rand_like(target) for name, target in heatmaps.items()}
        predicted["tags_s4"] = torch.randn(2, 3, 4, 4)
        masks = {name: torch.ones_like(target) for name, target in heatmaps.items()}
        cells = torch.randint(0, 16, (2, 4, 3))
        return associative_embedding_losses(predicted, heatmaps, masks, cells, tags="tags_s4", **weights)

    def test_both_scales_count_in_full_and_tags_a_thousandth(self):
        parts = self.parts()

        expected = parts["heatmaps_s4"] + parts["heatmaps_s2"] + 1e-3 * (parts["pull"] + parts["push"])
        assert parts["total"].item() == pytest.approx(expected.item())
        assert "location" not in parts

    def test_the_hinge_leaves_people_alone_whose_tags_are_apart(self):
        cells = torch.tensor([[[0], [1]]])
        predicted = {"heatmaps_s4": torch.zeros(1, 1, 1, 2), "tags_s4": torch.tensor([[[[0.0, 1.5]]]])}
        target = {"heatmaps_s4": torch.zeros(1, 1, 1, 2)}

        plain, hinged = (
            associative_embedding_losses(
                predicted, target, {}, cells, tags="tags_s4", tag_weight=1.0, has_hinge=has_hinge
            )
            for has_hinge in (False, True)
        )

        assert plain["push"] == pytest.approx(0.5 * math.exp(-(1.5**2)))
        assert plain["total"] == pytest.approx(plain["push"].item())
        assert hinged["push"] == hinged["total"] == 0

    def test_weights_multiply_their_parts(self):
        parts = self.parts(tag_weight=0.5, location_weight=0.25)

        expected = (
            parts["heatmaps_s4"]
            + parts["heatmaps_s2"]
            + 0.5 * (parts["pull"] + parts["push"])
            + 0.25 * parts["location"]
        )
        assert parts["total"].item() == pytest.approx(expected.item())

    def test_heatmap_fields_have_weights_of_their_own_and_those_with_none_are_left_out(self):
        alone = self.parts(location_weight=0.5)

        parts = self.parts(location_weight=0.5, heatmap_weights={"heatmaps_s4": 3.0, "heatmaps_s2": 0.0})

        tags = 1e-3 * (parts["pull"] + parts["push"])
        expected = 3 * alone["heatmaps_s4"] + tags + 0.5 * parts["location"]
        assert "heatmaps_s2" not in parts
        assert parts["location"] < 3 * alone["location"]
        assert parts["total"].item() == pytest.approx(expected.item())


class TestTopDown:
    def parts(self, weights=((1, 1, 1), (1, 1, 1)), **factors):
        torch.manual_seed(0)
        target = torch.zeros(2, 3, 6, 4)
        target[:, :, 2, 1:3] = 1
        predicted = torch.rand_like(target)
        return top_down_losses(predicted, target, torch.tensor(weights).float(), **factors)

    def test_the_papers_loss_is_the_squared_error(self):
        torch.manual_seed(0)
        predicted = torch.rand(2, 3, 6, 4)
        target = torch.zeros(2, 3, 6, 4)

        parts = top_down_losses(predicted, target, torch.ones(2, 3))

        assert parts["total"].item() == pytest.approx(predicted.square().mean().item())
        assert set(parts) == {"heatmaps", "total"}

    def test_factors_multiply_their_parts(self):
        parts = self.parts(presence_weight=0.5, location_weight=0.25)

        alone = self.parts(presence_weight=1.0)
        assert parts["heatmaps"].item() == pytest.approx(0.5 * alone["heatmaps"].item())
        assert parts["total"].item() == pytest.approx((parts["heatmaps"] + 0.25 * parts["location"]).item())

    @pytest.mark.parametrize("factors", [{}, {"foreground_weight": 3.0}, {"presence_weight": 1.0}])
    def test_keypoints_that_nobody_labelled_teach_nothing(self, factors):
        torch.manual_seed(0)
        target = torch.rand(1, 2, 6, 4)
        predicted = torch.rand(1, 2, 6, 4, requires_grad=True)

        parts = top_down_losses(predicted, target, torch.tensor([[1.0, 0.0]]), location_weight=1.0, **factors)
        parts["total"].backward()

        assert predicted.grad[0, 0].abs().min() > 0
        assert predicted.grad[0, 1].abs().max() == 0


@pytest.fixture(scope="module")
def reference(shared):
    """Inputs and losses of four pictures, from the official implementation."""
    with np.load(shared / "golden/loss/bottomup.npz") as arrays:
        return {name: torch.from_numpy(array) for name, array in arrays.items()}


def test_heatmap_loss_equals_the_official_one(reference):
    for picture in range(4):
        predicted, target = reference["pred"][picture], reference["gt"][picture]
        mask = reference["mask"][picture].expand_as(target)

        loss = heatmap_loss(predicted[None], target[None], mask[None])

        torch.testing.assert_close(loss, reference["heatmap_loss"][picture])


@pytest.mark.parametrize(("has_hinge", "variant"), [(False, "exp"), (True, "max")])
def test_tag_loss_equals_the_official_one(reference, has_hinge, variant):
    index, is_present = reference["joint_idx"].long().unbind(dim=-1)  # [B, N, K]
    # The official tags lie in a row, in any order, ours on the map of their keypoint: put person n in cell n.
    values = reference["tags"][:, :, 0].gather(1, index.flatten(1)).reshape(index.shape)
    tags = values.transpose(1, 2)[:, :, None]  # [B, K, 1, N]
    people = torch.arange(index.shape[1])[None, :, None]
    cells = torch.where(is_present > 0, people, -1)

    losses = [tag_loss(tags[n : n + 1], cells[n : n + 1], has_hinge=has_hinge) for n in range(4)]

    torch.testing.assert_close(torch.stack([pull for pull, _ in losses]), reference[f"pull_{variant}"])
    torch.testing.assert_close(torch.stack([push for _, push in losses]), reference[f"push_{variant}"])


#: The authors of the top-down family halve their squared errors.
AUTHORS_FACTOR = 0.5


@pytest.fixture(scope="module")
def top_down_reference(shared):
    """Heatmaps, weights and losses of three crops, from the official implementation."""
    with np.load(shared / "golden/loss/joints_mse.npz") as arrays:
        return {name: torch.from_numpy(array) for name, array in arrays.items()}


@pytest.mark.parametrize(("name", "is_weighted"), [("mse", True), ("mse_noweight", False)])
def test_the_top_down_loss_is_twice_the_official_one(name, is_weighted, top_down_reference):
    weights = top_down_reference["weight"][:, :, 0]
    weights = weights if is_weighted else torch.ones_like(weights)

    parts = top_down_losses(top_down_reference["output"], top_down_reference["target"], weights)

    torch.testing.assert_close(AUTHORS_FACTOR * parts["total"], top_down_reference[name])


def test_presence_is_the_cross_entropy_per_keypoint_mass():
    target = torch.tensor([[[[1.0, 0.0, 0.0]]]])
    predicted = torch.tensor([[[[0.5, 0.5, 0.2]]]])

    loss = presence_loss(predicted, target)

    by_hand = math.log(2) + math.log(2) - math.log(0.8)
    assert loss == pytest.approx(by_hand, abs=1e-6)


def test_presence_weighs_a_keypoint_alike_on_small_and_large_maps():
    small, large = torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 64, 64)
    small[0, 0, 1, 1] = large[0, 0, 1, 1] = 1
    empty_chance = 1e-6

    losses = [presence_loss(torch.full_like(target, empty_chance), target) for target in (small, large)]

    assert losses[0] == pytest.approx(losses[1].item(), rel=1e-2)


def test_presence_ignores_cells_that_do_not_count_and_survives_certainty():
    target = torch.tensor([[[[1.0, 0.0]]]])
    mask = torch.tensor([[[[1, 0]]]])

    loss = presence_loss(torch.tensor([[[[1.0, 1.0]]]]), target, mask)

    assert 0 <= float(loss) < 1e-4


def test_location_of_chances_compares_their_logits():
    logits = torch.tensor([[[[2.0, -1.0, 0.5, 0.0]]]])
    target = torch.tensor([[[[0.0, 0.0, 1.0, 0.5]]]])

    loss = location_loss(logits.sigmoid(), target, are_chances=True)

    by_hand = -(logits.log_softmax(dim=-1) * target).sum() / target.sum()
    assert loss == pytest.approx(by_hand.item(), abs=1e-4)


def test_the_presence_weight_replaces_the_squared_error():
    predicted = {"heatmaps_s4": torch.full((1, 1, 2, 2), 0.5), "tags_s4": torch.zeros(1, 1, 2, 2)}
    target = {"heatmaps_s4": torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]])}
    cells = torch.full((1, 1, 1), -1)

    parts = associative_embedding_losses(predicted, target, {}, cells, tags="tags_s4", presence_weight=3.0)

    assert parts["heatmaps_s4"] == pytest.approx(3 * 4 * math.log(2), abs=1e-5)
    assert parts["total"] == pytest.approx(parts["heatmaps_s4"].item())


def test_only_the_hardest_keypoints_count_and_make_up_for_the_rest():
    target = torch.zeros(1, 4, 2, 2)
    predicted = torch.tensor([1.0, 3.0, 2.0, 4.0]).view(1, 4, 1, 1).expand(1, 4, 2, 2)
    weights = torch.tensor([[1.0, 1.0, 1.0, 0.0]])

    kept = hard_keypoints(predicted, target, weights, count=2)

    assert kept.tolist() == [[0, 2, 2, 0]]


def test_hard_keypoints_make_the_top_down_loss_the_mean_of_the_largest_errors():
    target = torch.zeros(1, 4, 2, 2)
    predicted = torch.tensor([1.0, 3.0, 2.0, 4.0]).view(1, 4, 1, 1).expand(1, 4, 2, 2)

    parts = top_down_losses(predicted, target, torch.ones(1, 4), hardest=2)

    assert parts["total"] == pytest.approx((9 + 16) / 2)


@pytest.mark.parametrize(("name", "is_weighted"), [("ohkm8", True), ("ohkm_noweight8", False)])
def test_the_loss_of_the_hardest_eight_is_twice_the_official_one(name, is_weighted, top_down_reference):
    weights = top_down_reference["weight"][:, :, 0]
    weights = weights if is_weighted else torch.ones_like(weights)
    maps = top_down_reference["output"], top_down_reference["target"]

    parts = top_down_losses(*maps, weights, hardest=8)

    torch.testing.assert_close(AUTHORS_FACTOR * parts["total"], top_down_reference[name])


def test_fields_of_vectors_have_their_own_factor():
    predicted = {"heatmaps_s8": torch.ones(1, 1, 2, 2), "pafs_s8": torch.ones(1, 2, 2, 2)}
    targets = {name: torch.zeros_like(value) for name, value in predicted.items()}
    masks = {"heatmaps_s8": torch.ones(1, 1, 1, 1), "pafs_s8": torch.tensor([1.0, 0.0]).view(1, 2, 1, 1)}

    parts = part_affinity_losses(predicted, targets, masks, pafs={"pafs_s8": 3.0})

    assert (parts["heatmaps_s8"], parts["pafs_s8"], parts["total"]) == (1.0, 0.5, 2.5)


def test_heatmaps_beside_fields_of_vectors_may_be_chances_of_places():
    heatmaps = torch.tensor([0.9, 0.1, 0.1, 0.1]).view(1, 1, 2, 2)
    target = torch.tensor([1.0, 0.1, 0.0, 0.0]).view(1, 1, 2, 2)
    predicted = {"heatmaps_s8": heatmaps, "pafs_s8": torch.ones(1, 2, 2, 2)}
    targets = {"heatmaps_s8": target, "pafs_s8": torch.zeros(1, 2, 2, 2)}
    masks = dict.fromkeys(targets, torch.ones(1, 1, 1, 1))

    parts = part_affinity_losses(
        predicted, targets, masks, pafs={"pafs_s8": 3.0}, location_weight=5.0, presence_weight=2.0
    )

    presence = presence_loss(heatmaps, target)
    location = location_loss(heatmaps, target, are_chances=True)
    assert parts["pafs_s8"] == 1.0
    torch.testing.assert_close(parts["heatmaps_s8"], presence)
    torch.testing.assert_close(parts["location"], location)
    torch.testing.assert_close(parts["total"], 3.0 + 2 * presence + 5 * location)


def test_pixels_of_no_class_do_not_count():
    scores = torch.zeros(1, 2, 1, 2)
    scores[0, 1, 0, 1] = 100

    assert class_loss(scores, torch.tensor([[[0, 255]]])) == pytest.approx(math.log(2))
    assert class_loss(scores, torch.full((1, 1, 2), 255)) == 0


def test_another_class_than_255_may_stand_for_none():
    scores, labels = torch.zeros(1, 300, 1, 1), torch.full((1, 1, 1), 255)

    assert class_loss(scores, labels, ignored=-1) == pytest.approx(math.log(300))
    assert class_loss(scores, labels - 256, ignored=-1) == 0


def test_scores_are_enlarged_to_the_labels():
    scores = torch.tensor([0.0, 9.0]).view(1, 2, 1, 1)

    loss = class_loss(scores, torch.ones(1, 4, 6, dtype=torch.int64))

    assert loss == pytest.approx(math.log(1 + math.exp(-9)), rel=1e-3)


def test_a_weighted_class_pulls_harder():
    scores = torch.tensor([[0.0, 0.0], [0.0, 5.0]]).view(2, 2, 1, 1)
    labels = torch.tensor([0, 1]).view(2, 1, 1)

    plain = class_loss(scores, labels)

    assert class_loss(scores, labels, weights=torch.tensor([3.0, 1.0])) > plain
    assert class_loss(scores, labels, weights=torch.tensor([2.0, 2.0])) == pytest.approx(float(plain))


def test_rare_classes_weigh_more_and_absent_ones_do_not_shift_the_mean():
    weights = class_weights(torch.tensor([900.0, 100.0, 0.0]))

    assert weights[1] > weights[0]
    assert float(weights[:2].mean()) == pytest.approx(1)


def test_a_teacher_is_only_heard_where_the_mask_lets_it():
    predicted = {"a": torch.ones(1, 2, 1, 1), "b": torch.ones(1, 1, 1, 2)}
    taught = {name: torch.zeros_like(value) for name, value in predicted.items()}

    loss = distillation_loss(predicted, taught, {"a": torch.tensor([1.0, 0.0]).view(1, 2, 1, 1)})

    assert loss == pytest.approx(0.5 + 1)


def _chances(*odds):
    """One map `[1, 1, 1, w]` of chances with these odds."""
    return torch.tensor([[[[one / (1 + one) for one in odds]]]])


def test_a_student_learns_how_its_teacher_spreads_a_keypoint_over_places():
    taught, predicted = (maps.repeat(2, 1, 1, 1) for maps in (_chances(3.0, 1.0), _chances(0.5, 0.5)))

    loss = taught_location_loss({"a": predicted}, {"a": taught}, {})

    # Shares 3/4 and 1/4 against two halves.
    assert float(loss) == pytest.approx(math.log(2))
    own = taught_location_loss({"a": taught}, {"a": taught}, {})
    assert float(own) == pytest.approx(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))


def test_maps_teach_places_as_much_as_the_teacher_is_sure():
    sure, unsure = _chances(4.0, 4.0), _chances(0.25, 0.25)
    taught = torch.cat([sure, unsure], dim=1)
    predicted = torch.cat([_chances(1.0, 1.0), _chances(9.0, 1.0)], dim=1)

    loss = taught_location_loss({"a": predicted}, {"a": taught}, {})

    apart = math.log(2), -0.5 * (math.log(0.9) + math.log(0.1))
    assert float(loss) == pytest.approx((0.8 * apart[0] + 0.2 * apart[1]) / 1.0)


@pytest.mark.parametrize("is_per_cell", [False, True])
def test_cells_and_maps_that_do_not_count_teach_no_place(is_per_cell):
    taught = torch.cat([_chances(2.0, 1.0, 8.0), _chances(5.0, 5.0, 5.0)], dim=1)
    predicted = torch.cat([_chances(1.0, 1.0, 7.0), _chances(9.0, 1.0, 1.0)], dim=1)
    mask = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1)
    if is_per_cell:
        mask = mask * torch.tensor([1.0, 1.0, 0.0])

    loss = taught_location_loss({"a": predicted}, {"a": taught}, {"a": mask})

    sureness = taught[0, 0, 0, :2].max() if is_per_cell else taught[0, 0].max()
    teacher, student = ((2, 1), (1, 1)) if is_per_cell else ((2, 1, 8), (1, 1, 7))
    entropy = -sum(
        a / sum(teacher) * math.log(b / sum(student)) for a, b in zip(teacher, student, strict=True)
    )
    # Less than one sure map in all counts as one.
    assert float(loss) == pytest.approx(float(sureness) * entropy, rel=1e-5)


def test_no_place_is_taught_where_the_teacher_sees_nothing():
    nothing, predicted = torch.zeros(1, 1, 2, 2), torch.full((1, 1, 2, 2), 0.5, requires_grad=True)

    taught_location_loss({"a": predicted}, {"a": nothing}, {}).backward()

    assert predicted.grad.abs().max() < 1e-6
