"""Sequence models and objectives."""

from research.sequence.bert import BERT
from research.sequence.gpt import GPT
from research.sequence.language_modeling import LanguageModeling
from research.sequence.llama import Llama
from research.sequence.t5 import T5

__all__ = ["BERT", "GPT", "T5", "LanguageModeling", "Llama"]
