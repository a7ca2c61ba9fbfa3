"""Writes tiny feature archives in the published layouts, and keeps what they hold in plain arrays."""

import csv
import pickle
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np

CLASSES = {
    "Archery": "Archery",
    "BandMarching": "Band Marching",
    "CleanAndJerk": "Weight Lifting",
    "Fencing": "Fencing",
    "PlayingFlute": "Playing Flute",
    "Rowing": "Rowing",
    "Typing": "Typing",
    "WallPushups": "Wall Pushups",
}
TRAIN, VAL_UNSEEN, TEST_UNSEEN = ["BandMarching", "CleanAndJerk"], ["Fencing", "Archery"], ["Rowing", "Typing"]
PARTS = {
    "stage_1_train": TRAIN,
    "stage_1_val_seen": TRAIN,
    "stage_1_val_unseen": VAL_UNSEEN,
    "stage_2_train": TRAIN + VAL_UNSEEN,
    "stage_2_test_seen": TRAIN + VAL_UNSEEN,
    "stage_2_test_unseen": TEST_UNSEEN,
}
DROPPED_BY_CLS = "Typing"
NAMES = {
    "UCF": ("ucf_w2v_class_names.csv", "word_embeddings_ucf_normed.npy"),
    "ActivityNet": ("activitynet_w2v_class_names.csv", "word_embeddings_activity_normed.npy"),
    "VGGSound": ("vggsound_w2v_class_names.csv", "word_embeddings_vggsound_normed.npy"),
}


@dataclass
class Tree:
    """A written tree: ``clips`` by (stage, class) as (name, audio, video), ``vectors`` by manual name."""

    folder: Path
    clips: dict = field(default_factory=dict)
    vectors: dict = field(default_factory=dict)


def write_tree(root, dataset="UCF", sequences=True, features="cls", seed=0, clips=2, dims=(5, 7), protocol=4):
    """Write ``root/dataset`` and return what is in it."""
    random = np.random.default_rng(seed)
    tree = Tree(Path(root) / dataset)
    names_csv, vectors_npy = NAMES[dataset]
    write_lists(tree.folder / "class-split", names_csv)
    base = tree.folder / "features" / (features + "_features" + "_non_averaged" * sequences)
    (base / "text").mkdir(parents=True)
    shuffled = random.permutation(list(CLASSES.values())).tolist()
    tree.vectors = {name: random.normal(size=6).astype(np.float32) for name in shuffled}
    np.save(base / "text" / vectors_npy, np.array(tree.vectors, dtype=object))
    for stage, classes in PARTS.items():
        for name in classes:
            rows = [_clip(random, f"v_{name}_{stage}_{i}", dims, sequences) for i in range(clips)]
            tree.clips[stage, name] = rows
            for modality, place in (("audio", 1), ("video", 2)):
                path = base / modality / stage / name
                path.parent.mkdir(parents=True, exist_ok=True)
                write_rows(path, [row[0] for row in rows], [row[place] for row in rows], sequences, protocol)
    return tree


def write_lists(folder, names_csv):
    """Write the lists of classes of both splits and the map of names."""
    for split in ("main_split", "cls_split"):
        (folder / split).mkdir(parents=True)
        for stage, classes in PARTS.items():
            kept = [name for name in classes if split == "main_split" or name != DROPPED_BY_CLS]
            (folder / split / f"{stage}.txt").write_text("".join(f"{name}\n" for name in kept))
    (folder / "all_class.txt").write_text("\n".join(CLASSES))
    with open(folder / names_csv, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["original", "manual"])
        writer.writerows(CLASSES.items())


def write_rows(path, names, values, sequences, protocol=4):
    """Write one class file, ``path`` without its suffix."""
    encoded = [name.encode() for name in names]
    if sequences:
        content = {"features": values, "video_names": encoded, "fps": [25] * len(names)}
        path.with_name(path.name + ".pkl").write_bytes(pickle.dumps(content, protocol))
        return
    with h5py.File(path.with_name(path.name + ".h5"), "w") as file:
        file["data"] = np.concatenate(values)
        file["video_urls"] = np.array(encoded, "S80")


def _clip(random, name, dims, sequences):
    steps = random.choice([2, 5, 9], 2) if sequences else (1, 1)
    audio = random.integers(0, 256, (steps[0], dims[0])).astype(np.float32)
    video = np.maximum(random.normal(size=(steps[1], dims[1])), 0).astype(np.float32)
    return name, audio, video
