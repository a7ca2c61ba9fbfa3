"""Runs ``neuroav.kernels.cuda`` on CPU tensors: its kernels are compiled by a C++ compiler with ``cuda_on_cpu.h``."""

import ctypes
import ctypes.util
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
KERNEL = re.compile(r'extern "C" __global__ void\s+(?:__launch_bounds__\(\w+\)\s+)?(\w+)\(')


class CudaOnCpu:
    """A stand-in for ``neuroav.kernels.cuda.launch``; ``order`` says in which order threads and blocks run."""

    def __init__(self, sources, folder, compiler="g++"):
        self.order = 0
        self.launched = []
        with ThreadPoolExecutor() as pool:
            libraries = pool.map(lambda source: _compile(source, Path(folder), compiler), sources)
            self._libraries = dict(zip(sources, libraries, strict=True))

    def launch(self, source, kernel, blocks, threads, *args):
        self.launched.append(kernel)
        values = [(ctypes.c_double if isinstance(arg, float) else ctypes.c_int64)(_value(arg)) for arg in args]
        pointers = (ctypes.c_void_p * len(values))(*(ctypes.addressof(value) for value in values))
        run = self._libraries[source].cuda_on_cpu_run
        run.restype = ctypes.c_char_p
        run.argtypes = [
            ctypes.c_char_p,
            ctypes.c_int64,
            ctypes.c_int64,
            ctypes.c_void_p,
            ctypes.c_int64,
            ctypes.c_int64,
        ]
        error = run(kernel.encode(), blocks, threads, pointers, len(values), self.order)
        if error:
            raise RuntimeError(f"{kernel}: {error.decode()}")


def _value(arg):
    if arg is None:
        return 0
    if isinstance(arg, (int, float)):
        return arg
    assert arg.is_contiguous()
    return arg.data_ptr()


def _compile(source, folder, compiler):
    """Compile one ``.cu`` file, or anything else that holds kernels, into a library that runs them by name."""
    path = ROOT / "csrc" / "cuda" / f"{source}.cu" if isinstance(source, str) else source
    includes = ["-I", ROOT / "csrc" / "common", "-I", ROOT / "csrc" / "cuda"]
    preprocessed = subprocess.run([compiler, "-E", "-x", "c++", *includes, path], check=True, capture_output=True)
    kernels = KERNEL.findall(preprocessed.stdout.decode())
    assert kernels, f"no kernel in {path}"
    wrapper = folder / f"{path.stem}.cpp"
    wrapper.write_text(
        f'#include "{Path(__file__).with_suffix(".h")}"\n#include "{path}"\n'
        + "CUDA_ON_CPU_RUN("
        + " ".join(f"CUDA_ON_CPU_KERNEL({kernel})" for kernel in kernels)
        + ")\n",
        encoding="utf-8",
    )
    library = folder / f"{path.stem}.so"
    command = [
        compiler, "-std=c++17", "-O1", "-fPIC", "-shared", "-Wno-attributes", "-fsanitize=undefined",
        "-fno-sanitize-recover=undefined", *includes, wrapper, "-o", library,
    ]  # fmt: skip
    subprocess.run(command, check=True)
    return ctypes.CDLL(str(library))


def find_nvrtc():
    """Return the NVRTC library of a CUDA toolkit or of the ``nvidia`` wheels, or None."""
    wheels = [Path(folder) for folder in sys.path if folder]
    candidates = [found for folder in wheels for found in sorted(folder.glob("nvidia/*/lib/libnvrtc.so.*"))]
    candidates += [name for name in [ctypes.util.find_library("nvrtc")] if name]
    for candidate in candidates:
        try:
            return ctypes.CDLL(str(candidate))
        except OSError:
            continue
    return None


def compile_with_nvrtc(nvrtc, code, options):
    """Compile and return what the compiler says: nothing when all is well."""
    program, size = ctypes.c_void_p(), ctypes.c_size_t()
    assert nvrtc.nvrtcCreateProgram(ctypes.byref(program), code.encode(), b"kernels.cu", 0, None, None) == 0
    flags = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
    failed = nvrtc.nvrtcCompileProgram(program, len(options), flags)
    assert nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size)) == 0
    log = ctypes.create_string_buffer(size.value)
    assert nvrtc.nvrtcGetProgramLog(program, log) == 0
    nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
    return log.value.decode() or ("failed" if failed else "")
