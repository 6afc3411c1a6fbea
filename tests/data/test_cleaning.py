import pytest
from hypothesis import given
from hypothesis import strategies as st

from qkv.data import CLEANING, clean_text
from qkv.errors import InputError


@pytest.mark.parametrize(
    ("step", "before", "after"),
    [
        ("entities", "a &lt;3 b &quot;c&quot; &amp;amp; d", 'a <3 b "c" & d'),
        ("addresses", "see http://t.co/Ab?x=1 or WWW.a.org/ now", "see http or http now"),
        ("mentions", "@ann_1 and @Bob: hi", "@user and @user : hi"),
        ("mentions", "me@home.org", "me@home.org"),
        ("hashtags", "#SoHappy #so_happy #fail #1", "So Happy so happy fail #1"),
        ("emoticons", ":-) =) (: :)))) ;-) :-( :'( ): :D :P <3 :/", ":) :) :) :) ;) :( :( :( :D :P <3 :/"),
        ("emoticons", "at 10:30 (or: 11) a:b http://x", "at 10:30 (or: 11) a:b http://x"),
        ("elongated", "soooo good!!!! 1000 aaB", "soo good!! 1000 aaB"),
    ],
)
def test_each_step_by_hand(step, before, after):
    assert clean_text(before, [step]) == after
    assert clean_text(before, []) == " ".join(before.split())


def test_steps_are_taken_in_one_order():
    # An entity makes a heart only once it is read: `&lt;3`.
    text = "I &lt;333 http://x.y #LoveIt"
    assert clean_text(text, reversed(CLEANING)) == clean_text(text) == "I <3 http Love It"


@given(st.text())
def test_clean_text_stays_as_it_is(text):
    once = clean_text(text)
    assert once == " ".join(once.split())
    assert clean_text(text, []) == " ".join(text.split())


def test_unknown_steps_are_refused():
    with pytest.raises(InputError, match=r"unknown cleaning step 'emoticon'\. .* Try: emoticons"):
        clean_text("a", ["emoticon"])
