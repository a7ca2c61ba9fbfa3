// The kernels of neurons.cuh for x of this type; a file for each, as compiling one takes seconds.
#include "neurons.cuh"

NEUROAV_LIF_KERNELS(float64, 1, double, double)
NEUROAV_LIF_KERNELS(float64_wide, 2, double, double)
