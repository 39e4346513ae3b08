"""Turns are told apart by all that is before them, texts by all of their characters."""

from tl_jax.data.render.reply_cache import ReplyCache, digests_before


def test_turns_have_the_same_number_only_after_the_same_turns():
    places = ReplyCache()
    first = places.numbers("m", [0, 1, 2])
    assert len(set(first)) == 3
    assert places.numbers("m", [0, 1, 2, 3])[:3] == first
    for other in (["n", [0, 1, 2]], ["m", [~0, 1, 2]], ["m", [1, 2]], ["m", [2, 1, 0]]):
        assert not set(places.numbers(*other)) & set(first)
    assert places.numbers("m", [0, ~1, 2])[0] == first[0]
    assert not set(places.numbers("m", [0, ~1, 2])[1:]) & set(first)


def test_a_digest_is_that_of_the_beginning_and_of_no_other_text():
    text = "a\ud800é" + "b" * 99
    ends = [7, 2, 3, 7, len(text), len(text) + 5]
    digests = digests_before(text, ends)
    assert sorted(digests) == sorted(set(ends))
    for end in digests:
        alone = digests_before(text[:end], [end])
        assert digests[end] == alone[end]
    assert len({digests[end] for end in set(ends[:-1])}) == len(set(ends[:-1]))
    # a text that is too short has not the digest of the longer one
    assert digests_before(text[:6], [7])[7] != digests[7]
