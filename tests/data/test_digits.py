"""The built-in name `digits`: its split, its values, and seeded subsets of it."""

import pytest
import torch

from optprune_fast.data import load

pytest.importorskip("sklearn", reason="scikit-learn is not installed")


def test_digits_split_is_stratified_seeded_and_whole():
    data = load("digits")
    assert data.train[0].shape == (1347, 1, 8, 8)
    assert data.test[0].shape == (450, 1, 8, 8)
    assert data.train[0].dtype == torch.float32
    assert data.train[1].dtype == torch.int64
    train, test = (part[1].bincount(minlength=10) for part in (data.train, data.test))
    assert ((test / (train + test) - 0.25).abs() < 0.005).all()
    assert (train + test).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    again, other = load("digits"), load("digits", seed=1)
    assert torch.equal(data.test[0], again.test[0])
    assert not torch.equal(data.test[0], other.test[0])


def test_digits_are_standardised_by_the_training_part():
    data = load("digits")
    assert data.train[0].mean().abs() < 1e-5
    assert abs(data.train[0].std(correction=0) - 1) < 1e-5
    plain = load("digits", mean=0, std=1)
    assert plain.mean == (0.0,)
    assert plain.train[0].unique().tolist() == [step / 16 for step in range(17)]
    torch.testing.assert_close(data.test[0], (plain.test[0] - data.mean[0]) / data.std[0])


def test_limit_draws_a_seeded_subset_normalised_as_the_whole():
    whole, some, fewer = load("digits"), load("digits", limit=100), load("digits", limit=10)
    assert len(some.train[1]) == len(some.test[1]) == 100
    assert (some.mean, some.std) == (whole.mean, whole.std)
    assert torch.equal(some.train[0][:10], fewer.train[0])
    rows = {tuple(row) for row in whole.train[0].flatten(1).tolist()}
    assert all(tuple(row) in rows for row in some.train[0].flatten(1).tolist())
    assert not torch.equal(some.train[1], whole.train[1][:100])
    assert len(load("digits", limit=10**9).train[1]) == len(whole.train[1])


def test_repr_is_one_line():
    assert repr(load("digits", limit=5)) == (
        "Dataset digits: 10 classes, train float32[5, 1, 8, 8] cpu, test float32[5, 1, 8, 8] cpu"
    )
