"""From a text to token numbers."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from kshot.data.words import split_words
from kshot.errors import KshotError

TokenIds = NDArray[np.int32]
"""The token numbers of one text, shape (length,)."""

WordRanges = NDArray[np.int32]
"""The first token of each word of a text and one past its last, shape (n_words, 2)."""

PAD, UNKNOWN, BEGIN, END = "[PAD]", "[UNK]", "[BEGIN]", "[END]"
_FILE = "tokenizer.json"
_MEMO_LIMIT = 200_000


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """As much of a sentence as an encoder reads at once.

    Attributes:
        ids: Its token numbers, special tokens and words of context included.
        words: Where in them the words are whose vectors are taken from here; each word is in one window.
    """

    ids: TokenIds
    words: WordRanges


class Vocabulary:
    """Turns texts into token numbers, each text once.

    Args:
        tokenizer: A `tokenizers.Tokenizer`; its own padding and truncation are switched off.
        max_length: The number of tokens after which a text is cut.
    """

    def __init__(self, tokenizer: Tokenizer, max_length: int) -> None:
        tokenizer.no_padding()
        tokenizer.enable_truncation(max_length)
        self.tokenizer = tokenizer
        self.max_length = max_length
        pad = tokenizer.token_to_id(PAD)
        self.pad_id: int = pad if pad is not None else 0
        begin = tokenizer.token_to_id(BEGIN)
        self.begin_id: int = begin if begin is not None else self.pad_id  # of texts that are written
        self._spell_special(begin is not None)
        self._memo: dict[str, TokenIds] = {}
        self._sentences: dict[tuple[str, ...], tuple[Window, ...]] = {}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        """A copy has a tokeniser made anew of its JSON, which does not say how names of special tokens are read."""
        self.__dict__.update({name: value for name, value in state.items() if name != "_whole"})
        self._spell_special(self._spells_special)

    def _spell_special(self, spells: bool) -> None:
        """Whether "[END]" in a text is five characters, and not the token of this name."""
        self._spells_special = spells
        self.tokenizer.encode_special_tokens = spells

    @classmethod
    def words(cls, texts: Sequence[str], *, size: int, max_length: int) -> "Vocabulary":
        """Learns the `size` most frequent lower-cased words of the texts; other words are unknown."""
        tokenizer = Tokenizer(models.WordLevel(unk_token=UNKNOWN))
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer = trainers.WordLevelTrainer(vocab_size=size, special_tokens=[PAD, UNKNOWN], show_progress=False)
        tokenizer.train_from_iterator(texts, trainer)
        return cls(tokenizer, max_length)

    @classmethod
    def bpe(cls, texts: Sequence[str], *, size: int, max_length: int) -> "Vocabulary":
        """Learns byte-level byte pair encoding: no character is unknown (Sennrich et al. 2016, arXiv:1508.07909)."""
        tokenizer = Tokenizer(models.BPE())
        tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=size,
            special_tokens=[PAD, UNKNOWN],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        tokenizer.train_from_iterator(texts, trainer)
        return cls(tokenizer, max_length)

    @classmethod
    def cased(cls, texts: Sequence[str], *, size: int, max_length: int) -> "Vocabulary":
        """Learns byte-level BPE for texts that are also written: cased, with tokens where one begins and ends."""
        tokenizer = Tokenizer(models.BPE())
        tokenizer.normalizer = normalizers.NFC()
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=size,
            special_tokens=[PAD, UNKNOWN, BEGIN, END],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        tokenizer.train_from_iterator(texts, trainer)
        end = tokenizer.token_to_id(END)
        tokenizer.post_processor = processors.TemplateProcessing(single=f"$A {END}", special_tokens=[(END, end)])
        return cls(tokenizer, max_length)

    @classmethod
    def load(cls, folder: Path, *, max_length: int) -> "Vocabulary":
        """Reads `tokenizer.json` of a folder.

        Raises:
            KshotError: If the folder has no such file, or it is damaged.
        """
        path = folder / _FILE
        if not path.is_file():
            raise KshotError(
                f"{path} does not exist: a vocabulary is one tokenizer.json, as Hugging Face tokenizers save it."
            )
        try:
            tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # tokenizers raises nothing more special
            raise KshotError(f"{path} is damaged ({error}); restore it from a copy or make it again.") from error
        return cls(tokenizer, max_length)

    def save(self, folder: Path) -> None:
        """Writes `tokenizer.json` into a folder."""
        (folder / _FILE).write_text(self.tokenizer.to_str(pretty=True), encoding="utf-8")

    def number_of(self, token: str) -> int:
        """The number of a token that the vocabulary has."""
        return int(self.tokenizer.token_to_id(token) or 0)

    def end_with(self, token: int) -> None:
        """Makes every text end with a token and begin with none; a name of a special token in a text is characters."""
        name = self.tokenizer.id_to_token(token)
        self.tokenizer.post_processor = processors.TemplateProcessing(
            single=["$A", "end"], special_tokens=[{"id": "end", "ids": [token], "tokens": [name]}]
        )
        self._spell_special(True)
        self.__dict__.pop("_whole", None)
        self.forget()

    @cached_property
    def special(self) -> frozenset[int]:
        """The special tokens, which are no part of a text."""
        added = self.tokenizer.get_added_tokens_decoder().items()
        return frozenset(number for number, token in added if token.special)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token numbers, special tokens left out."""
        text: str = self.tokenizer.decode(list(ids), skip_special_tokens=True)
        return text.strip()

    @property
    def size(self) -> int:
        """The number of tokens."""
        return int(self.tokenizer.get_vocab_size(with_added_tokens=True))

    def encode(self, texts: Sequence[str]) -> list[TokenIds]:
        """Returns the token numbers of each text; the same text always gives the same array object.

        A text without a single known character gives one padding token, so that no sequence is empty.
        """
        memo = self._memo
        found = {text: memo.get(text) for text in texts}
        missing = [text for text, ids in found.items() if ids is None]
        encoded = self._tokenise([_readable(text) for text in missing])
        new = {t: np.asarray(ids or [self.pad_id], dtype=np.int32) for t, ids in zip(missing, encoded, strict=True)}
        if len(memo) + len(new) > _MEMO_LIMIT:
            self._memo = memo = {}  # a new one, since another thread may be reading the old one
        memo.update(new)
        return [new[text] if ids is None else ids for text, ids in ((text, found[text]) for text in texts)]

    def length(self, text: str) -> int:
        """The number of tokens of a text, special tokens included, however many are read."""
        if 12 * len(text) + 2 <= self.max_length:  # NFC makes three characters of four bytes of one at most
            return len(self.encode([text])[0])
        return len(self._whole.encode(_readable(text)).ids)

    def encode_words(self, sentences: Sequence[tuple[str, ...]]) -> list[tuple[Window, ...]]:
        """Returns the windows of each sentence; the same sentence always gives the same objects.

        A sentence is given as words, none of them empty. One that is longer than `max_length` has several windows: none
        of its words is lost, and each has others beside it. A word of which no character is known is one unknown token.
        """
        memo = self._sentences
        missing = [words for words in dict.fromkeys(sentences) if words not in memo]
        readable = [[_readable(word) for word in words] for words in missing]
        new = {
            words: self._windows(words, ids, word_ids)
            for words, (ids, word_ids) in zip(missing, self._tokenise_words(readable), strict=True)
        }
        found = [memo[words] if words in memo else new[words] for words in sentences]
        if len(memo) + len(new) > _MEMO_LIMIT:
            self._sentences = memo = {}
        memo.update(new)
        return found

    def _tokenise(self, texts: Sequence[str]) -> list[list[int]]:
        """The token numbers of each text, at most `max_length`."""
        return [encoding.ids for encoding in self.tokenizer.encode_batch_fast(texts)]

    def _tokenise_words(self, sentences: Sequence[Sequence[str]]) -> list[tuple[list[int], list[int | None]]]:
        """The token numbers of each sentence, and the word that each belongs to; None for special tokens."""
        encodings = self._whole.encode_batch(sentences, is_pretokenized=True)
        return [(encoding.ids, encoding.word_ids) for encoding in encodings]

    @cached_property
    def _whole(self) -> Tokenizer:
        """The tokeniser without truncation."""
        whole = Tokenizer.from_str(self.tokenizer.to_str())
        whole.no_truncation()
        whole.encode_special_tokens = self.tokenizer.encode_special_tokens
        return whole

    def _windows(
        self, words: tuple[str, ...], ids: Sequence[int], word_ids: Sequence[int | None]
    ) -> tuple[Window, ...]:
        runs = [(word, [ids[place] for place, _ in run]) for word, run in groupby(enumerate(word_ids), lambda x: x[1])]
        before = runs.pop(0)[1] if runs and runs[0][0] is None else []
        after = runs.pop()[1] if runs and runs[-1][0] is None else []
        of_word = {word: tokens for word, tokens in runs if word is not None}
        unknown = self.tokenizer.token_to_id(UNKNOWN)
        nothing = [self.pad_id if unknown is None else int(unknown)]
        capacity = max(1, self.max_length - len(before) - len(after))
        pieces = [of_word.get(word, nothing)[:capacity] for word in range(len(words))]
        lengths = np.array([len(piece) for piece in pieces], dtype=np.int64)
        made = []
        for first, own, own_end, end in plan_windows(lengths, capacity):
            body = [token for piece in pieces[first:end] for token in piece]
            starts = len(before) + np.concatenate([[0], np.cumsum(lengths[first:end])])
            ranges = np.stack([starts[:-1], starts[1:]], axis=1)[own - first : own_end - first]
            made.append(Window(np.array([*before, *body, *after], dtype=np.int32), ranges.astype(np.int32)))
        return tuple(made)

    def forget(self) -> None:
        """Drops the remembered token numbers, so that the next call can be timed as the first."""
        self._memo.clear()
        self._sentences.clear()


