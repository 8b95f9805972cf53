"""Words from what they are and how they are spelled: a character CNN beside a word embedding.

e(w)   the embedding of a word           c_1 ... c_k   those of its characters

x(w) = [e(w); max_i relu(F c_(i-1), c_i, c_(i+1))]     (Ma & Hovy 2016, arXiv:1603.01354, section 2.1)
"""

import torch.nn.functional as F
from torch import Tensor, nn

WIDTH = 3  # no wider: what stands between two words is one position


class Spelling(nn.Module):
    """Makes word vectors of texts whose tokens are words, each followed by its characters (`SpelledVocabulary`).

    Args:
        dim: The size of the embeddings.
        n_filters: The number of filters of the CNN.
        pad_id: The number of the padding token: characters are below, words above.

    Attributes:
        dim: The size of a word's vector.
    """

    def __init__(self, dim: int, n_filters: int, pad_id: int) -> None:
        super().__init__()
        self.convolution = nn.Conv1d(dim, n_filters, WIDTH, padding=WIDTH // 2)
        self.pad_id = pad_id
        self.dim = dim + n_filters

    def forward(self, ids: Tensor, embedded: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Puts the words of texts together.

        One convolution runs over all words of a text: the vector at a word's own place is zero, so no window reaches
        from one word into another.

        Args:
            ids: Token numbers, (n_texts, length).
            embedded: Their embeddings, (n_texts, length, dim_of_embedding).
            mask: True where there is a token, (n_texts, length).

        Returns:
            The words, (n_texts, n_words, dim), where there is one, (n_texts, n_words), and the word that each token
            belongs to, (n_texts, length).
        """
        begins = mask & (ids > self.pad_id)
        word_of = (begins.cumsum(dim=1) - 1).clamp_min(0)  # (n, L)
        n_words = begins.sum(dim=1).clamp_min(1)  # a text of no word has one of nothing
        present = _up_to(n_words)
        places = word_of.unsqueeze(-1)
        known = embedded.new_zeros(len(ids), present.shape[1], embedded.shape[-1]).scatter_add(
            1, places.expand_as(embedded), embedded * begins.unsqueeze(-1)
        )
        is_character = (mask & (ids < self.pad_id)).unsqueeze(-1)
        found = F.relu(self.convolution((embedded * is_character).transpose(1, 2))).transpose(1, 2) * is_character
        spelled = found.new_zeros(len(ids), present.shape[1], found.shape[-1]).scatter_reduce(
            1, places.expand_as(found), found, "amax"
        )
        return F.pad(known, (0, found.shape[-1])) + F.pad(spelled, (embedded.shape[-1], 0)), present, word_of


def _up_to(counts: Tensor) -> Tensor:
    """True in the first places of each row: (n,) -> (n, most)."""
    most = int(counts.max())
    return counts.new_ones(len(counts), most).cumsum(dim=1) <= counts.unsqueeze(-1)
