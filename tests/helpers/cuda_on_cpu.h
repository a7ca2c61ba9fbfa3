// Runs CUDA kernels on a CPU, thread by thread, to find wrong indices, missing barriers and races where no GPU is.
//
// Include this, then a .cu file, then list its kernels with CUDA_ON_CPU_RUN. A block's threads are fibers that run
// until they meet a barrier or a warp-wide function; a warp runs until all of it waits for the block, then the next one
// does. The order of warps, of lanes and of blocks is chosen by the caller, so a result that depends on it (a missing
// barrier) shows. Not shown: a missing __syncwarp beside another warp-wide function, which orders memory here but not on
// a GPU. Every kernel argument is 8 bytes: a pointer or an int64_t. What a kernel must not do ends the run with a message: threads of a
// warp that wait for each other in different functions, a barrier that some never reach, a lane outside its own mask.
#pragma once

#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __shared__ static
#define __align__(bytes) __attribute__((aligned(bytes)))

struct uint4 {
  uint32_t x, y, z, w;
};

namespace cuda_on_cpu {

constexpr int kWarp = 32;
constexpr size_t kStack = 64 * 1024;
constexpr int kMaxThreads = 1024;

struct Index {
  unsigned x = 0, y = 0, z = 0;
};

struct Fiber {
  ucontext_t context;  // to enter with
  jmp_buf place;       // to come back to; unlike swapcontext, no system call
  bool entered = false;
  std::vector<char> stack;
  Index thread;
  bool done = true;
  const char* waits_in = nullptr;  // the function, or null when it may run
  bool for_block = false;
  uint32_t mask = 0;
  uint64_t value = 0;
  uint64_t seen[kWarp];  // what the lanes of the mask gave
};

inline std::vector<Fiber> fibers(kMaxThreads);
inline jmp_buf scheduler;
inline Fiber* self;
inline Index block, block_size, grid_size;
inline void (*body)(void**);
inline void** body_arguments;

// From the scheduler into the current fiber, and back.
inline void resume() {
  if (_setjmp(scheduler)) return;
  if (self->entered) _longjmp(self->place, 1);
  self->entered = true;
  setcontext(&self->context);
}
inline void leave() {
  if (!_setjmp(self->place)) _longjmp(scheduler, 1);
}

inline void wait(const char* function, bool for_block, uint32_t mask, uint64_t value) {
  self->waits_in = function;
  self->for_block = for_block;
  self->mask = mask;
  self->value = value;
  leave();
}

template <class T>
const uint64_t* in_warp(const char* function, uint32_t mask, T value) {
  static_assert(sizeof(T) <= 8);
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  wait(function, false, mask, bits);
  return self->seen;
}

template <class T>
T as(uint64_t bits) {
  T value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

inline unsigned lane() { return self->thread.x % kWarp; }

inline void start() {
  body(body_arguments);
  self->done = true;
  leave();
}

// Lets go on every group of lanes that all wait in the same function with the same mask.
inline bool release_warp(int first, int threads) {
  bool released = false;
  for (int i = first; i < first + kWarp && i < threads; ++i) {
    Fiber& one = fibers[i];
    if (one.done || !one.waits_in || one.for_block) continue;
    if (!(one.mask >> (i - first) & 1)) throw std::runtime_error(std::string(one.waits_in) + ": lane not in its mask");
    uint64_t seen[kWarp] = {};
    bool complete = true;
    for (int lane = 0; lane < kWarp && complete; ++lane) {
      if (!(one.mask >> lane & 1)) continue;
      if (first + lane >= threads) throw std::runtime_error(std::string(one.waits_in) + ": mask names no thread");
      const Fiber& other = fibers[first + lane];
      if (other.done) throw std::runtime_error(std::string(one.waits_in) + ": waits for a thread that has left");
      complete = other.waits_in && !other.for_block && other.mask == one.mask &&
                 std::string(other.waits_in) == one.waits_in;
      seen[lane] = other.value;
    }
    if (!complete) continue;
    for (int lane = 0; lane < kWarp; ++lane) {
      if (!(one.mask >> lane & 1)) continue;
      std::memcpy(fibers[first + lane].seen, seen, sizeof seen);
      if (first + lane != i) fibers[first + lane].waits_in = nullptr;
    }
    one.waits_in = nullptr;
    released = true;
  }
  return released;
}

inline bool release_block(int threads) {
  int waiting = 0, live = 0;
  for (int i = 0; i < threads; ++i) {
    live += !fibers[i].done;
    waiting += !fibers[i].done && fibers[i].waits_in && fibers[i].for_block;
  }
  if (live == 0 || waiting < live) return false;
  for (int i = 0; i < threads; ++i) fibers[i].waits_in = nullptr;
  return true;
}

// The order in which n things run: 0 as numbered, 1 backwards, others at random.
inline std::vector<int> order_of(int n, int64_t order, uint64_t& random) {
  std::vector<int> list(n);
  std::iota(list.begin(), list.end(), 0);
  if (order == 1) std::reverse(list.begin(), list.end());
  for (int i = n - 1; order > 1 && i > 0; --i) {
    random = random * 6364136223846793005ull + 1442695040888963407ull;
    std::swap(list[i], list[(random >> 33) % (i + 1)]);
  }
  return list;
}

// Runs every lane of a warp until it waits or ends; says whether anything moved.
inline bool run_warp(int first, int threads, int64_t order, uint64_t& random) {
  bool moved = false;
  for (int lane : order_of(std::min(kWarp, threads - first), order, random)) {
    Fiber& fiber = fibers[first + lane];
    if (fiber.done || fiber.waits_in) continue;
    self = &fiber;
    resume();
    moved = true;
  }
  return release_warp(first, threads) || moved;
}

inline void run_block(int threads, int64_t order, uint64_t& random) {
  for (int i = 0; i < threads; ++i) {
    Fiber& fiber = fibers[i];
    fiber.stack.resize(kStack);
    fiber.thread.x = i;
    fiber.done = false;
    fiber.entered = false;
    fiber.waits_in = nullptr;
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.data();
    fiber.context.uc_stack.ss_size = kStack;
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, start, 0);
  }
  while (true) {
    bool moved = false;
    for (int warp : order_of((threads + kWarp - 1) / kWarp, order, random)) {
      while (run_warp(warp * kWarp, threads, order, random)) moved = true;
    }
    if (std::all_of(fibers.begin(), fibers.begin() + threads, [](const Fiber& fiber) { return fiber.done; })) return;
    moved |= release_block(threads);
    if (!moved) throw std::runtime_error("threads wait for each other in different functions");
  }
}

template <class... Arguments, size_t... I>
void call(void (*kernel)(Arguments...), void** arguments, std::index_sequence<I...>) {
  static_assert(((sizeof(Arguments) == 8) && ...), "kernel arguments are pointers or int64_t");
  kernel(*static_cast<Arguments*>(arguments[I])...);
}

template <class... Arguments>
void call(void (*kernel)(Arguments...), void** arguments) {
  call(kernel, arguments, std::index_sequence_for<Arguments...>());
}

template <class... Arguments>
constexpr int64_t takes(void (*)(Arguments...)) {
  return sizeof...(Arguments);
}

// Returns an empty string, or what went wrong.
inline std::string run(void (*kernel)(void**), int64_t blocks, int64_t threads, void** arguments, int64_t order) {
  body = kernel;
  body_arguments = arguments;
  block_size.x = static_cast<unsigned>(threads);
  grid_size.x = static_cast<unsigned>(blocks);
  uint64_t random = static_cast<uint64_t>(order);
  try {
    for (int i : order_of(static_cast<int>(blocks), order, random)) {
      block.x = static_cast<unsigned>(i);
      run_block(static_cast<int>(threads), order, random);
    }
  } catch (const std::exception& error) {
    return error.what();
  }
  return "";
}

}  // namespace cuda_on_cpu

