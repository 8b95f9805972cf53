"""From a text to token numbers."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from kshot.errors import KshotError

TokenIds = NDArray[np.int32]
"""The token numbers of one text, shape (length,)."""

PAD, UNKNOWN = "[PAD]", "[UNK]"
_FILE = "tokenizer.json"
_MEMO_LIMIT = 200_000


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
        self._memo: dict[str, TokenIds] = {}

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
        encodings = self.tokenizer.encode_batch_fast([_readable(text) for text in missing])
        new = {t: np.asarray(e.ids or [self.pad_id], dtype=np.int32) for t, e in zip(missing, encodings, strict=True)}
        if len(memo) + len(new) > _MEMO_LIMIT:
            self._memo = memo = {}  # a new one, since another thread may be reading the old one
        memo.update(new)
        return [new[text] if ids is None else ids for text, ids in ((text, found[text]) for text in texts)]

    def forget(self) -> None:
        """Drops the remembered token numbers, so that the next call can be timed as the first."""
        self._memo.clear()


def _readable(text: str) -> str:
    """The text without halves of surrogate pairs, which JSON may hold and no tokeniser takes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
