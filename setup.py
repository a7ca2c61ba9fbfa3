"""Builds the CPU extension (no torch headers) and ships the CUDA sources as package data.

Without a compiler the package still installs and runs on the PyTorch reference; ``neuroav --version`` says which.
``NEUROAV_BUILD=none`` skips the extension on purpose.
"""

import os
import shutil
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
HEADERS = {".h", ".cuh", ".cu"}  # what a source distribution carries beside the C++ sources


class BuildExtension(build_ext):
    """Adds the compiler's OpenMP flags; a failed build is reported and leaves the reference in charge."""

    def build_extensions(self):
        if self.compiler.compiler_type == "msvc":
            compile_args, link_args = ["/O2", "/std:c++17", "/openmp", "/fp:precise"], []
        else:
            # -ffp-contract=off: csrc/common says where a fused multiply-add is meant, the compiler adds none.
            compile_args = ["-O3", "-std=c++17", "-ffp-contract=off", "-fvisibility=hidden"]
            link_args = []
            if "CFLAGS" not in os.environ:  # Python's own flags ask for debugging symbols: 25 MB, a third of the time
                compile_args.append("-g0")
            if sys.platform != "darwin":
                compile_args.append("-fopenmp")
                link_args.append("-fopenmp")
        for extension in self.extensions:
            extension.extra_compile_args += compile_args
            extension.extra_link_args += link_args
        super().build_extensions()


class BuildPackage(build_py):
    """Copies ``csrc`` into built packages, so that the CUDA sources can be compiled at first use."""

    def run(self):
        super().run()
        if not self.editable_mode:
            for folder in ("common", "cuda"):
                target = Path(self.build_lib) / "neuroav" / "_csrc" / folder
                shutil.copytree(ROOT / "csrc" / folder, target, dirs_exist_ok=True)


def extensions():
    if os.environ.get("NEUROAV_BUILD", "") == "none":
        return []
    import pybind11

    return [
        Extension(
            "neuroav._cpu",
            sources=sorted(str(p.relative_to(ROOT)) for p in (ROOT / "csrc" / "cpu").glob("*.cpp")),
            depends=sorted(str(p.relative_to(ROOT)) for p in (ROOT / "csrc").glob("**/*") if p.suffix in HEADERS),
            include_dirs=["csrc/common", pybind11.get_include()],
            language="c++",
            optional=True,
        )
    ]


setup(ext_modules=extensions(), cmdclass={"build_ext": BuildExtension, "build_py": BuildPackage})
