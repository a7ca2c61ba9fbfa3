"""Runs on the published features, converted once.

Command: ``neuroav extract --from-avca avgzsl_benchmark_datasets --dataset ucf --features main -o ucf.h5``, then
         ``neuroav run experiments/published.py:pooled --set data.store=ucf.h5``.
Device:  CPU. Minutes.
The test set's name says which data set, features, split and order of class vectors a score belongs to.
"""

from neuroav.baselines.pooled import PooledMLPConfig
from neuroav.config import Experiment, StoreData

DATA = StoreData(store="store.h5")


def pooled() -> Experiment:
    """Time-averaged features through the same heads as MDFT's."""
    config = PooledMLPConfig(inputs=("audio", "video"))
    return Experiment(name="published-pooled", data=DATA, model="pooled", config=config)
