"""Runs on the published features, converted once.

Command: ``neuroav extract --from-avca avgzsl_benchmark_datasets --dataset ucf --features main -o ucf.h5``, then
         ``neuroav run experiments/published.py:pooled --set data.store=ucf.h5``. Over three seeds: ``pooled_seeds``
         and ``tcaf_seeds``.
Device:  CPU. Minutes.
The test set's name says which data set, features, split and order of class vectors a score belongs to.
"""

from dataclasses import replace

from neuroav.baselines.pooled import PooledMLPConfig
from neuroav.baselines.tcaf import TCAFConfig
from neuroav.config import Comparison, Experiment, StoreData
from neuroav.mdft.model import MDFTConfig
from neuroav.mdft.motion import FeatureEvents
from neuroav.train.loop import TrainConfig

DATA = StoreData(store="store.h5")


def pooled() -> Experiment:
    """Time-averaged features through the same heads as MDFT's."""
    config = PooledMLPConfig(inputs=("audio", "video"))
    return Experiment(name="published-pooled", data=DATA, model="pooled", config=config)


def tcaf() -> Experiment:
    """TCaF on sequences, with the settings of section 4.1 of its paper for UCF and VGGish/C3D features."""
    train = TrainConfig(epochs=50, batches=300, batch_size=64, lr=7e-5)
    return Experiment(name="published-tcaf", data=DATA, model="tcaf", config=TCAFConfig(), train=train)


def mdft() -> Experiment:
    """MDFT, events from features. VGGish/C3D sequences have to be converted with ``--align``."""
    return Experiment(name="published-mdft", data=DATA, config=MDFTConfig(events=FeatureEvents()))


def pooled_seeds() -> Comparison:
    """``pooled`` with three seeds."""
    return _seeds(pooled())


def tcaf_seeds() -> Comparison:
    """``tcaf`` with three seeds."""
    return _seeds(tcaf())


def _seeds(experiment: Experiment) -> Comparison:
    runs = tuple((f"seed-{seed}", replace(experiment, seed=seed)) for seed in range(3))
    return Comparison(name=f"{experiment.name}-seeds", title="Three seeds", runs=runs)
