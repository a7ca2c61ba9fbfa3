// The kernels of neurons.cuh for x of this type; a file for each, as compiling one takes seconds.
#include "neurons.cuh"

NEUROAV_LIF_KERNELS(bfloat16, 1, BFloat16, float)
NEUROAV_LIF_KERNELS(bfloat16_wide, 4, BFloat16, float)
