"""Drawn numbers are those of NumPy's Generator as it is today, in whatever order they are asked for."""

import hashlib
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from advseg.trainers.data.draws import Draws, key_of

words = st.integers(0, 2**64 - 1)
counters = st.tuples(words, words, words, words)
asked = st.lists(
    st.one_of(
        st.tuples(st.just("random")),
        st.tuples(st.just("uniform"), st.floats(-10, 10), st.floats(-10, 10)).map(
            lambda drawn: (drawn[0], *sorted(drawn[1:]))
        ),
        st.tuples(st.just("integers"), st.integers(1, 20) | st.integers(1, 2**32 - 1)),
        st.tuples(st.just("permutation"), st.integers(0, 30)),
    ),
    max_size=20,
)


def numpys(key: tuple[int, ...], counter: tuple[int, ...]) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=np.array(key, np.uint64), counter=np.array(counter, np.uint64)))


@settings(deadline=None, max_examples=200)
@given(st.tuples(words, words), counters, asked)
def test_numbers_are_those_of_numpys_generator(key, counter, asked):
    ours, theirs = Draws(list(key), list(counter)), numpys(key, counter)

    for name, *arguments in asked:
        assert np.array_equal(getattr(ours, name)(*arguments), getattr(theirs, name)(*arguments))


@pytest.mark.parametrize("count", [2**31 + 1, 3 * 2**30, 2**32 - 1])
def test_numbers_that_are_often_rejected_are_numpys_too(count):
    ours, theirs = Draws([1, 2], [0, 0, 3, 4]), numpys((1, 2), (0, 0, 3, 4))

    assert [ours.integers(count) for _ in range(200)] == [theirs.integers(count) for _ in range(200)]


@pytest.mark.parametrize("count", [1000, 11_355])
def test_a_long_order_is_numpys(count):
    assert np.array_equal(
        Draws([5, 6], [0, 0, 0, 7]).permutation(count), numpys((5, 6), (0, 0, 0, 7)).permutation(count)
    )


@pytest.mark.parametrize("seed", range(12))
def test_a_key_is_what_numpy_makes_of_a_list_of_its_words(seed):
    digest = hashlib.sha256(f"d/labelled/{seed}".encode()).digest()
    words = [int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:16], "little")]

    assert key_of("d", "labelled", seed) == np.random.Philox(key=words).state["state"]["key"].tolist()


def test_numbers_are_what_they_were():
    """Whatever NumPy does: a run that began with these goes on with these."""
    draws = Draws([1, 2], [0, 0, 3, 4])

    drawn = [
        draws.random(),
        draws.integers(1000),
        draws.uniform(0.5, 1.5),
        draws.integers(7),
        draws.integers(1),
        draws.permutation(20).tolist(),
        draws.random(),
    ]

    assert hashlib.sha256(json.dumps(drawn).encode()).hexdigest()[:16] == "f32f141a13325598"
