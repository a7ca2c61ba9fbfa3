"""TCaF [tcaf]: its row and its baselines' rows of Table 1, and every row of Tables 2-4, on UCF-GZSL.

Command:   ``neuroav extract --from-tcaf avgzsl_benchmark_non_averaged_datasets/UCF --split cls -o ucf-cls.h5``, then
           ``neuroav run experiments/tcaf.py:table3_self_attention --set data.store=ucf-cls.h5`` (any function).
Device:    CPU or GPU; not run here, as the archives can't be had.
Published: S/U/HM/ZSL in each docstring, VGGish and C3D features. Inputs are standardised and class vectors are those
           of their names, so the numbers are not expected to be the same.
"""

from typing import Any

from neuroav.baselines.attention_fusion import AttentionFusionConfig
from neuroav.baselines.perceiver import PerceiverConfig
from neuroav.baselines.tcaf import TCAFConfig
from neuroav.config import Experiment, StoreData
from neuroav.nn.encoder import FullAttention, MeanOfTokens, SelfAttention
from neuroav.nn.heads import WordLoss
from neuroav.train.loop import TrainConfig

DATA = StoreData(store="store.h5")
TRAIN = TrainConfig(epochs=50, batches=300, batch_size=64, lr=7e-5)


def experiment(name: str, **parts: Any) -> Experiment:
    return Experiment(name=f"tcaf-{name}", data=DATA, model="tcaf", config=TCAFConfig(**parts), train=TRAIN)


# Table 1


def table1_tcaf() -> Experiment:
    """67.14/40.83/50.78/44.64; also the last row of Tables 2-4."""
    return experiment("table1")


def table1_perceiver() -> Experiment:
    """46.85/26.82/34.11/28.12."""
    return Experiment(name="perceiver", data=DATA, model="perceiver", config=PerceiverConfig(), train=TRAIN)


def table1_attention_fusion() -> Experiment:
    """39.34/18.29/24.97/20.21."""
    config = AttentionFusionConfig()
    return Experiment(name="attention-fusion", data=DATA, model="attention_fusion", config=config, train=TRAIN)


# Table 2: losses


def table2_regression() -> Experiment:
    """14.30/18.82/16.25/30.17."""
    return experiment("l-reg", loss=WordLoss(cross_entropy=0.0, reconstruction=0.0))


def table2_regression_cross_entropy() -> Experiment:
    """75.31/37.15/49.76/41.75."""
    return experiment("l-reg-l-ce", loss=WordLoss(reconstruction=0.0))


# Table 3: who attends to whom, without and with a class token


def table3_full_attention_without_token() -> Experiment:
    """31.70/32.57/32.13/33.26."""
    return experiment("full-without-token", attention=FullAttention(), summary=MeanOfTokens())


def table3_self_attention_without_token() -> Experiment:
    """42.59/24.04/30.73/27.49."""
    return experiment("self-without-token", attention=SelfAttention(), summary=MeanOfTokens())


def table3_cross_attention_without_token() -> Experiment:
    """19.52/29.80/23.62/31.35."""
    return experiment("cross-without-token", summary=MeanOfTokens())


def table3_full_attention() -> Experiment:
    """36.73/41.99/39.18/42.56."""
    return experiment("full", attention=FullAttention())


def table3_self_attention() -> Experiment:
    """40.14/34.95/37.37/35.74."""
    return experiment("self", attention=SelfAttention())


# Table 4: single modalities


def table4_audio() -> Experiment:
    """35.51/19.75/25.38/24.24."""
    return experiment("audio", modalities=("audio",))


def table4_video() -> Experiment:
    """38.10/26.84/31.49/27.25."""
    return experiment("video", modalities=("video",))
