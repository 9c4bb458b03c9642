"""Text to token ids and back."""

from research.data.tokenizers.base import Tokenizer as Tokenizer
from research.data.tokenizers.base import below as below
from research.data.tokenizers.byte_pair import BytePairEncoding as BytePairEncoding
from research.data.tokenizers.byte_pair import (
    train_byte_pair_encoding as train_byte_pair_encoding,
)
from research.data.tokenizers.characters import Byte as Byte
from research.data.tokenizers.characters import Char as Char
from research.data.tokenizers.words import Word as Word
