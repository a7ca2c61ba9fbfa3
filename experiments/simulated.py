"""Runs on simulated benchmarks: for speed, memory and the protocol at full size; their scores mean nothing.

Command: ``neuroav run experiments/simulated.py:pooled``; another benchmark with
         ``--set data.simulate.benchmark=vggsound --set data.simulate.features=cls --set data.store=vggsound-cls.h5``.
Device:  CPU. The store of UCF's ``main`` features takes seconds to make; an epoch of ``pooled`` about as long.
"""

from neuroav.baselines.pooled import PooledMLPConfig
from neuroav.config import Experiment, SimulatedData
from neuroav.mdft.model import FeatureEvents, MDFTConfig
from neuroav.train.loop import TrainConfig

TRAIN = TrainConfig(epochs=5, batches=50, batch_size=64)


def pooled() -> Experiment:
    """Time-averaged features through the same heads as MDFT's."""
    config = PooledMLPConfig(inputs=("audio", "video"))
    return Experiment(name="simulated-pooled", data=SimulatedData(), model="pooled", config=config, train=TRAIN)


def mdft() -> Experiment:
    """MDFT on ``main`` features: events from features, as there are no pixels."""
    return Experiment(
        name="simulated-mdft", data=SimulatedData(), config=MDFTConfig(events=FeatureEvents()), train=TRAIN
    )
