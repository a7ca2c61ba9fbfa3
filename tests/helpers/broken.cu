// Kernels with the mistakes that tests/helpers/cuda_on_cpu.h must find.

// Reads a neighbour's value without waiting for it: the result depends on the order of the threads.
extern "C" __global__ void no_barrier(int64_t* out) {
  __shared__ int64_t values[64];
  values[threadIdx.x] = threadIdx.x;
  out[threadIdx.x] = values[(threadIdx.x + 1) % blockDim.x];
  values[threadIdx.x] = -1;
}

// The same as it should be.
extern "C" __global__ void with_barrier(int64_t* out) {
  __shared__ int64_t values[64];
  values[threadIdx.x] = threadIdx.x;
  __syncthreads();
  out[threadIdx.x] = values[(threadIdx.x + 1) % blockDim.x];
  __syncthreads();
  values[threadIdx.x] = -1;
}

// Half a warp asks for the votes of all.
extern "C" __global__ void half_a_warp(int64_t* out) {
  if (threadIdx.x % 32 < 16) out[threadIdx.x] = __ballot_sync(0xffffffffu, 1);
}

// Two halves wait for each other in different functions.
extern "C" __global__ void two_functions(int64_t* out) {
  if (threadIdx.x % 32 < 16) {
    out[threadIdx.x] = __ballot_sync(0xffffffffu, 1);
  } else {
    out[threadIdx.x] = __shfl_sync(0xffffffffu, 1, 0);
  }
}

// One lane is not in the mask that it gives.
extern "C" __global__ void wrong_mask(int64_t* out) { out[threadIdx.x] = __ballot_sync(0xfffffffeu, 1); }

// What the warp-wide functions return; 64 threads.
extern "C" __global__ void warp_functions(int64_t* out) {
  const int lane = threadIdx.x % 32;
  const uint32_t all = 0xffffffffu, group = lane < 8 ? 0x000000ffu : 0xffffff00u;
  int64_t* const mine = out + threadIdx.x * 8;
  mine[0] = __shfl_up_sync(all, lane, 3);
  mine[1] = __shfl_xor_sync(all, lane, 5);
  mine[2] = __shfl_sync(all, lane, 7);
  mine[3] = __ballot_sync(all, lane % 3 == 0);
  mine[4] = __any_sync(all, lane == 40);
  mine[5] = __match_any_sync(all, static_cast<uint32_t>(lane / 10));
  mine[6] = __reduce_add_sync(group, static_cast<uint32_t>(lane));
  mine[7] = __popc(lane) * 100 + __ffs(lane);
}