class SpelledVocabulary(Vocabulary):
    """Whole words, each followed by its spelling: the bytes of its UTF-8, so that case and rare words are not lost.

    | number | token |
    |---|---|
    | 0 to 255 | a byte |
    | 256 | padding |
    | 257 | a word that is not known |
    | 258 and more | a word, in lower case |

    What is above padding begins a word, which is all that an encoder has to know to put words together
    (`kshot.models.spelling`).
    """

    @classmethod
    def learn(cls, texts: Sequence[str], *, size: int, max_length: int) -> "SpelledVocabulary":
        """Learns the most frequent words of the texts, so many that there are `size` tokens in all."""
        counts = Counter(word.lower() for text in texts for word, _, _ in split_words(_readable(text)))
        names = [*(f"<0x{byte:02X}>" for byte in range(256)), PAD, UNKNOWN]
        words = [word for word, _ in counts.most_common(max(0, size - len(names))) if word not in names]
        numbers = {name: number for number, name in enumerate([*names, *words])}
        return cls(Tokenizer(models.WordLevel(numbers, unk_token=UNKNOWN)), max_length)

    def _tokenise(self, texts: Sequence[str]) -> list[list[int]]:
        spelled = [[self._spell(word) for word, _, _ in split_words(text)] for text in texts]
        return [[token for word in words for token in word][: self.max_length] for words in spelled]

    def _tokenise_words(self, sentences: Sequence[Sequence[str]]) -> list[tuple[list[int], list[int | None]]]:
        found: list[tuple[list[int], list[int | None]]] = []
        for sentence in sentences:
            spelled = [self._spell(word) for word in sentence]
            ids = [token for word in spelled for token in word]
            found.append((ids, [number for number, word in enumerate(spelled) for _ in word]))
        return found

    def _spell(self, word: str) -> list[int]:
        known = self._numbers.get(word.lower(), self._numbers[UNKNOWN])
        return [known, *word.encode()]

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {word: number for word, number in self.tokenizer.get_vocab().items() if number > self.pad_id}


