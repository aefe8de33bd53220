"""Where a run is kept: a folder with a lock, one folder a stage, metrics that survive a kill, hashes of content."""

from kilter.store.fingerprint import fingerprint, hash_path
from kilter.store.metrics import Metrics, read_metrics
from kilter.store.run import Run, Stage, stages

__all__ = ["Metrics", "Run", "Stage", "fingerprint", "hash_path", "read_metrics", "stages"]
