"""Whole characters only: which tokens may follow, so that what is written is UTF-8 at every end.

A byte-level vocabulary has tokens that are a part of a character. A text of such tokens is read by a small automaton;
its state says what bytes may come next (Unicode 16.0, table 3-7: well-formed UTF-8 byte sequences).
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from tokenizers import Tokenizer
from torch import Tensor

WHOLE = 0
"""The state in which no character is begun."""

# From a state by a byte in a range to a state: one to three more bytes, the first of them in a narrower range after
# E0 and F0 (or the character would be written too long), ED (or it would be half a pair) and F4 (beyond the last).
_Move = tuple[int, int, int]
_LEADS: tuple[_Move, ...] = (
    (0x00, 0x7F, 0),
    (0xC2, 0xDF, 1),
    (0xE0, 0xE0, 4),
    (0xE1, 0xEC, 2),
    (0xED, 0xED, 5),
    (0xEE, 0xEF, 2),
    (0xF0, 0xF0, 6),
    (0xF1, 0xF3, 3),
    (0xF4, 0xF4, 7),
)
_MOVES: tuple[tuple[_Move, ...], ...] = (
    _LEADS,
    ((0x80, 0xBF, 0),),
    ((0x80, 0xBF, 1),),
    ((0x80, 0xBF, 2),),
    ((0xA0, 0xBF, 1),),
    ((0x80, 0x9F, 1),),
    ((0x90, 0xBF, 2),),
    ((0x80, 0x8F, 2),),
)
_REFUSED = -1


@dataclass(frozen=True)
class Characters:
    """The automaton over the tokens of a vocabulary.

    Attributes:
        following: The state after a token in a state, -1 where the token must not come, (n_states, n_tokens).
    """

    following: Tensor

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> Self:
        """Reads off the bytes of each token."""
        size = tokenizer.get_vocab_size(with_added_tokens=True)
        following = torch.full((len(_MOVES), size), _REFUSED)
        following[WHOLE] = WHOLE  # most tokens are whole characters
        for number, content in _partial_tokens(tokenizer).items():
            for state in range(len(_MOVES)):
                following[state, number] = _read(content, state)
        return cls(following)

    def allowed(self, states: Tensor) -> Tensor:
        """Which tokens may come: states (n,) -> (n, n_tokens), True where one may."""
        return self.following.to(states.device)[states] != _REFUSED

    def after(self, states: Tensor, tokens: Tensor) -> Tensor:
        """The states after tokens that may come: (n,), (n,) -> (n,)."""
        return self.following.to(states.device)[states, tokens]

    def whole(self, tokens: Sequence[int]) -> list[int]:
        """The tokens up to the last place where no character is begun."""
        state, end = WHOLE, 0
        for place, token in enumerate(tokens, 1):
            state = int(self.following[state, token])
            if state == WHOLE:
                end = place
        return list(tokens[:end])


def _read(content: bytes, state: int) -> int:
    for byte in content:
        state = next((to for low, high, to in _MOVES[state] if low <= byte <= high), _REFUSED)
        if state == _REFUSED:
            return _REFUSED
    return state


def _partial_tokens(tokenizer: Tokenizer) -> dict[int, bytes]:
    """The bytes of the tokens that may be no whole characters."""
    special = {number for number, token in tokenizer.get_added_tokens_decoder().items() if token.special}
    tokens = {n: token for token, n in tokenizer.get_vocab(with_added_tokens=True).items() if n not in special}
    if '"ByteLevel"' in json.dumps(json.loads(tokenizer.to_str())["decoder"]):
        byte_of = {character: byte for byte, character in _byte_characters().items()}
        known = {n: token for n, token in tokens.items() if all(character in byte_of for character in token)}
        contents = {n: bytes(byte_of[character] for character in token) for n, token in known.items()}
        return {n: content for n, content in contents.items() if not content.isascii()}
    pattern = re.compile(r"<0x([0-9A-Fa-f]{2})>")  # byte fallback of SentencePiece
    return {n: bytes.fromhex(found[1]) for n, token in tokens.items() if (found := pattern.fullmatch(token))}


def _byte_characters() -> dict[int, str]:
    """The character that stands for each byte in a byte-level vocabulary (Radford et al. 2019).

    Those that can be printed stand for themselves; the others are counted off from 256.
    """
    printed = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(0x100) if byte not in printed]
    return {byte: chr(byte) for byte in printed} | {byte: chr(0x100 + place) for place, byte in enumerate(others)}
