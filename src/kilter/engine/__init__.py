"""The tensors that train and sample language models: ragged batches, attention over them, the head, the loop."""

from kilter.engine.attention import keep_memory
from kilter.engine.batch import Groups, Ragged, Tree, collate, fill
from kilter.engine.head import LogProbs
from kilter.engine.scorer import Scorer

keep_memory()

__all__ = ["Groups", "LogProbs", "Ragged", "Scorer", "Tree", "collate", "fill"]
