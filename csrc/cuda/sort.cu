// Sorts the records of each frame by time, stably, and takes them apart into the columns of the event list.
//
// One block of 512 threads per (clip, frame), so blocks never wait for each other: a radix sort, least significant
// digit first, whose digits are as wide as the longest interval needs (two of 8 bits at 25 frames per second). The
// last pass writes columns instead of records. Bytes per event with two passes: 8 for the histograms, 16 for the first
// pass, 8 + 13 for the last. Records arrive in raster order and every step keeps the order of equal digits, so the
// result is in the documented order; no atomic decides a place.
#include "warp.cuh"

using namespace neuroav;

namespace {

constexpr int kThreads = 512, kWarps = kThreads / kLanes, kItems = 8, kBatch = kThreads * kItems;
constexpr int kMaxBits = 9, kDigits = 1 << kMaxBits, kMaxPasses = 4;
static_assert(kDigits == kThreads, "one thread per digit");

struct Shared {
  uint32_t histogram[kMaxPasses][kDigits];
  uint32_t next[kDigits];   // where a digit's next record goes, from the frame's first
  uint32_t shift[kDigits];  // from a record's place in the sorted batch to its place in the frame, modulo 2^32
  uint32_t start[kDigits];  // where a digit begins in the sorted batch
  uint32_t sums[kWarps];
  union {
    uint16_t counts[kWarps][kDigits];  // records of each digit in each warp's part of the batch
    uint64_t batch[kBatch];
  };
};

// The exclusive sum over the threads of the block; every thread must call it, with a barrier before the next call.
__device__ uint32_t block_sum_before(uint32_t value, uint32_t* sums) {
  const int lane = threadIdx.x % kLanes, warp = threadIdx.x / kLanes;
  uint32_t total;
  uint32_t before = sum_before(value, lane, total);
  if (lane == 0) sums[warp] = total;
  __syncthreads();
  for (int i = 0; i < warp; ++i) before += sums[i];
  return before;
}

struct Digit {
  int bits, pass;
  __device__ uint32_t of(uint64_t record) const {
    return (event_offset_us(record) >> (pass * bits)) & ((1u << bits) - 1);
  }
};

// Gives every record of a batch its place among those of its digit in its warp's part, in order.
__device__ void rank(const uint32_t* digits, const bool* valid, uint16_t* counts, uint32_t* ranks) {
  const uint32_t lower_lanes = (1u << threadIdx.x % kLanes) - 1;
#pragma unroll
  for (int i = 0; i < kItems; ++i) {
    const uint32_t peers = __match_any_sync(kAll, valid[i] ? digits[i] : kDigits);
    const uint32_t lower = __popc(peers & lower_lanes);
    const uint32_t before = valid[i] ? counts[digits[i]] : 0;
    __syncwarp();
    if (valid[i] && lower == 0) counts[digits[i]] = static_cast<uint16_t>(before + __popc(peers));
    __syncwarp();
    ranks[i] = before + lower;
  }
}

// Moves one batch, of `size` records, to its places; `put(place, record)` stores.
template <class Put>
__device__ void place_batch(Shared& s, const uint64_t* source, uint32_t size, Digit digit, const Put& put) {
  const int lane = threadIdx.x % kLanes, warp = threadIdx.x / kLanes;
  uint64_t records[kItems];
  uint32_t digits[kItems], ranks[kItems];
  bool valid[kItems];
#pragma unroll
  for (int i = 0; i < kItems; ++i) {
    const uint32_t at = (warp * kItems + i) * kLanes + lane;
    valid[i] = at < size;
    records[i] = valid[i] ? source[at] : 0;
    digits[i] = digit.of(records[i]);
  }
  for (int i = threadIdx.x; i < kWarps * kDigits; i += kThreads) s.counts[i / kDigits][i % kDigits] = 0;
  __syncthreads();
  rank(digits, valid, s.counts[warp], ranks);
  __syncthreads();
  const int own = threadIdx.x;  // one digit each
  uint32_t total = 0;
  for (int w = 0; w < kWarps; ++w) {
    const uint32_t count = s.counts[w][own];
    s.counts[w][own] = static_cast<uint16_t>(total);
    total += count;
  }
  const uint32_t start = block_sum_before(total, s.sums);
  s.start[own] = start;
  s.shift[own] = s.next[own] - start;
  s.next[own] += total;
  __syncthreads();
#pragma unroll
  for (int i = 0; i < kItems; ++i) ranks[i] += s.start[digits[i]] + s.counts[warp][digits[i]];
  __syncthreads();  // `batch` takes the place of `counts`
#pragma unroll
  for (int i = 0; i < kItems; ++i) {
    if (valid[i]) s.batch[ranks[i]] = records[i];
  }
  __syncthreads();
  for (uint32_t at = threadIdx.x; at < size; at += kThreads) {
    const uint64_t record = s.batch[at];
    put(s.shift[digit.of(record)] + at, record);
  }
  __syncthreads();
}

template <class Put>
__device__ void sort_pass(Shared& s, const uint64_t* source, uint32_t size, Digit digit, const Put& put) {
  s.next[threadIdx.x] = block_sum_before(s.histogram[digit.pass][threadIdx.x], s.sums);
  for (uint32_t at = 0; at < size; at += kBatch) {
    place_batch(s, source + at, size - at < kBatch ? size - at : kBatch, digit, put);
  }
}

struct Record {
  uint64_t* to;
  __device__ void operator()(uint32_t place, uint64_t record) const { to[place] = record; }
};

struct Columns {
  int64_t start_us;
  int64_t* t_us;
  int16_t *x, *y;
  uint8_t *p, *noise;
  __device__ void operator()(uint32_t place, uint64_t record) const {
    t_us[place] = start_us + event_offset_us(record);
    x[place] = static_cast<int16_t>(event_x(record));
    y[place] = static_cast<int16_t>(event_y(record));
    p[place] = event_p(record);
    if (noise) noise[place] = event_is_noise(record);
  }
};

}  // namespace