#define threadIdx (cuda_on_cpu::self->thread)
#define blockIdx (cuda_on_cpu::block)
#define blockDim (cuda_on_cpu::block_size)
#define gridDim (cuda_on_cpu::grid_size)

inline void __syncthreads() { cuda_on_cpu::wait("__syncthreads", true, 0, 0); }
inline void __syncwarp(uint32_t mask = 0xffffffffu) { cuda_on_cpu::in_warp("__syncwarp", mask, 0); }

template <class T>
T __shfl_sync(uint32_t mask, T value, int source) {
  return cuda_on_cpu::as<T>(cuda_on_cpu::in_warp("__shfl_sync", mask, value)[source % 32]);
}
template <class T>
T __shfl_up_sync(uint32_t mask, T value, unsigned step) {
  const uint64_t* seen = cuda_on_cpu::in_warp("__shfl_up_sync", mask, value);
  return cuda_on_cpu::lane() >= step ? cuda_on_cpu::as<T>(seen[cuda_on_cpu::lane() - step]) : value;
}
template <class T>
T __shfl_xor_sync(uint32_t mask, T value, unsigned flip) {
  return cuda_on_cpu::as<T>(cuda_on_cpu::in_warp("__shfl_xor_sync", mask, value)[cuda_on_cpu::lane() ^ flip]);
}
inline uint32_t __ballot_sync(uint32_t mask, int predicate) {
  const uint64_t* seen = cuda_on_cpu::in_warp("__ballot_sync", mask, predicate != 0);
  uint32_t votes = 0;
  for (int lane = 0; lane < 32; ++lane) votes |= (mask >> lane & 1) && seen[lane] ? 1u << lane : 0;
  return votes;
}
inline int __any_sync(uint32_t mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }
template <class T>
uint32_t __match_any_sync(uint32_t mask, T value) {
  const uint64_t* seen = cuda_on_cpu::in_warp("__match_any_sync", mask, value);
  uint32_t peers = 0;
  for (int lane = 0; lane < 32; ++lane) {
    peers |= (mask >> lane & 1) && cuda_on_cpu::as<T>(seen[lane]) == value ? 1u << lane : 0;
  }
  return peers;
}
inline uint32_t __reduce_add_sync(uint32_t mask, uint32_t value) {
  const uint64_t* seen = cuda_on_cpu::in_warp("__reduce_add_sync", mask, value);
  uint32_t sum = 0;
  for (int lane = 0; lane < 32; ++lane) sum += mask >> lane & 1 ? static_cast<uint32_t>(seen[lane]) : 0;
  return sum;
}
inline uint32_t __reduce_max_sync(uint32_t mask, uint32_t value) {
  const uint64_t* seen = cuda_on_cpu::in_warp("__reduce_max_sync", mask, value);
  uint32_t top = 0;
  for (int lane = 0; lane < 32; ++lane) top = std::max(top, mask >> lane & 1 ? static_cast<uint32_t>(seen[lane]) : 0);
  return top;
}
inline int __popc(uint32_t bits) { return __builtin_popcount(bits); }
inline int __ffs(uint32_t bits) { return __builtin_ffs(static_cast<int>(bits)); }
inline int __clz(uint32_t bits) { return bits ? __builtin_clz(bits) : 32; }

