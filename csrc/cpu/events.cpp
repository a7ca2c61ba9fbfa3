#include <pybind11/pybind11.h>
void bind_events(pybind11::module_& m) { (void)m; }
