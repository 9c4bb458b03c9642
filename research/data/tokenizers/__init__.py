"""Text to token ids and back."""

from research.data.tokenizers.base import Tokenizer as Tokenizer
from research.data.tokenizers.base import below as below
from research.data.tokenizers.characters import Byte as Byte
from research.data.tokenizers.characters import Char as Char
from research.data.tokenizers.subword import Subword as Subword
from research.data.tokenizers.subword import TrainedSubword as TrainedSubword
from research.data.tokenizers.words import Word as Word
