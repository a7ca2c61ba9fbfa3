"""What every test shares: repeatable property tests, one thread, a tiny store, a reason where a GPU is missing."""

import pytest
from hypothesis import settings

settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
settings.load_profile("repeatable")


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """Small tensors are slower on several threads, by a factor of three on two busy cores."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_store(tmp_path_factory):
    """Path of a MotionScenes store of size ``tiny``, rendered once."""
    from neuroav.data.motionscenes import MotionScenesConfig, generate

    path = tmp_path_factory.mktemp("motionscenes") / "tiny.h5"
    generate(MotionScenesConfig(size="tiny"), path, workers=1, quiet=True)
    return path


@pytest.fixture
def interruptible():
    """Ctrl-C and termination are as on the command line, and afterwards as they were before."""
    from neuroav import interrupts

    with interrupts.never_lost():
        yield


def pytest_collection_modifyitems(items):
    """Skip tests marked ``gpu`` where torch sees no CUDA device."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
