"""Tokens that are parts of words, by Hugging Face's `tokenizers`: read from a published
tokenizer.json, or trained on text."""

import functools
import hashlib
import io
import json
import os
import uuid
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Int

from research.data.cache import cache_dir, logger
from research.data.files import read_bytes, read_text
from research.data.json_rows import parse_row, text_of
from research.data.tokenizers.base import Ids, check_ids, find_file, fingerprint_of
from research.data.tokenizers.byte_level import byte_level_lengths
from research.errors import UserError

Model = Literal["bpe", "wordpiece", "unigram"]

UNKNOWN = {"bpe": None, "wordpiece": "[UNK]", "unigram": "<unk>"}
VERSION = 1


class _Subwords:
    """What both kinds have; abstract."""

    @property
    def vocab_size(self) -> int:
        return self._model().get_vocab_size(with_added_tokens=True)

    def encode(self, text: str) -> Int[np.ndarray, " tokens"]:
        return self.encode_with_offsets(text)[0]

    def encode_with_offsets(
        self, text: str
    ) -> tuple[Int[np.ndarray, " tokens"], Int[np.ndarray, "tokens 2"]]:
        """The ids, and which characters of the text each is of, from the first to behind the
        last."""
        try:
            encoded = self._model().encode(text, add_special_tokens=False)
        except (TypeError, UnicodeEncodeError) as error:
            place = next((i for i, char in enumerate(text) if "\ud800" <= char <= "\udfff"), 0)
            raise UserError(
                f"The text has half of a surrogate pair at position {place}, which is no character."
            ) from error
        return np.asarray(encoded.ids, np.int32), np.asarray(encoded.offsets).reshape(-1, 2)

    def encode_batch(self, texts: Sequence[str]) -> list[Int[np.ndarray, " tokens"]]:
        """What `encode` gives for each text, by as many threads as there are cores."""
        try:
            encodings = self._model().encode_batch_fast(texts, add_special_tokens=False)
        except (TypeError, UnicodeEncodeError):
            return [self.encode(text) for text in texts]
        return [np.asarray(encoding.ids, np.int32) for encoding in encodings]

    @property
    def unknown_id(self) -> int | None:
        """The id of what stands for all that has no token; None where there is nothing like it."""
        model = self._model()
        settings = json.loads(model.to_str())["model"]
        if "unk_id" in settings:
            return settings["unk_id"]
        token = settings.get("unk_token")
        return None if token is None else model.token_to_id(token)

    def fingerprint(self) -> str:
        """A digest of the vocabulary and of all rules."""
        return fingerprint_of(json.loads(self._fingerprinted()))

    def decode(self, ids: Ids) -> str:
        """Bytes that are no UTF-8 (a model may make some) become U+FFFD."""
        checked = check_ids(ids, self.vocab_size)
        return self._model().decode(checked.tolist(), skip_special_tokens=False)

    def token_id(self, token: str) -> int:
        """The id of a token by its name, such as "</s>". Raises UserError where there is none."""
        index = self._model().token_to_id(token)
        if index is None:
            raise UserError(f"There is no token {token!r} in {self}.")
        return index

    def pieces(self) -> tuple[str, ...]:
        """What each token adds to a text that ends in a letter."""
        model = self._model()
        names = (model.id_to_token(index) for index in range(self.vocab_size))
        if model.decoder is None:
            return tuple(f" {name}" for name in names)
        return tuple(model.decoder.decode(["a", name])[1:] for name in names)

    def byte_lengths(self) -> Int[np.ndarray, " vocab_size"] | None:
        """How many bytes of UTF-8 each token stands for; see `byte_level_lengths`."""
        return byte_level_lengths(json.loads(self._model().to_str()))

    def special_ids(self) -> tuple[int, ...]:
        """The ids of the special tokens, ascending."""
        added = self._model().get_added_tokens_decoder()
        return tuple(sorted(index for index, token in added.items() if token.special))

    def _model(self) -> Any:
        """The library's tokenizer."""
        raise NotImplementedError

    def _fingerprinted(self) -> str | bytes:
        """The tokenizer.json."""
        return self._model().to_str()


@dataclass(frozen=True)
class Subword(_Subwords):
    """The tokens of a tokenizer.json, published or trained: GPT-2's, BERT's, T5's, Llama's, …

    Special tokens in a text are text as any other, and none are added to it.
    """

    file: str

    def _model(self) -> Any:
        path = find_file(self.file)
        return _load(path, path.stat().st_mtime_ns)

    def _fingerprinted(self) -> bytes:
        # As it is: what the library makes of it may differ from version to version.
        self._model()  # tells what is wrong with a file that is none
        return read_bytes(find_file(self.file))


@dataclass(frozen=True)
class TrainedSubword(_Subwords):
    """`size` tokens learnt from text files, or from the texts in `field` of .jsonl files.

    "bpe" is byte-level byte pair encoding as GPT-2's (Sennrich et al., 2016; Radford et al., 2019),
    "wordpiece" BERT's (Schuster and Nakajima, 2012), "unigram" SentencePiece's (Kudo, 2018); there
    are fewer tokens where the text has no more. `special_tokens` have the first ids, in their
    order; WordPiece and Unigram have a token for what they do not know, "[UNK]" and "<unk>", the
    first unless it is among them. The files are learnt from once, and the tokenizer.json is kept in
    the cache of decoded data.
    """

    files: tuple[str, ...]
    size: int
    model: Model = "bpe"
    special_tokens: tuple[str, ...] = ()
    field: str | None = None
    lowercase: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "files", tuple(self.files))
        object.__setattr__(self, "special_tokens", tuple(self.special_tokens))
        if self.model not in UNKNOWN:
            raise UserError(
                f"TrainedSubword.model must be one of {', '.join(UNKNOWN)}, not {self.model!r}."
            )
        if not self.files:
            raise UserError("TrainedSubword.files must name at least one file of text.")
        if self.model == "bpe" and self.size < 256 + len(self.special_tokens):
            raise UserError(
                f"TrainedSubword.size must be at least {256 + len(self.special_tokens)}, one token "
                f"a byte and the special ones; got {self.size}."
            )

    def save(self, path: str | Path) -> None:
        """Writes the tokenizer.json, which `Subword` reads."""
        self._model().save(str(path))

    def _model(self) -> Any:
        paths = tuple(find_file(file) for file in self.files)
        states = tuple((path.stat().st_size, path.stat().st_mtime_ns) for path in paths)
        return _trained(self, paths, states)


@functools.lru_cache(maxsize=8)
def _load(path: Path, modified: int) -> Any:
    from tokenizers import Tokenizer

    try:
        model = Tokenizer.from_buffer(read_bytes(path))
    except UserError:
        raise
    except Exception as error:  # all that the library raises
        raise UserError(f"{path} is no tokenizer in the tokenizer.json format: {error}.") from error
    model.encode_special_tokens = True
    model.no_truncation()
    model.no_padding()
    return model


@functools.lru_cache(maxsize=8)
def _trained(
    settings: TrainedSubword, paths: tuple[Path, ...], states: tuple[tuple[int, int], ...]
) -> Any:
    """Read from the cache, or learnt and put there."""
    # Not repr(settings): relative and absolute paths of the same files are the same tokenizer.
    learnt: list[Any] = [settings.size, settings.model, settings.special_tokens, settings.field]
    learnt += [settings.lowercase, [str(path.resolve()) for path in paths], states]
    identity = [VERSION, learnt]
    key = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:32]
    kept = cache_dir() / "tokenizers" / f"{key}.json"
    with suppress(OSError, UserError):
        return _load(kept, kept.stat().st_mtime_ns)
    logger.info("Learning %d %s tokens of %s once.", settings.size, settings.model, paths[0])
    model = _train(settings, paths)
    partial = kept.with_name(f"{key}.partial-{uuid.uuid4().hex}")
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(model.to_str(), encoding="utf-8")
        os.replace(partial, kept)
    except OSError as error:
        partial.unlink(missing_ok=True)
        logger.warning("Cannot keep a tokenizer in %s (%s).", kept.parent, error)
    model.encode_special_tokens = True
    return model


