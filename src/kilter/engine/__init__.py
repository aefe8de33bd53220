"""The tensors that train and sample language models: ragged batches, attention over them, the head, the loop."""

from kilter.engine.batch import Groups, Ragged, Tree, collate, fill
from kilter.engine.head import LogProbs
from kilter.engine.memory import settle
from kilter.engine.scorer import Scorer
from kilter.engine.values import Valuer, Values, module_for

settle()

__all__ = ["Groups", "LogProbs", "Ragged", "Scorer", "Tree", "Valuer", "Values", "collate", "fill", "module_for"]
