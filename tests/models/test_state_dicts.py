"""Renaming of checkpoint entries loses nothing unnoticed."""

import pytest

from fleetpose.errors import CheckpointError
from fleetpose.models.state_dicts import rename_keys

RULES = [(r"stage(\d)\.", r"stages.\1."), (r"phase(\d)\.", r"stages.\1.")]


def test_only_the_start_of_a_name_is_rewritten():
    assert rename_keys({"stage2.stage3.weight": 1}, RULES) == {"stages.2.stage3.weight": 1}


def test_a_name_that_no_rule_knows_is_refused():
    with pytest.raises(CheckpointError, match=r"entry 'my\.stage2\.weight' is not known"):
        rename_keys({"my.stage2.weight": 1}, RULES)


def test_two_entries_cannot_become_one():
    with pytest.raises(CheckpointError, match=r"entry 'phase2\.weight' collides on 'stages\.2\.weight'"):
        rename_keys({"stage2.weight": 1, "phase2.weight": 2}, RULES)
