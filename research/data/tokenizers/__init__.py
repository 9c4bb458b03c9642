"""Text to token ids and back."""

from research.data.tokenizers.base import Tokenizer as Tokenizer
from research.data.tokenizers.base import below as below
from research.data.tokenizers.base import named_id as named_id
from research.data.tokenizers.characters import Byte as Byte
from research.data.tokenizers.characters import Char as Char
from research.data.tokenizers.pieces import byte_lengths as byte_lengths
from research.data.tokenizers.pieces import pieces_of as pieces_of
from research.data.tokenizers.pieces import special_ids as special_ids
from research.data.tokenizers.pieces import word_edges as word_edges
from research.data.tokenizers.subword import Subword as Subword
from research.data.tokenizers.subword import TrainedSubword as TrainedSubword
from research.data.tokenizers.words import Word as Word