// records (E) in raster order per frame, ends (B, F, tiles) and edges_us (B, F + 1) of events.cu; spare (E)
// -> t_us, x, y, p and, unless it is null, noise (E). Launch with B * F blocks of 512 threads. The records are used up, and t_us may lie where the
// last pass does not read: over `records` with an even number of passes, over `spare` with an odd one.
extern "C" __global__ void __launch_bounds__(kThreads)
    sort_events(uint64_t* records, uint64_t* spare, const int64_t* ends, const int64_t* edges_us, int64_t num_frames,
                int64_t tiles, int64_t passes, int64_t bits, int64_t* t_us, int16_t* x, int16_t* y, uint8_t* p,
                uint8_t* noise) {
  __shared__ Shared s;
  const int64_t segment = blockIdx.x;
  const int64_t begin = segment > 0 ? ends[segment * tiles - 1] : 0;
  const uint32_t size = static_cast<uint32_t>(ends[(segment + 1) * tiles - 1] - begin);
  if (size == 0) return;
  for (int pass = 0; pass < passes; ++pass) s.histogram[pass][threadIdx.x] = 0;
  __syncthreads();
  uint64_t *from = records + begin, *to = spare + begin;
  for (uint32_t at = threadIdx.x; at < size; at += kThreads) {
    const uint64_t record = from[at];
    for (int pass = 0; pass < passes; ++pass) {
      atomicAdd(&s.histogram[pass][Digit{static_cast<int>(bits), pass}.of(record)], 1u);
    }
  }
  __syncthreads();
  int pass = 0;
  for (; pass + 1 < passes; ++pass) {
    sort_pass(s, from, size, Digit{static_cast<int>(bits), pass}, Record{to});
    uint64_t* const other = from;
    from = to;
    to = other;
  }
  const int64_t start_us = edges_us[segment / num_frames * (num_frames + 1) + segment % num_frames];
  sort_pass(s, from, size, Digit{static_cast<int>(bits), pass},
            Columns{start_us, t_us + begin, x + begin, y + begin, p + begin, noise ? noise + begin : nullptr});
}
