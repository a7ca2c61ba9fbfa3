"""Frames to events by an installed v2e, for comparison: the same camera, their simulator, our conventions.

v2e [v2e] is not a dependency. What this module does is translate an :class:`~neuroav.events.camera.EventCamera` to
the arguments of ``v2ecore.emulator.EventEmulator``, feed it the frames, and put its rows in order:

==========================  ==========================================================================================
``EventCamera``             v2e
==========================  ==========================================================================================
``contrast_on, -_off``      ``pos_thres``, ``neg_thres``
``brightness``              ``LinLog(20)`` is v2e's own; any other law is handed over as log frames (``hdr=True``)
``timestamps``              must be ``"v2e"``: one grid of instants for the whole frame; it has no crossing times
``mismatch``                ``sigma_thres``
``refractory_us``           ``refractory_period_s``; ``refractory`` must be ``"hold"``. v2e's ``>`` is strict, and it
                            skips the period in frames whose grid is coarser than it
``cutoff_hz``               ``cutoff_hz``; ``poles`` must be 1
``leak_hz, -_jitter``       ``leak_rate_hz``, ``leak_jitter_fraction``
``leak_spread``             ``noise_rate_cov_decades``
``shot_hz, shot_slope``     ``shot_noise_rate_hz``, ``1 - SHOT_NOISE_INTEN_FACTOR``; at most one event per pixel
                            and frame
``photoreceptor_hz``        ``shot_noise_rate_hz`` with ``photoreceptor_noise=True``; not beside ``shot_hz``
``hot_, dead_fraction``     none: must be 0
``seed``                    seeds torch's generator for this call only
==========================  ==========================================================================================

Checked with v2e 1.5.1, commit cac6384. Its draws are not ours: noise agrees in rates, never event by event.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from neuroav.checks import fail
from neuroav.events.types import Events

if TYPE_CHECKING:
    from neuroav.events.camera import EventCamera

WHERE = 'frames_to_events(backend="v2e")'
REMEDY = "Install it with: pip install git+https://github.com/SensorsINI/v2e"
UNITS = 1 << 16  # of the brightness tables, per nat


def v2e_events(frames: Tensor, t_us: Tensor, camera: EventCamera) -> Events:
    """Run an installed v2e on frames and return its events in this package's units and order.

    v2e keeps seconds in float32 from the first frame on, so its times are good to a microsecond for about ten seconds;
    each is kept within its own frame interval. Rows are sorted by time, then row and column, as everywhere here.

    Args:
        frames: ``(F, H, W)`` uint8 grey frames, or float log-brightness frames.
        t_us: ``(F,)`` int64 frame times in microseconds, strictly increasing.
        camera: The camera; parameters that v2e doesn't have must be off.

    Returns:
        The events; none for fewer than two frames.

    Raises:
        InputError: If v2e is not installed, or the camera has something that v2e has not.
    """
    images, is_log = _images(frames, camera)
    seconds = (t_us - t_us[:1]).cpu().numpy() / 1e6
    parts: list[np.ndarray] = []
    with _own_random_numbers(camera.seed), quiet():
        emulator = new_emulator(camera, is_log=is_log, device=str(frames.device))
        for k, image in enumerate(images):
            rows = emulator.generate_events(image, float(seconds[k]))
            if rows is not None:
                parts.append(_columns(rows, t_us, k))
        forget(emulator)
    t, y, x, p = np.concatenate(parts, axis=1) if parts else np.zeros((4, 0), dtype=np.int64)
    size = (frames.shape[1], frames.shape[2])
    column, row = (torch.from_numpy(place.astype(np.int16)) for place in (x, y))
    return Events(torch.from_numpy(t.copy()), column, row, torch.from_numpy(p.astype(np.uint8)), size)


def new_emulator(camera: EventCamera, *, is_log: bool = False, device: str = "cpu") -> Any:
    """Return a ``v2ecore.emulator.EventEmulator`` with the parameters of ``camera``.

    Args:
        camera: The camera; parameters that v2e doesn't have must be off.
        is_log: Frames hold log brightness (v2e's ``hdr``) instead of grey levels.
        device: Torch device that v2e computes on.

    Raises:
        InputError: If v2e is not installed, or the camera has something that v2e has not.
    """
    _check_camera(camera, is_log)
    try:
        from v2ecore import emulator, emulator_utils
    except ImportError as error:
        raise fail(WHERE, "an installed v2e (v2ecore)", f"{type(error).__name__}: {error}", REMEDY) from error
    emulator_utils.compute_photoreceptor_noise_voltage.last_sample_rate = None  # or an earlier camera's noise is kept
    made = emulator.EventEmulator(
        pos_thres=camera.contrast_on,
        neg_thres=camera.contrast_off,
        sigma_thres=camera.mismatch,
        cutoff_hz=camera.cutoff_hz,
        leak_rate_hz=camera.leak_hz,
        refractory_period_s=camera.refractory_us / 1e6,
        shot_noise_rate_hz=camera.shot_hz or camera.photoreceptor_hz,
        photoreceptor_noise=camera.photoreceptor_hz > 0,
        leak_jitter_fraction=camera.leak_jitter,
        noise_rate_cov_decades=camera.leak_spread,
        device=device,
        hdr=is_log,
    )
    made.SHOT_NOISE_INTEN_FACTOR = 1 - camera.shot_slope
    return made


def forget(emulator: Any) -> None:
    """Let a used emulator be freed: v2e registers each one to be cleaned up when the interpreter ends."""
    import atexit

    atexit.unregister(emulator.cleanup)


@contextmanager
def quiet() -> Iterator[None]:
    """Hold back v2e's log lines below errors: it warns of every frame without events."""
    logger = logging.getLogger("v2ecore")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _check_camera(camera: EventCamera, is_log: bool) -> None:
    def need(ok: bool, name: str, wanted: str, why: str) -> None:
        if not ok:
            raise fail(WHERE, f"{name} {wanted}, as v2e {why}", repr(getattr(camera, name)))

    need(camera.timestamps == "v2e", "timestamps", "'v2e'", "has no crossing times")
    need(camera.refractory_us == 0 or camera.refractory == "hold", "refractory", "'hold'", "knows no other rule")
    need(camera.poles == 1, "poles", "1", "has a filter of one pole")
    need(camera.hot_fraction == 0, "hot_fraction", "0", "has no hot pixels")
    need(camera.dead_fraction == 0, "dead_fraction", "0", "has no dead pixels")
    both = camera.photoreceptor_hz > 0 and camera.shot_hz > 0
    need(not both, "shot_hz", "0 beside photoreceptor_hz", "makes one kind of noise at a time")
    need(
        camera.photoreceptor_hz == 0 or camera.cutoff_hz > 0,
        "cutoff_hz",
        "above 0 beside photoreceptor_hz",
        "filters that noise",
    )
    for name in ("cutoff_hz", "shot_hz"):
        need(
            not is_log or getattr(camera, name) == 0,
            name,
            "0 unless frames are uint8 and brightness is LinLog(20)",
            "takes the intensity from the frame",
        )


def _images(frames: Tensor, camera: EventCamera) -> tuple[np.ndarray, bool]:
    """Return frames as v2e takes them, and whether they hold log brightness."""
    from neuroav.events.camera import LinLog

    if frames.dtype != torch.uint8:
        return frames.cpu().numpy(), True
    if camera.brightness == LinLog(20):
        return frames.cpu().numpy(), False
    return (camera.brightness.table().cpu().double() / UNITS)[frames.cpu().long()].numpy(), True


def _columns(rows: np.ndarray, t_us: Tensor, k: int) -> np.ndarray:
    """Return ``t, y, x, p`` ``(4, E)`` int64 of the rows that v2e gave for frame ``k``, in this package's order."""
    first, before, now = (int(t_us[i]) for i in (0, k - 1, k))
    t = first + np.rint(rows[:, 0].astype(np.float64) * 1e6).astype(np.int64)
    x, y = rows[:, 1].astype(np.int64), rows[:, 2].astype(np.int64)
    columns = np.stack([t.clip(before + 1, now), y, x, (rows[:, 3] > 0).astype(np.int64)])
    return columns[:, np.lexsort((x, y, columns[0]))]


@contextmanager
def _own_random_numbers(seed: int) -> Iterator[None]:
    """Seed torch's generator, from which v2e draws, and put it back afterwards."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield
