// The extension module: gathers what the other files export. No torch headers, so one build serves every
// torch version: pointers come in as integers, sizes and strides as numbers; results own their memory (arrays.h).
#include <pybind11/pybind11.h>

#ifdef _OPENMP
#include <omp.h>
#endif
#include <string>

void bind_camera(pybind11::module_& m);
void bind_events(pybind11::module_& m);
void bind_bins(pybind11::module_& m);
void bind_luma(pybind11::module_& m);
void bind_planes(pybind11::module_& m);
void bind_neurons(pybind11::module_& m);
void bind_sparse(pybind11::module_& m);

static std::string build_info() {
#ifdef _OPENMP
  std::string threads = "OpenMP";
#else
  std::string threads = "no OpenMP";
#endif
#if defined(__VERSION__)
  return threads + ", compiler " + __VERSION__;
#else
  return threads;
#endif
}

PYBIND11_MODULE(_cpu, m) {
  m.doc() = "neuroav CPU kernels";
  m.attr("interface") = 8;  // one more with every change of what Python calls; neuroav/kernels/cpu.py asks for it
  m.def("build_info", &build_info);
  bind_camera(m);
  bind_events(m);
  bind_bins(m);
  bind_luma(m);
  bind_planes(m);
  bind_neurons(m);
  bind_sparse(m);
}