def _train(settings: TrainedSubword, paths: tuple[Path, ...]) -> Any:
    unknown = UNKNOWN[settings.model]
    special = list(settings.special_tokens)
    if unknown is not None and unknown not in special:
        special.insert(0, unknown)
    train = {"bpe": _train_bpe, "wordpiece": _train_wordpiece, "unigram": _train_unigram}
    return train[settings.model](settings, special, list(_texts(settings, paths)))


def _train_bpe(settings: TrainedSubword, special: list[str], texts: list[str]) -> Any:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    model = Tokenizer(models.BPE())
    if settings.lowercase:
        model.normalizer = normalizers.Lowercase()
    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=settings.size,
        special_tokens=special,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    model.train_from_iterator(texts, trainer)
    return model


def _train_wordpiece(settings: TrainedSubword, special: list[str], texts: list[str]) -> Any:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    model = Tokenizer(models.WordPiece(unk_token=UNKNOWN["wordpiece"]))
    model.normalizer = normalizers.BertNormalizer(lowercase=settings.lowercase)
    model.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    model.decoder = decoders.WordPiece()
    # Characters inside words get their ids in an order that differs from process to process, and
    # pairs that are equally frequent are joined by their ids: so they are given theirs first.
    characters = set().union(*(model.normalizer.normalize_str(text) for text in texts))
    inside = [f"##{character}" for character in sorted(characters) if not character.isspace()]
    trainer = trainers.WordPieceTrainer(
        vocab_size=settings.size, special_tokens=special + inside, show_progress=False
    )
    model.train_from_iterator(texts, trainer)
    content = json.loads(model.to_str())
    content["added_tokens"] = content["added_tokens"][: len(special)]
    return Tokenizer.from_str(json.dumps(content))


def _train_unigram(settings: TrainedSubword, special: list[str], texts: list[str]) -> Any:
    # Learnt by SentencePiece: what the other library learns differs from process to process.
    import sentencepiece
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers

    steps = [normalizers.NFKC(), *([normalizers.Lowercase()] if settings.lowercase else [])]
    normalizer = normalizers.Sequence(steps)
    learnt = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=(normalizer.normalize_str(text) for text in texts),
            model_writer=learnt,
            model_type="unigram",
            vocab_size=settings.size - len(special) + 1,
            hard_vocab_limit=False,
            character_coverage=1.0,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            max_sentence_length=1 << 30,
            unk_id=0,
            bos_id=-1,
            eos_id=-1,
            pad_id=-1,
            num_threads=1,
            minloglevel=2,
        )
    except RuntimeError as error:
        raise UserError(
            f"TrainedSubword.size = {settings.size}: SentencePiece cannot learn so many tokens of "
            f"{settings.files[0]}: {error}"
        ) from error
    pieces = sentencepiece.SentencePieceProcessor(model_proto=learnt.getvalue())
    vocab = [(token, 0.0) for token in special]
    vocab += [
        (pieces.id_to_piece(index), pieces.get_score(index))
        for index in range(1, pieces.get_piece_size())
    ]
    unknown = special.index("<unk>")
    model = Tokenizer(models.Unigram(vocab, unk_id=unknown))
    model.normalizer = normalizer
    model.pre_tokenizer = pre_tokenizers.Metaspace()
    model.decoder = decoders.Metaspace()
    model.add_special_tokens([AddedToken(token, special=True) for token in special])
    return model


def _texts(settings: TrainedSubword, paths: tuple[Path, ...]) -> Iterator[str]:
    for path in paths:
        # Not splitlines: a text may hold other line separators.
        for number, line in enumerate(read_text(path).split("\n"), start=1):
            if settings.field is None:
                yield line
            elif line.strip():
                place = f"{path}, line {number}"
                yield text_of(parse_row(line, place), settings.field, place)
