"""Every model under contract: the table's entries and each ablation of MDFT, on real descriptors of MotionScenes."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from neuroav.baselines import sacma, tsart
from neuroav.baselines.apn import APNConfig
from neuroav.baselines.apn import AsReleased as ReleasedAPN
from neuroav.baselines.attention_fusion import AttentionFusionConfig
from neuroav.baselines.avca import AVCAConfig
from neuroav.baselines.avfs import AVFSConfig
from neuroav.baselines.avgzslnet import AsBenchmarked, AsByAuthors, AVGZSLNetConfig
from neuroav.baselines.avmst import AsPublished as Branches
from neuroav.baselines.avmst import AsReleased as StrayBranches
from neuroav.baselines.avmst import AVMSTConfig, Leak, LearntLeak, SemanticThreshold
from neuroav.baselines.avmst import FixedThreshold as OneThreshold
from neuroav.baselines.cjme import AsReleased as CJMEAsReleased
from neuroav.baselines.cjme import CJMEConfig
from neuroav.baselines.ez_avgzl import AmongClips, CosineSimilarity, EZConfig, LinearSimilarity, MLPSimilarity
from neuroav.baselines.fvaegan_d2 import AsReleased as ReleasedFVAEGAN
from neuroav.baselines.fvaegan_d2 import FVAEGAND2Config
from neuroav.baselines.hyper import AsReleased as HyperAsReleased
from neuroav.baselines.hyper import HyperAlignmentConfig, HyperMultipleConfig, HyperSingleConfig
from neuroav.baselines.perceiver import PerceiverConfig
from neuroav.baselines.pooled import PooledMLPConfig
from neuroav.baselines.tcaf import TCAFConfig
from neuroav.data.classic import describe_clip
from neuroav.data.motionscenes import class_vectors
from neuroav.data.render import render_clip
from neuroav.data.sample import ClipData, Statistics
from neuroav.data.store import LoadedClips
from neuroav.mdft.fusion import CRM, Gate, Tokens
from neuroav.mdft.model import MDFTConfig
from neuroav.mdft.motion import (
    FeatureEvents,
    FixedThreshold,
    MLPLayers,
    NoEvents,
    PrintedDiscrepancy,
    PrintedThreshold,
    ProductThreshold,
    SpikingLayers,
)
from neuroav.mdft.scene import RJLU
from neuroav.models import MODELS, build
from neuroav.nn.activation import GELU, Levels
from neuroav.nn.bilinear import AsReleased as ReleasedBilinear
from neuroav.nn.bilinear import BilinearConfig, UnitLength
from neuroav.nn.encoder import CrossAttention, FullAttention, MeanOfTokens, SelfAttention
from neuroav.nn.heads import WordLoss
from neuroav.nn.losses import HeadsConfig, JointLoss, PrintedLoss, PrintedWords
from neuroav.nn.negatives import TwoPasses
from neuroav.nn.pair import AsReleased

STEPS = {"dim": 32, "hidden": 32, "shared": 32, "heads": 2, "head_dim": 16}
LOOKS_BACK_ONCE = tsart.Modality(reasoning=tsart.PreviousStep())
FEATURES = {"latent": 16, "hidden_encoder": 32, "hidden": 32, "hidden_critic": 32}
ENCODER = {"dim": 32, "encoder_hidden": 32, "layers": 2, "heads": 2, "head_dim": 16, "feed_forward": 32}
TOKENS = {**ENCODER, "hidden": 32}
SMALL = {"dim": 32, "heads": HeadsConfig(hidden=32)}
PAIR = {"dim": 32, "encoder_hidden": 32, "hidden": 32, "heads": 2, "head_dim": 16}


def heads(**weights: float) -> dict[str, Any]:
    return {"dim": 32, "heads": HeadsConfig(hidden=32, loss=JointLoss(**weights))}


VARIANTS: dict[str, tuple[str, Any]] = {
    "avca": ("avca", AVCAConfig(**PAIR)),
    "avca as released": ("avca", AVCAConfig(**PAIR, reading=AsReleased())),
    "ale": ("ale", BilinearConfig()),
    "apn": ("apn", APNConfig()),
    "apn as released": ("apn", APNConfig(reading=ReleasedAPN())),
    "devise": ("devise", BilinearConfig()),
    "devise as released": ("devise", BilinearConfig(scale=UnitLength(), reading=ReleasedBilinear())),
    "avfs": ("avfs", AVFSConfig(latent=16, hidden=32, hidden_critic=32, shared=16)),
    "fvaegan_d2": ("fvaegan_d2", FVAEGAND2Config(**FEATURES)),
    "fvaegan_d2 as released": ("fvaegan_d2", FVAEGAND2Config(**FEATURES, reading=ReleasedFVAEGAN())),
    "hyper-alignment": ("hyper_alignment", HyperAlignmentConfig(**PAIR)),
    "hyper-alignment as released": ("hyper_alignment", HyperAlignmentConfig(**PAIR, reading=HyperAsReleased())),
    "hyper-single": ("hyper_single", HyperSingleConfig(**PAIR)),
    "hyper-multiple": ("hyper_multiple", HyperMultipleConfig(**PAIR)),
    "mdft": ("mdft", MDFTConfig(**SMALL)),
    "mdft EGM+MLP": ("mdft", MDFTConfig(**SMALL, motion=MLPLayers())),
    "mdft GELU twin": ("mdft", MDFTConfig(**SMALL).twin(GELU())),
    "mdft twin of 5 levels": ("mdft", MDFTConfig(**SMALL).twin(Levels(levels=5))),
    "mdft SNN": ("mdft", MDFTConfig(**SMALL, events=NoEvents())),
    "mdft MLP": ("mdft", MDFTConfig(**SMALL, events=NoEvents(), motion=MLPLayers())),
    "mdft w/o MIM": ("mdft", MDFTConfig(**SMALL, motion=None)),
    "mdft w/o RJLN": ("mdft", MDFTConfig(**SMALL, scene=None)),
    "mdft w/o CRM": ("mdft", MDFTConfig(**SMALL, fusion=None)),
    "mdft w/o L_n": ("mdft", MDFTConfig(**heads(joint_triplet=0.0))),
    "mdft w/o L_p": ("mdft", MDFTConfig(**heads(projection=0.0))),
    "mdft w/o L_r": ("mdft", MDFTConfig(**heads(reconstruction=0.0))),
    "mdft w/o L_n, L_r": ("mdft", MDFTConfig(**heads(joint_triplet=0.0, reconstruction=0.0))),
    "mdft w/o L_n, L_p": ("mdft", MDFTConfig(**heads(joint_triplet=0.0, projection=0.0))),
    "mdft fixed threshold": ("mdft", MDFTConfig(**SMALL, threshold=FixedThreshold(v_th=0.4))),
    "mdft product threshold": ("mdft", MDFTConfig(**SMALL, threshold=ProductThreshold())),
    "mdft printed threshold": ("mdft", MDFTConfig(**SMALL, threshold=PrintedThreshold())),
    "mdft printed DAB": ("mdft", MDFTConfig(**SMALL, discrepancy=PrintedDiscrepancy())),
    "mdft feature events": ("mdft", MDFTConfig(**SMALL, events=FeatureEvents())),
    "mdft audio only": ("mdft", MDFTConfig(**SMALL, modalities=("audio",))),
    "mdft video only": ("mdft", MDFTConfig(**SMALL, modalities=("video",))),
    "mdft events only": ("mdft", MDFTConfig(**SMALL, modalities=("video",), context=False, scene=None)),
    "mdft printed gate": ("mdft", MDFTConfig(**SMALL, motion_path=Gate())),
    "mdft spikes as tokens": ("mdft", MDFTConfig(**SMALL, motion_path=Tokens())),
    "mdft one RJLU token, raw gate": ("mdft", MDFTConfig(**SMALL, scene=RJLU(tokens=1, gate="raw"))),
    "mdft soft reset, fixed tau": ("mdft", MDFTConfig(**SMALL, motion=SpikingLayers(reset="soft", learn_tau=False))),
    "mdft printed CRM": ("mdft", MDFTConfig(**SMALL, fusion=CRM(residual=False, knowledge=False))),
    "mdft printed heads": ("mdft", MDFTConfig(dim=32, heads=HeadsConfig(hidden=32, word=PrintedWords()))),
    "mdft printed loss": ("mdft", MDFTConfig(dim=32, heads=HeadsConfig(hidden=32, shared=300, loss=PrintedLoss()))),
    "avgzslnet": ("avgzslnet", AVGZSLNetConfig(reading=AsBenchmarked(hidden=32))),
    "avgzslnet by its authors": ("avgzslnet", AVGZSLNetConfig(reading=AsByAuthors(hidden=32))),
    "avgzslnet two passes": ("avgzslnet", AVGZSLNetConfig(reading=AsBenchmarked(hidden=32), negatives=TwoPasses())),
    "avmst": ("avmst", AVMSTConfig(**PAIR, reading=Branches(hidden=32))),
    "avmst fixed threshold": ("avmst", AVMSTConfig(**PAIR, reading=Branches(hidden=32, threshold=OneThreshold()))),
    "avmst w/o normalisation": ("avmst", AVMSTConfig(**PAIR, reading=Branches(hidden=32, normalise=False))),
    "avmst leak": (
        "avmst",
        AVMSTConfig(**PAIR, reading=Branches(hidden=32, neurons=Leak(), threshold=SemanticThreshold(v0=0.5))),
    ),
    "avmst learnt leak": (
        "avmst",
        AVMSTConfig(**PAIR, reading=Branches(hidden=32, neurons=LearntLeak(), threshold=SemanticThreshold(v0=0.5))),
    ),
    "avmst GELU twin": ("avmst", AVMSTConfig(**PAIR, reading=Branches(hidden=32)).twin(GELU())),
    "avmst twin of 5 levels": ("avmst", AVMSTConfig(**PAIR, reading=Branches(hidden=32)).twin(Levels(levels=5))),
    "avmst as released": ("avmst", AVMSTConfig(**PAIR, reading=StrayBranches(hidden=32))),
    "cjme": ("cjme", CJMEConfig(hidden=128)),
    "cjme as released": ("cjme", CJMEConfig(hidden=32, reading=CJMEAsReleased())),
    "pooled": ("pooled", PooledMLPConfig(**SMALL)),
    "pooled without events": ("pooled", PooledMLPConfig(**SMALL, inputs=("audio", "video"))),
    "sje": ("sje", BilinearConfig()),
    "tcaf": ("tcaf", TCAFConfig(**TOKENS)),
    "tcaf self attention": ("tcaf", TCAFConfig(**TOKENS, attention=SelfAttention())),
    "tcaf full attention": ("tcaf", TCAFConfig(**TOKENS, attention=FullAttention())),
    "tcaf without class token": ("tcaf", TCAFConfig(**TOKENS, summary=MeanOfTokens())),
    "tcaf self attention, no class token": (
        "tcaf",
        TCAFConfig(**TOKENS, attention=SelfAttention(), summary=MeanOfTokens()),
    ),
    "tcaf full attention, no class token": (
        "tcaf",
        TCAFConfig(**TOKENS, attention=FullAttention(), summary=MeanOfTokens()),
    ),
    "tcaf l_reg": ("tcaf", TCAFConfig(**TOKENS, loss=WordLoss(cross_entropy=0.0, reconstruction=0.0))),
    "tcaf l_reg + l_ce": ("tcaf", TCAFConfig(**TOKENS, loss=WordLoss(reconstruction=0.0))),
    "tcaf audio": ("tcaf", TCAFConfig(**TOKENS, modalities=("audio",))),
    "tcaf video": ("tcaf", TCAFConfig(**TOKENS, modalities=("video",))),
    "attention fusion": ("attention_fusion", AttentionFusionConfig(dim=32, encoder_hidden=32, hidden=32)),
    "perceiver": ("perceiver", PerceiverConfig(**TOKENS, latents=4)),
    "sacma": ("sacma", sacma.SACMAConfig(**TOKENS)),
    "sacma w/o A_S": ("sacma", sacma.SACMAConfig(**TOKENS, audio=CrossAttention())),
    "sacma w/o V_S": ("sacma", sacma.SACMAConfig(**TOKENS, video=CrossAttention())),
    "sacma w/o A_S + V_S": ("sacma", sacma.SACMAConfig(**TOKENS, audio=CrossAttention(), video=CrossAttention())),
    "sacma w/o M_c": ("sacma", sacma.SACMAConfig(**TOKENS, joint=SelfAttention())),
    "sacma w/o l_ccl": ("sacma", sacma.SACMAConfig(**TOKENS, loss=sacma.SACMALoss(contrast=0.0))),
    "sacma w/o l_cos": ("sacma", sacma.SACMAConfig(**TOKENS, loss=sacma.SACMALoss(cosine=0.0))),
    "sacma w/o l_reg": ("sacma", sacma.SACMAConfig(**TOKENS, loss=sacma.SACMALoss(regression=0.0))),
    "sacma w/o l_rec": ("sacma", sacma.SACMAConfig(**TOKENS, loss=sacma.SACMALoss(reconstruction=0.0))),
    "sacma lambda 1, tau 0.5": (
        "sacma",
        sacma.SACMAConfig(**TOKENS, loss=sacma.SACMALoss(cosine=1.0, temperature=0.5)),
    ),
    "sacma I_m": ("sacma", sacma.SACMAConfig(**TOKENS, audio=None, video=None)),
    "sacma I_m + I_a": ("sacma", sacma.SACMAConfig(**TOKENS, video=None)),
    "sacma I_m + I_v": ("sacma", sacma.SACMAConfig(**TOKENS, audio=None)),
    "sacma phi_a": ("sacma", sacma.SACMAConfig(**TOKENS, output=sacma.AudioOutput())),
    "sacma phi_v": ("sacma", sacma.SACMAConfig(**TOKENS, output=sacma.VideoOutput())),
    "tsart": ("tsart", tsart.TSARTConfig(**STEPS)),
    "tsart w/o A_TEM": ("tsart", tsart.TSARTConfig(**STEPS, audio=tsart.Modality(reasoning=tsart.NoReasoning()))),
    "tsart w/o V_TEM": ("tsart", tsart.TSARTConfig(**STEPS, video=tsart.Modality(reasoning=tsart.NoReasoning()))),
    "tsart w/o audio encoder": ("tsart", tsart.TSARTConfig(**STEPS, audio=tsart.Modality(encoder=tsart.NoEncoder()))),
    "tsart w/o video encoder": ("tsart", tsart.TSARTConfig(**STEPS, video=tsart.Modality(encoder=tsart.NoEncoder()))),
    "tsart printed reasoning": (
        "tsart",
        tsart.TSARTConfig(
            **STEPS, audio=LOOKS_BACK_ONCE, video=LOOKS_BACK_ONCE, cross=tsart.CrossModal(residual=False)
        ),
    ),
    "tsart w/o L_t": ("tsart", tsart.TSARTConfig(**STEPS, loss=tsart.PooledLoss(triplet=0.0))),
    "tsart w/o L_pro": ("tsart", tsart.TSARTConfig(**STEPS, loss=tsart.PooledLoss(projection=0.0))),
    "tsart w/o L_re": ("tsart", tsart.TSARTConfig(**STEPS, loss=tsart.PooledLoss(reconstruction=0.0))),
    "tsart printed loss": ("tsart", tsart.TSARTConfig(**STEPS, loss=tsart.PrintedLoss())),
    "ez": ("ez_avgzl", EZConfig(**ENCODER)),
    "ez cosine": ("ez_avgzl", EZConfig(**ENCODER | {"dim": 300}, similarity=CosineSimilarity())),
    "ez linear": ("ez_avgzl", EZConfig(**ENCODER, similarity=LinearSimilarity())),
    "ez MLP": ("ez_avgzl", EZConfig(**ENCODER, similarity=MLPSimilarity(hidden=32))),
    "ez among clips": ("ez_avgzl", EZConfig(**ENCODER, contrast=AmongClips())),
}
assert {name for name, _ in VARIANTS.values()} == set(MODELS)


@dataclass(frozen=True)
class World:
    """Eight real clips of four classes; two of them cut short, so that batches are ragged."""

    data: ClipData

    def build(self, variant: str, seed: int = 0):
        from neuroav.train.seed import seed_torch

        seed_torch(seed)
        name, config = VARIANTS[variant]
        return build(name, self.data.spec, config)


@pytest.fixture(scope="session")
def world() -> World:
    described, labels = [], []
    for label, class_index in enumerate((0, 4, 20, 31)):
        for clip in range(2):
            rendered = render_clip(class_index, clip, scene=(3 * label + clip) % 8)
            described.append(describe_clip(rendered.frames, rendered.t_us, rendered.audio, rendered.audio_rate))
            labels.append(label)
    lengths = [12, 12, 9, 12, 12, 5, 12, 12]
    flat = {
        k: np.concatenate([getattr(d, k)[:n] for d, n in zip(described, lengths)])
        for k in ("t_s", "video", "audio", "motion")
    }
    clips = LoadedClips(**flat, offsets=np.cumsum([0, *lengths]), labels=np.array(labels))
    return World(ClipData(clips, Statistics.of(clips), class_vectors()[[0, 4, 20, 31]]))


@pytest.fixture(params=list(VARIANTS))
def variant(request) -> str:
    return request.param


@pytest.fixture(params=list(MODELS))
def system(request) -> tuple[str, Any]:
    """Every entry of the table, with the configuration of its first variant."""
    return next(variant for variant in VARIANTS.values() if variant[0] == request.param)
