"""Released settings for the other two benchmarks; those for UCF-GZSL are the defaults of each configuration.

By data set and model, paths in an :class:`~neuroav.config.Experiment` and the values that
:func:`~neuroav.config.changed` puts there: the configurations of the code of [avca] (``avmst``, of which only the
evaluation is released, comes with the same scripts) and of [tcaf]. A model without an entry has no settings of a data
set's own.
"""

from __future__ import annotations

from neuroav.config import Settings
from neuroav.data.windows import Crops
from neuroav.train.optim import Plateau, Step

_CROPS = {"steps": Crops(train=60, test=300)}  # ActivityNet's clips are long
_PAIR_ACTIVITYNET = {
    "config.dropout_encoder": 0.2,
    "config.dropout_projection": 0.2,
    "config.dropout_decoder": 0.1,
    "config.momentum": 0.99,
}
_PAIR_VGGSOUND = {
    "config.dropout_encoder": 0.0,
    "config.dropout_projection": 0.0,
    "config.dropout_decoder": 0.1,
    "train.batch_size": 64,
}
_NO_DROPOUT = {"config.dropout": 0.0}

SELAVI: Settings = {
    "vggsound": {
        **dict.fromkeys(("avca", "avmst"), _PAIR_VGGSOUND),
        **dict.fromkeys(("cjme", "ale", "devise", "sje"), _NO_DROPOUT),
        "fvaegan_d2": {"config.softmax.synthetic": 10_000},
        "tcaf": {
            "config.encoder_hidden": 128,
            "config.layers": 8,
            "config.heads": 6,
            "config.head_dim": 128,
            "config.dropout": 0.5,
            "config.dropout_encoder": 0.2,
            "config.dropout_output": 0.2,
            "config.dropout_word": 0.2,
            "train.lr": 7e-5,
            "train.schedule": Step(factor=1.0),
        },
    },
    "activitynet": {
        **dict.fromkeys(("avca", "avmst"), _PAIR_ACTIVITYNET),
        "tcaf": {
            "config.encoder_hidden": 128,
            "config.layers": 8,
            "config.heads": 3,
            "config.head_dim": 128,
            "config.dropout_encoder": 0.2,
            "config.dropout_output": 0.1,
            "train.lr": 7e-5,
            "train.schedule": Plateau(),
            **_CROPS,
        },
    },
}

_TOKENS_VGGSOUND = {"config.layers": 8, "config.dropout": 0.5, "config.dropout_position": 0.1}
_ENDS_VGGSOUND = {
    "config.dropout_encoder": 0.2,
    "config.dropout_output": 0.2,
    "train.lr": 6e-5,
    "train.schedule": Step(factor=1.0),
}
_TOKENS_ACTIVITYNET = {"config.dropout": 0.4}
_ENDS_ACTIVITYNET = {"config.dropout_encoder": 0.1, **_CROPS}  # 0.1 as the paper of [tcaf] has it; released 0.3

VGGISH_C3D: Settings = {
    "vggsound": {
        "avca": dict.fromkeys(("config.dropout_encoder", "config.dropout_projection", "config.dropout_decoder"), 0.0),
        "cjme": _NO_DROPOUT,
        **dict.fromkeys(("tcaf", "perceiver"), _TOKENS_VGGSOUND | _ENDS_VGGSOUND),
        "attention_fusion": _ENDS_VGGSOUND,
    },
    "activitynet": {
        "avca": _PAIR_ACTIVITYNET,
        **dict.fromkeys(("tcaf", "perceiver"), _TOKENS_ACTIVITYNET | _ENDS_ACTIVITYNET),
        "attention_fusion": _ENDS_ACTIVITYNET,
    },
}
