// The kernels of neurons.cuh for x of this type; a file for each, as compiling one takes seconds.
#include "neurons.cuh"

NEUROAV_LIF_KERNELS(float16, 1, Half, float)
NEUROAV_LIF_KERNELS(float16_wide, 4, Half, float)