def plan_windows(lengths: NDArray[np.int64], capacity: int) -> list[tuple[int, int, int, int]]:
    """Splits a sentence into windows that overlap by a quarter on each side.

    Args:
        lengths: The tokens of each word, at least 1 and at most `capacity`, (n_words,).
        capacity: The tokens of a window at most.

    Returns:
        For each window its first word, the first word that is its own, one past the last of its own, and one past its
        last: each word is one window's own, the others of a window are context.
    """
    ends = np.concatenate([[0], np.cumsum(lengths)])
    n_words, margin = len(lengths), capacity // 4
    windows, own = [], 0
    while own < n_words:
        first = int(np.searchsorted(ends, ends[own] - margin))
        if ends[own + 1] - ends[first] > capacity:  # a long word leaves less room for what stands before it
            first = int(np.searchsorted(ends, ends[own + 1] - capacity))
        end = int(np.searchsorted(ends, ends[first] + capacity, side="right")) - 1
        own_end = n_words if end == n_words else int(np.searchsorted(ends, ends[end] - margin, side="right")) - 1
        own_end = max(own_end, own + 1)
        windows.append((first, own, own_end, end))
        own = own_end
    return windows


def _readable(text: str) -> str:
    """The text without halves of surrogate pairs, which JSON may hold and no tokeniser takes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
