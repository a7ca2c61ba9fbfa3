"""MDFT [mdft]: every row of Tables 2-4 and the points of Fig. 5, on MotionScenes, by the two-stage protocol.

Command:   ``neuroav run experiments/mdft.py:mdft`` (any function of this file; ``--set train.epochs=5`` to try it out)
Device:    CPU. Two cores take about 2.3 s a step at these widths: 16 hours for the 50 x 500 steps of stage 1, up to as
           much again for stage 2. ``quick`` takes about two minutes.
Published: UCF-GZSL S/U/HM/ZSL 48.79/23.11/31.36/31.53 for ``mdft`` (Table 1). MotionScenes is another data set, so the
           numbers are not comparable; the order of the rows is.
"""

from neuroav.config import Experiment, MotionScenesData
from neuroav.data.motionscenes import MotionScenesConfig
from neuroav.mdft.model import MDFTConfig
from neuroav.mdft.motion import FeatureEvents, FixedThreshold, MLPLayers, NoEvents
from neuroav.nn.losses import HeadsConfig, JointLoss
from neuroav.train.loop import OneStage, TrainConfig
from neuroav.train.optim import Step

DATA = MotionScenesData(store="runs/data/motionscenes-small.h5", scenes=MotionScenesConfig(size="small"))


def experiment(name: str, config: MDFTConfig) -> Experiment:
    return Experiment(name=name, data=DATA, config=config, train=TrainConfig())


def mdft() -> Experiment:
    """MDFT, that is EGM+SNN: the last row of Tables 2-4."""
    return experiment("mdft", MDFTConfig())


def quick() -> Experiment:
    """MDFT at width 128, one stage, 300 steps: what the demo trains."""
    train = TrainConfig(epochs=12, batches=25, batch_size=64, lr=1e-3, schedule=Step(), protocol=OneStage())
    config = MDFTConfig(dim=128, heads=HeadsConfig(hidden=128))
    return Experiment(name="mdft-quick", data=DATA, config=config, train=train)


# Table 2: spiking against non-spiking layers, with and without events


def table2_mlp() -> Experiment:
    """MLP: no events, no spikes."""
    return experiment("mlp", MDFTConfig(events=NoEvents(), motion=MLPLayers()))


def table2_egm_mlp() -> Experiment:
    """EGM+MLP: the non-spiking twin."""
    return experiment("egm-mlp", MDFTConfig(motion=MLPLayers()))


def table2_snn() -> Experiment:
    """SNN: spikes from the video features themselves."""
    return experiment("snn", MDFTConfig(events=NoEvents()))


# Table 3: parts left out


def table3_without_mim() -> Experiment:
    """W/o MIM: no motion stream."""
    return experiment("without-mim", MDFTConfig(motion=None))


def table3_without_rjlu() -> Experiment:
    """W/o RJLN: no recurrent joint learning unit."""
    return experiment("without-rjlu", MDFTConfig(scene=None))


def table3_without_crm() -> Experiment:
    """W/o CRM: averages in place of attention."""
    return experiment("without-crm", MDFTConfig(fusion=None))


# Table 4: losses left out


def _loss(name: str, **weights: float) -> Experiment:
    return experiment(name, MDFTConfig(heads=HeadsConfig(loss=JointLoss(**weights))))


def table4_without_triplet_and_reconstruction() -> Experiment:
    """W/o L_n + L_r."""
    return _loss("without-ln-lr", joint_triplet=0.0, reconstruction=0.0)


def table4_without_triplet_and_projection() -> Experiment:
    """W/o L_n + L_c; L_c is undefined in the paper and read as L_p."""
    return _loss("without-ln-lp", joint_triplet=0.0, projection=0.0)


def table4_without_triplet() -> Experiment:
    """W/o L_n."""
    return _loss("without-ln", joint_triplet=0.0)


def table4_without_reconstruction() -> Experiment:
    """W/o L_r."""
    return _loss("without-lr", reconstruction=0.0)


def table4_without_projection() -> Experiment:
    """W/o L_p."""
    return _loss("without-lp", projection=0.0)


# Fig. 5: fixed thresholds (set another with --set config.threshold.v_th=...) and single modalities


def fig5_fixed_threshold() -> Experiment:
    """One fixed threshold for both modalities."""
    return experiment("fixed-threshold", MDFTConfig(threshold=FixedThreshold(v_th=0.5)))


def fig5_audio_only() -> Experiment:
    """Audio alone, dynamic threshold."""
    return experiment("audio-only", MDFTConfig(modalities=("audio",)))


def fig5_video_only() -> Experiment:
    """Video alone, dynamic threshold."""
    return experiment("video-only", MDFTConfig(modalities=("video",)))


# Eq. 4-5: events from features, for data sets without pixels


def feature_events() -> Experiment:
    """Events are threshold crossings of the encoded features."""
    return experiment("feature-events", MDFTConfig(events=FeatureEvents()))