template <class T, class V>
T atomicAdd(T* at, V value) {
  const T before = *at;
  *at = static_cast<T>(before + static_cast<T>(value));
  return before;
}
template <class T, class V>
T atomicMax(T* at, V value) {
  const T before = *at;
  *at = std::max(before, static_cast<T>(value));
  return before;
}

// The way in: runs a kernel by name and returns null, or what went wrong. Use CUDA_ON_CPU_RUN(CUDA_ON_CPU_KERNEL(a) ...).
#define CUDA_ON_CPU_KERNEL(name)                                                  \
  if (wanted == #name) {                                                          \
    count_matches = cuda_on_cpu::takes(name) == count;                            \
    kernel = [](void** arguments) { cuda_on_cpu::call(name, arguments); };        \
  }
#define CUDA_ON_CPU_RUN(kernels)                                                                                \
  extern "C" const char* cuda_on_cpu_run(const char* name, int64_t blocks, int64_t threads, void** arguments,  \
                                         int64_t count, int64_t order) {                                       \
    static std::string error;                                                                                  \
    const std::string wanted = name;                                                                           \
    void (*kernel)(void**) = nullptr;                                                                          \
    bool count_matches = false;                                                                                \
    kernels;                                                                                                   \
    if (!kernel) return "no such kernel";                                                                      \
    if (!count_matches) return "wrong number of arguments";                                                    \
    error = cuda_on_cpu::run(kernel, blocks, threads, arguments, order);                                       \
    return error.empty() ? nullptr : error.c_str();                                                            \
  }
