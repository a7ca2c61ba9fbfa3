// The kernels of neurons.cuh for x of this type; a file for each, as compiling one takes seconds.
#include "neurons.cuh"

NEUROAV_LIF_KERNELS(float32, 1, float, float)
NEUROAV_LIF_KERNELS(float32_wide, 4, float, float)
