"""Where data comes from; each source is a frozen dataclass of plain settings."""

from research.data.sources.adding_problem import AddingProblem as AddingProblem
from research.data.sources.arrays import Arrays as Arrays
from research.data.sources.classes import Classes as Classes
from research.data.sources.conll_columns import ConllColumns as ConllColumns
from research.data.sources.copy_memory import CopyMemory as CopyMemory
from research.data.sources.digits import Digits as Digits
from research.data.sources.documents import TextFiles as TextFiles
from research.data.sources.idx import Idx as Idx
from research.data.sources.image_folder import ImageFolder as ImageFolder
from research.data.sources.joined_recordings import JoinedRecordings as JoinedRecordings
from research.data.sources.labelled_text import LabelledText as LabelledText
from research.data.sources.piano_rolls import PianoRolls as PianoRolls
from research.data.sources.recordings import Recordings as Recordings
from research.data.sources.segmentation_folder import SegmentationFolder as SegmentationFolder
from research.data.sources.squad import Squad as Squad
from research.data.sources.subset import Subset as Subset
from research.data.sources.table import Table as Table
from research.data.sources.text import Text as Text
from research.data.sources.text_pairs import TextPairs as TextPairs
from research.data.sources.tfds import Tfds as Tfds
from research.data.sources.time_series import TimeSeries as TimeSeries
from research.data.sources.token_corpus import TokenCorpus as TokenCorpus
