"""Sequence models and objectives."""

from research.sequence.acoustic_encoder import AcousticEncoder
from research.sequence.answer_report import AnswerReport
from research.sequence.bert import BERT
from research.sequence.bert_classifier import BERTClassifier
from research.sequence.bert_token_classifier import BERTTokenClassifier
from research.sequence.bilstm_tagger import BiLSTMTagger
from research.sequence.conformer import Conformer
from research.sequence.ctc import CTC
from research.sequence.dlinear import DLinear
from research.sequence.few_shot import FewShotReport
from research.sequence.forecasting import Forecasting
from research.sequence.gpt import GPT
from research.sequence.language_modeling import LanguageModeling
from research.sequence.llama import Llama
from research.sequence.masked_language_modeling import MaskedLanguageModeling
from research.sequence.patchtst import PatchTST
from research.sequence.polyphonic_music import PolyphonicMusic
from research.sequence.question_answering import QuestionAnswering
from research.sequence.recurrent_classifier import RecurrentClassifier
from research.sequence.recurrent_language_model import RecurrentLanguageModel
from research.sequence.recurrent_network import RecurrentNetwork
from research.sequence.recurrent_translator import RecurrentTranslator
from research.sequence.regression_report import RegressionReport
from research.sequence.sequence_classification import SequenceClassification
from research.sequence.sequence_labeling import SequenceLabeling
from research.sequence.sequence_regression import SequenceRegression
from research.sequence.sequence_to_sequence import SequenceToSequence
from research.sequence.t5 import T5
from research.sequence.tagging_report import TaggingReport
from research.sequence.tcn import TCN
from research.sequence.token_tagging import TokenTagging
from research.sequence.transcription_report import TranscriptionReport
from research.sequence.transformer import TranslationTransformer
from research.sequence.transformer_classifier import TransformerClassifier
from research.sequence.translation_report import TranslationReport

__all__ = [
    "BERT",
    "CTC",
    "GPT",
    "T5",
    "TCN",
    "AcousticEncoder",
    "AnswerReport",
    "BERTClassifier",
    "BERTTokenClassifier",
    "BiLSTMTagger",
    "Conformer",
    "DLinear",
    "FewShotReport",
    "Forecasting",
    "LanguageModeling",
    "Llama",
    "MaskedLanguageModeling",
    "PatchTST",
    "PolyphonicMusic",
    "QuestionAnswering",
    "RecurrentClassifier",
    "RecurrentLanguageModel",
    "RecurrentNetwork",
    "RecurrentTranslator",
    "RegressionReport",
    "SequenceClassification",
    "SequenceLabeling",
    "SequenceRegression",
    "SequenceToSequence",
    "TaggingReport",
    "TokenTagging",
    "TranscriptionReport",
    "TransformerClassifier",
    "TranslationReport",
    "TranslationTransformer",
]
