"""The invented creatures: what creatures of a class or of a family share, and how they differ."""

import numpy as np

from data import creatures


def test_no_class_is_in_both_splits_or_twice_in_one():
    recipes = [creatures.recipe(0, split, number) for split in (0, 1) for number in range(40)]
    recipes = [{trait: np.asarray(value).tolist() for trait, value in r.items()} for r in recipes]
    assert all(a != b for i, a in enumerate(recipes) for b in recipes[:i])


def test_a_family_shares_its_body_plan_and_strangers_do_not():
    plan = lambda n: [creatures.recipe(0, 0, n)[trait] for trait in creatures.TRAITS]
    assert plan(0) == plan(creatures.FAMILY - 1)
    assert plan(0) != plan(creatures.FAMILY)


def test_every_pattern_and_part_can_be_drawn():
    base = creatures.recipe(0, 0, 0)
    for trait in ("pattern", "crown", "back"):
        kinds = {str(creatures.DETAILS[trait](np.random.default_rng(seed))) for seed in range(200)}
        pictures = {creatures.snapshot(base | {trait: kind}, np.random.default_rng(0)).tobytes() for kind in kinds}
        assert len(pictures) == len(kinds) > 4
