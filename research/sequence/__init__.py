"""Sequence models and objectives."""

from research.sequence.gpt import GPT
from research.sequence.language_modeling import LanguageModeling

__all__ = ["GPT", "LanguageModeling"]
