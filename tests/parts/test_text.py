"""Sentences as numbers of words."""

import pytest

from course_lib.parts.text import PADDING, count_words, numbers, split


def test_words_of_a_sentence():
    assert split("A red Boat, at night!") == ["a", "red", "boat", "at", "night"]
    assert split("the cat's well-kept house (no. 3) über_all") == ["the", "cat's", "well-kept", "house", "no", "über",
                                                                  "all"]
    assert split("…") == []


def test_words_by_frequency_and_then_by_the_alphabet():
    assert list(count_words(["b a", "a c", "a b d"]).items()) == [("a", 3), ("b", 2), ("c", 1), ("d", 1)]


def test_numbers_of_words():
    words = ("a", "red", "boat")
    assert numbers(["A boat", "a red boat", ""], words).tolist() == [[0, 2, PADDING], [0, 1, 2], [PADDING] * 3]
    assert numbers([""], words).tolist() == [[PADDING]]


@pytest.mark.parametrize("sentences", ["a boat", [], ()])
def test_what_is_no_list_of_sentences(sentences):
    with pytest.raises(ValueError, match="sentences come as a list with at least one, got"):
        numbers(sentences, ("a", "boat"))


def test_words_that_were_not_learned_are_named():
    with pytest.raises(ValueError, match=r"these words were not learned: blue, house\. Known are a, boat"):
        numbers(["a blue boat", "a house"], ("a", "boat"))
