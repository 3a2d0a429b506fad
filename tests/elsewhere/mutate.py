"""Mutations of real files, each from its own seed, as damage and malice would make them."""

from __future__ import annotations

import random
import re

TOKENS = [
    *(b"\x00", b"\xff\xfe", b"\x1b]0;owned\x07", "\u202e".encode(), b"\r\n", b"\t", b"'", b'"'),
    *(b"../../../../", b"/", b"~", b"$HOME", b"`id`", b"%s", b"{}", b"[", b"]", b"{", b"}", b":"),
    *(b"null", b"true", b"-1", b"0", b"1e309", b"NaN", b"inf", b"99999999999999999999", b"0x10"),
    *(b"&a [*a, *a]", b"*a", b"!!python/object/apply:os.system ['id']", b"<<: *a", b"---", b"? "),
    *(b"a" * 300, b"[" * 400, b"- " * 400, b"2026-11-23", b"\n\n", b"PAR1", b",,,,", b";"),
]


def mutated(content: bytes, seed: int) -> bytes:
    """The content after one to four changes; many leave it a file that can still be read."""
    chance = random.Random(seed)
    for _ in range(chance.choice((1, 1, 2, 4))):
        content = chance.choice(_CHANGES)(content, chance)
    return content


def _place(content: bytes, chance: random.Random) -> int:
    return chance.randrange(len(content) + 1)


def _slice(content: bytes, chance: random.Random) -> tuple[int, int]:
    start = _place(content, chance)
    return start, min(len(content), start + chance.choice((1, 2, 8, 40, 400)))


def _flip(content: bytes, chance: random.Random) -> bytes:
    if not content:
        return b"x"
    found = bytearray(content)
    found[chance.randrange(len(found))] ^= 1 << chance.randrange(8)
    return bytes(found)


def _delete(content: bytes, chance: random.Random) -> bytes:
    start, end = _slice(content, chance)
    return content[:start] + content[end:]


def _double(content: bytes, chance: random.Random) -> bytes:
    start, end = _slice(content, chance)
    return content[:end] + content[start:end] + content[end:]


def _cut(content: bytes, chance: random.Random) -> bytes:
    return content[: _place(content, chance)]


def _insert(content: bytes, chance: random.Random) -> bytes:
    place = _place(content, chance)
    return content[:place] + chance.choice(TOKENS) + content[place:]


def _zeros(content: bytes, chance: random.Random) -> bytes:
    start, end = _slice(content, chance)
    return content[:start] + bytes(end - start) + content[end:]


def _replace_word(content: bytes, chance: random.Random) -> bytes:
    """A word or number becomes another token: what follows stays well-formed more often."""
    words = list(re.finditer(rb"[\w.]+", content))
    if not words:
        return content
    word = chance.choice(words)
    return content[: word.start()] + chance.choice(TOKENS) + content[word.end() :]


def _swap_lines(content: bytes, chance: random.Random) -> bytes:
    lines = content.split(b"\n")
    one, other = chance.randrange(len(lines)), chance.randrange(len(lines))
    lines[one], lines[other] = lines[other], lines[one]
    return b"\n".join(lines)


_CHANGES = (
    *(_flip, _delete, _double, _cut, _insert, _insert, _zeros),
    *(_replace_word, _replace_word, _replace_word, _swap_lines),
)
