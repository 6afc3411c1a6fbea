"""Morse code without a download: random words keyed as tones, at varying speed, pitch and noise."""

from collections.abc import Collection

import numpy as np
from scipy.ndimage import uniform_filter1d

from qkv.data.audio import Waveform
from qkv.data.recordings import Recording
from qkv.errors import InputError

# ITU-R M.1677-1 (2009), part I, section 1.1.1
MORSE = {
    "a": ".-", "b": "-...", "c": "-.-.", "d": "-..", "e": ".", "f": "..-.", "g": "--.", "h": "....", "i": "..",
    "j": ".---", "k": "-.-", "l": ".-..", "m": "--", "n": "-.", "o": "---", "p": ".--.", "q": "--.-", "r": ".-.",
    "s": "...", "t": "-", "u": "..-", "v": "...-", "w": ".--", "x": "-..-", "y": "-.--", "z": "--..",
}  # fmt: skip


def keyed(text: str) -> list[bool]:
    """`text` as units of time in which the key is down or up.

    A dash is 3 units, the gap inside a letter 1, between letters 3, between words 7 (ITU-R M.1677-1, section 2).

    Raises:
        InputError: a character without a code.

    >>> "".join(".#"[down] for down in keyed("et a"))
    '#...###.......#.###'
    """
    for character in text:
        if character != " " and character not in MORSE:
            raise InputError(f"{character!r} has no Morse code here", expected="letters a to z and blanks")
    words = [
        "...".join(".".join("#" if sign == "." else "###" for sign in MORSE[letter]) for letter in word)
        for word in text.split()
    ]
    return [unit == "#" for unit in ".......".join(words)]


def morse_waveform(text: str, generator: np.random.Generator, *, sample_rate: int = 16_000) -> Waveform:
    """`text` as a tone in noise: 34 to 42 ms a unit, each a little uneven, 600 to 800 Hz, 20 to 35 dB above the noise.

    >>> morse_waveform("e", np.random.default_rng(0)).dtype
    dtype('float32')
    """
    units = keyed(text)
    if not units:
        raise InputError("there is nothing to key", expected="letters a to z", got=repr(text))
    unit = generator.uniform(0.034, 0.042) * generator.normal(1, 0.05, len(units)).clip(0.8, 1.2)
    silence = generator.uniform(0.05, 0.20, 2)  # before and after
    ends = np.round(sample_rate * (silence[0] + np.cumsum(unit))).astype(int)
    samples = int(ends[-1] + sample_rate * silence[1])
    key = np.zeros(samples, dtype=np.float32)
    for start, end, down in zip([int(sample_rate * silence[0]), *ends[:-1]], ends, units, strict=True):
        key[start:end] = down
    envelope = uniform_filter1d(key, max(1, sample_rate // 200))  # rises in 5 ms: a key that only switched would click
    step = np.float32(2 * np.pi * generator.uniform(600, 800) / sample_rate)
    tone = np.sin(step * np.arange(samples, dtype=np.float32))
    noise = generator.standard_normal(samples, dtype=np.float32)
    faint = np.float32(10 ** (-generator.uniform(20, 35) / 20) / np.sqrt(2))
    loud = np.float32(generator.uniform(0.1, 0.5))
    return (loud * (envelope * tone + faint * noise)).clip(-1, 1)


def morse(
    count: int,
    generator: np.random.Generator,
    *,
    letters: tuple[int, int] = (2, 5),
    sample_rate: int = 16_000,
    without: Collection[str] = (),
) -> list[Recording]:
    """Random words of random letters, each keyed by a hand of its own.

    Args:
        letters: the least and the most letters of a word.
        without: words that are not to come.

    Raises:
        InputError: there is no other word.

    >>> all(2 <= len(recording.text) <= 5 for recording in morse(7, np.random.default_rng(0)))
    True
    """
    made, kept = [], set(without)
    lengths = range(letters[0], letters[1] + 1)
    if sum(len(word) in lengths for word in kept) >= sum(len(MORSE) ** length for length in lengths):
        raise InputError(
            f"all words of {letters[0]} to {letters[1]} letters are to be judged by: none is left to learn from",
            expected="longer words",
        )
    while len(made) < count:
        text = "".join(generator.choice(list(MORSE), generator.integers(letters[0], letters[1] + 1)))
        if text not in kept:
            made.append(Recording(f"{text} keyed", text, morse_waveform(text, generator, sample_rate=sample_rate)))
    return made
