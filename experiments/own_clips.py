"""MDFT on a folder of your own clips, described once by ``neuroav extract``.

Command: ``neuroav run experiments/own_clips.py:mdft --set data.store=store.h5 --set data.val_unseen=frog,horse
         --set data.test_unseen=cello,drums``; leave both lists out when labels.csv has a ``part`` column.
Device:  CPU. A minute or two for a few dozen clips.
With few clips the scores are no finding; they show that the path runs.
"""

from neuroav.config import Experiment, StoreData
from neuroav.mdft.model import MDFTConfig
from neuroav.nn.losses import HeadsConfig
from neuroav.train.loop import OneStage, TrainConfig
from neuroav.train.optim import Step

TRAIN = TrainConfig(epochs=5, batches=40, batch_size=16, lr=1e-3, schedule=Step(), protocol=OneStage())


def mdft() -> Experiment:
    """MDFT at width 64; events from pixels."""
    config = MDFTConfig(dim=64, heads=HeadsConfig(hidden=64))
    return Experiment(name="own-clips", data=StoreData(store="store.h5"), config=config, train=TRAIN)
