// The ideal camera, 64 pixels at a time, for processors with AVX-512 (VBMI2: Ice Lake, Zen 4 and later). The same
// events as detect_portable.h, bit for bit.
//
// A byte comparison finds the pixels that leave their silent range; these are packed together, and all further
// arithmetic runs on 16 of them at a time: brightness from the table by byte permutations (gathers are several times
// slower), crossings and times by float estimates that integers put right.
#pragma once

#include "detect.h"
#include "detect_portable.h"
#include "sinks.h"

#if defined(__GNUC__) && defined(__x86_64__)
#define NEUROAV_HAS_AVX512 1
#define NEUROAV_AVX512 \
  __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vbmi2,avx512vpopcntdq,popcnt,bmi,bmi2")))
#if !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // GCC 12 sees some in its own intrinsics
#endif
#include <immintrin.h>

namespace neuroav {
namespace avx512 {

inline bool supported() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512vbmi2") &&
         __builtin_cpu_supports("avx512vpopcntdq");
}

// How far above the lowest grey level 64 grey levels are, from a table kept as three planes of 256 bytes.
class Heights {
 public:
  explicit Heights(const int32_t* table) {
    for (int grey = 0; grey < 256; ++grey) {
      for (int plane = 0; plane < 3; ++plane) {
        planes_[plane][grey] = static_cast<uint8_t>((table[grey] - table[0]) >> (8 * plane));
      }
    }
    for (int i = 0; i < 64; ++i) {
      low_[i] = static_cast<uint8_t>(i % 4 == 1 ? 64 + i / 4 : i / 4);
      high_[i] = static_cast<uint8_t>(i / 4);
    }
  }

  NEUROAV_AVX512 void look_up(const uint8_t* grey, int32_t* heights) const {
    const __m512i index = _mm512_loadu_si512(grey);
    const __m512i p0 = plane(0, index), p1 = plane(1, index), p2 = plane(2, index);
    for (int part = 0; part < 4; ++part) {  // bytes of the planes, interleaved to int32
      const __m512i at = _mm512_set1_epi8(static_cast<char>(16 * part));
      const __m512i low = _mm512_add_epi8(_mm512_load_si512(low_), at);
      const __m512i high = _mm512_add_epi8(_mm512_load_si512(high_), at);
      const __m512i both = _mm512_maskz_permutex2var_epi8(0x3333333333333333, p0, low, p1);
      _mm512_storeu_si512(heights + 16 * part, _mm512_mask_permutexvar_epi8(both, 0x4444444444444444, high, p2));
    }
  }

 private:
  NEUROAV_AVX512 __m512i plane(int number, __m512i index) const {
    const uint8_t* bytes = planes_[number];
    const __m512i dark = _mm512_permutex2var_epi8(_mm512_load_si512(bytes), index, _mm512_load_si512(bytes + 64));
    const __m512i bright =
        _mm512_permutex2var_epi8(_mm512_load_si512(bytes + 128), index, _mm512_load_si512(bytes + 192));
    return _mm512_mask_blend_epi8(_mm512_movepi8_mask(index), dark, bright);
  }

  alignas(64) uint8_t planes_[3][256];
  alignas(64) uint8_t low_[64], high_[64];
};

class Detector : portable::Detector {
 public:
  explicit Detector(const Clip& clip)
      : portable::Detector(clip), heights_(clip.table), inverse_on_(1.0f / static_cast<float>(clip.c_on)),
        inverse_off_(1.0f / static_cast<float>(clip.c_off)) {}

  void operator()(int64_t begin, int64_t size, int64_t first, int64_t stop, bool counts, Records& records) {
    if (first == 0) start(begin, size);
    const TilePlaces places(begin, clip_.width);
    for (int64_t frame = first; frame < stop; ++frame) {
      if (clip_.dt_us(frame) < kLongInterval || counts) walk(begin, size, frame, counts, places, records);
      else portable::Detector::walk(begin, size, frame, counts, places, records);
      records.end_frame();
    }
    if (stop == clip_.num_frames) finish(begin, size);
  }

 private:
  // Shorter ones leave the float estimate of a time less than 3/4 us from the truth: the distance to the level is exact
  // in float, slope and product are rounded once each, hence an error of 2^21 * 2^-23 + 1/2 (rounding) at most.
  static constexpr uint32_t kLongInterval = 1u << 21;

  // The pixels of a tile that may fire, packed: their place in the tile and their grey levels.
  struct Active {
    int64_t count = 0;
    alignas(64) uint16_t index[kTile + 64];
    alignas(64) uint8_t before[kTile + 64], now[kTile + 64];
  };

  // Up to 16 of them, with how far their brightness was and is above the lowest.
  struct Active16 {
    const uint16_t* index;
    int64_t count;
    const int32_t *l0, *l1;
  };

  // One event or more of 16 pixels.
  struct Crossing {
    __m512i way, step, slope, span, place;  // from the last frame to the first level, between levels; slope is float
  };

  NEUROAV_AVX512 void walk(int64_t begin, int64_t size, int64_t frame, bool counts, const TilePlaces& places,
                           Records& records) {
    Active active;
    collect(begin, size, frame, active);
    alignas(64) int32_t l0[64], l1[64];
    for (int64_t first = 0; first < active.count; first += 64) {
      heights_.look_up(active.now + first, l1);
      if (frame > 0) heights_.look_up(active.before + first, l0);
      else first_heights(begin, active, first, l0);
      for (int64_t i = first; i < std::min(first + 64, active.count); i += 16) {
        const Active16 pixels{active.index + i, std::min<int64_t>(active.count - i, 16), l0 + i % 64, l1 + i % 64};
        fire(begin, frame, counts, places, pixels, records);
      }
    }
  }

  NEUROAV_AVX512 void collect(int64_t begin, int64_t size, int64_t frame, Active& active) const {
    const uint8_t* now = clip_.frames + frame * clip_.num_pixels() + begin;
    const uint8_t* before = frame > 0 ? now - clip_.num_pixels() : now;
    const uint8_t *lo = lo_.data() + begin, *hi = hi_.data() + begin;
    const int32_t* reference = clip_.reference + begin;
    const __m512i ladder = _mm512_cvtepu8_epi16(_mm256_setr_epi8(
        0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29,
        30, 31));
    int64_t count = 0;
    for (int64_t at = 0; at < size; at += 64) {
      const __mmask64 inside = size - at < 64 ? (uint64_t{1} << (size - at)) - 1 : ~uint64_t{0};
      const __m512i grey = _mm512_maskz_loadu_epi8(inside, now + at);
      const __mmask64 low = _mm512_mask_cmplt_epu8_mask(inside, grey, _mm512_loadu_si512(lo + at));
      const __mmask64 leaves = low | _mm512_mask_cmpgt_epu8_mask(inside, grey, _mm512_loadu_si512(hi + at));
      if (leaves == 0) continue;
      for (int line = 0; line < 64; line += 16) {
        _mm_prefetch(reinterpret_cast<const char*>(reference + at + line), _MM_HINT_T0);
      }
      const auto left = static_cast<__mmask32>(leaves), right = static_cast<__mmask32>(leaves >> 32);
      const __m512i index = _mm512_add_epi16(ladder, _mm512_set1_epi16(static_cast<int16_t>(at)));
      const __m512i further = _mm512_add_epi16(index, _mm512_set1_epi16(32));
      const __m512i old = _mm512_maskz_loadu_epi8(inside, before + at);
      // Packed in a register, then stored whole: packing straight to memory is far slower on some processors.
      _mm512_storeu_si512(active.now + count, _mm512_maskz_compress_epi8(leaves, grey));
      _mm512_storeu_si512(active.before + count, _mm512_maskz_compress_epi8(leaves, old));
      _mm512_storeu_si512(active.index + count, _mm512_maskz_compress_epi16(left, index));
      _mm512_storeu_si512(active.index + count + _mm_popcnt_u32(left), _mm512_maskz_compress_epi16(right, further));
      count += static_cast<int64_t>(_mm_popcnt_u64(leaves));
    }
    active.count = count;
  }

  // Brightness before the first frame of a call is not a grey level.
  void first_heights(int64_t begin, const Active& active, int64_t first, int32_t* l0) const {
    for (int64_t i = first; i < std::min(active.count, first + 64); ++i) {
      l0[i - first] = clip_.last[begin + active.index[i]] - clip_.table[0];
    }
  }

  NEUROAV_AVX512 void fire(int64_t begin, int64_t frame, bool counts, const TilePlaces& places, const Active16& pixels,
                           Records& records) {
    const __mmask16 lanes = static_cast<__mmask16>((1u << pixels.count) - 1);
    const __m512i index = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(pixels.index)));
    const __m512i lowest = _mm512_set1_epi32(clip_.table[0]), zero = _mm512_setzero_si512();
    const __m512i level = _mm512_sub_epi32(
        _mm512_mask_i32gather_epi32(lowest, lanes, index, clip_.reference + begin, sizeof(int32_t)), lowest);
    const __m512i before = _mm512_load_si512(pixels.l0), now = _mm512_load_si512(pixels.l1);

    const __m512i change = _mm512_sub_epi32(now, level);
    const __mmask16 on = _mm512_cmpge_epi32_mask(change, zero), off = static_cast<__mmask16>(~on);
    const __m512i size = _mm512_mask_mov_epi32(_mm512_set1_epi32(clip_.c_on), off, _mm512_set1_epi32(clip_.c_off));
    const __m512i number = _mm512_maskz_mov_epi32(lanes, crossings(_mm512_abs_epi32(change), on, size));
    const __mmask16 fires = _mm512_test_epi32_mask(number, number);
    const __m512i step = _mm512_mask_sub_epi32(size, off, zero, size);
    keep(begin, pixels, _mm512_add_epi32(level, _mm512_mullo_epi32(number, step)));

    __m512i place = packed_places(index, places);
    place = _mm512_mask_or_epi32(place, on, place, _mm512_set1_epi32(1));
    if (counts) {
      store(records.room(16), _mm512_maskz_compress_epi32(fires, place), _mm512_maskz_compress_epi32(fires, number));
      return records.advance(_mm_popcnt_u32(fires));
    }
    const float dt_us = static_cast<float>(clip_.dt_us(frame));
    const __m512i span = _mm512_abs_epi32(_mm512_sub_epi32(now, before));
    const __m512 slope = _mm512_div_ps(_mm512_set1_ps(dt_us), _mm512_cvtepi32_ps(span));
    const __m512i way = _mm512_abs_epi32(_mm512_sub_epi32(_mm512_add_epi32(level, step), before));
    emit({way, size, _mm512_castps_si512(slope), span, place}, number, fires, clip_.dt_us(frame), records);
  }

  // floor(distance / size): distances are exact in float (below 2^24), so the estimate is off by one at most, and the
  // rest says which way.
  NEUROAV_AVX512 __m512i crossings(__m512i distance, __mmask16 on, __m512i size) const {
    const __m512 inverse = _mm512_mask_mov_ps(_mm512_set1_ps(inverse_off_), on, _mm512_set1_ps(inverse_on_));
    const __m512i guess = _mm512_cvttps_epi32(_mm512_mul_ps(_mm512_cvtepi32_ps(distance), inverse));
    const __m512i rest = _mm512_sub_epi32(distance, _mm512_mullo_epi32(guess, size)), one = _mm512_set1_epi32(1);
    const __m512i more = _mm512_mask_add_epi32(guess, _mm512_cmpge_epi32_mask(rest, size), guess, one);
    return _mm512_mask_sub_epi32(more, _mm512_cmplt_epi32_mask(rest, _mm512_setzero_si512()), more, one);
  }

  // As TilePlaces, for 16 pixels.
  NEUROAV_AVX512 static __m512i packed_places(__m512i index, const TilePlaces& places) {
    const __m512i along = _mm512_add_epi32(index, _mm512_set1_epi32(static_cast<int32_t>(places.x)));
    const __m512 middle = _mm512_add_ps(_mm512_cvtepi32_ps(along), _mm512_set1_ps(0.5f));
    const __m512i rows = _mm512_cvttps_epi32(_mm512_mul_ps(middle, _mm512_set1_ps(places.inverse)));
    const __m512i width = _mm512_set1_epi32(static_cast<int32_t>(places.width));
    const __m512i column = _mm512_sub_epi32(along, _mm512_mullo_epi32(rows, width));
    const __m512i row = _mm512_add_epi32(rows, _mm512_set1_epi32(static_cast<int32_t>(places.y)));
    return _mm512_or_si512(_mm512_slli_epi32(row, 16), _mm512_slli_epi32(column, 1));
  }

  // Writes new levels, given as heights, and their silent ranges (SilentRange::lo and hi).
  NEUROAV_AVX512 void keep(int64_t begin, const Active16& pixels, __m512i heights) {
    const __m128i shift = _mm_cvtsi32_si128(silent_.shift());
    const __m512i below = _mm512_sra_epi32(_mm512_sub_epi32(heights, _mm512_set1_epi32(clip_.c_off)), shift);
    const __m512i above = _mm512_sra_epi32(_mm512_add_epi32(heights, _mm512_set1_epi32(clip_.c_on)), shift);
    alignas(64) int32_t levels[16], lo_cells[16], hi_cells[16];
    _mm512_store_si512(levels, _mm512_add_epi32(heights, _mm512_set1_epi32(clip_.table[0])));
    _mm512_store_si512(lo_cells, _mm512_max_epi32(below, _mm512_set1_epi32(-1)));
    _mm512_store_si512(hi_cells, _mm512_min_epi32(above, _mm512_set1_epi32(SilentRange::kCells)));
    int32_t* const reference = clip_.reference + begin;  // copies: for the compiler, a byte written could be any member
    uint8_t *const lo = lo_.data() + begin, *const hi = hi_.data() + begin;
    const uint8_t *const lo_of = silent_.lo_of(), *const hi_of = silent_.hi_of();
    for (int64_t lane = 0; lane < pixels.count; ++lane) {
      const int64_t i = pixels.index[lane];
      reference[i] = levels[lane];
      lo[i] = lo_of[lo_cells[lane]];
      hi[i] = hi_of[hi_cells[lane]];
    }
  }

  // All events of 16 pixels, pixel by pixel: a bit for the first event of each pixel tells every event whose it is.
  NEUROAV_AVX512 static void emit(const Crossing& pixel, __m512i number, __mmask16 fires, uint32_t dt_us,
                                  Records& records) {
    const __m512i zero = _mm512_setzero_si512();
    __m512i ends = _mm512_add_epi32(number, _mm512_alignr_epi32(number, zero, 15));
    ends = _mm512_add_epi32(ends, _mm512_alignr_epi32(ends, zero, 14));
    ends = _mm512_add_epi32(ends, _mm512_alignr_epi32(ends, zero, 12));
    ends = _mm512_add_epi32(ends, _mm512_alignr_epi32(ends, zero, 8));
    const int total = _mm_cvtsi128_si32(_mm512_castsi512_si128(_mm512_alignr_epi32(ends, ends, 15)));
    if (total > 64) return emit_many(pixel, number, fires, dt_us, records);
    const __m512i starts = _mm512_sub_epi32(ends, number), one = _mm512_set1_epi64(1);
    const __m512i left = _mm512_cvtepu32_epi64(_mm512_castsi512_si256(starts));
    const __m512i right = _mm512_cvtepu32_epi64(_mm512_extracti64x4_epi64(starts, 1));
    uint64_t firsts = static_cast<uint64_t>(_mm512_reduce_or_epi64(
        _mm512_or_si512(_mm512_maskz_sllv_epi64(static_cast<__mmask8>(fires), one, left),
                        _mm512_maskz_sllv_epi64(static_cast<__mmask8>(fires >> 8), one, right))));
    const __m512i iota = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512i up_to = _mm512_sub_epi32(_mm512_sllv_epi32(_mm512_set1_epi32(2), iota), _mm512_set1_epi32(1));
    const __m512i firing = _mm512_maskz_compress_epi32(fires, iota);
    const __m512i way = _mm512_sub_epi32(pixel.way, _mm512_mullo_epi32(starts, pixel.step));
    uint64_t* out = records.room(64 + 16);
    int before = -1;
    for (int at = 0; at < total; at += 16) {
      const __m512i bits = _mm512_and_si512(_mm512_set1_epi32(static_cast<int>(firsts & 0xffff)), up_to);
      const __m512i nth = _mm512_add_epi32(_mm512_popcnt_epi32(bits), _mm512_set1_epi32(before));
      const __m512i lane = _mm512_permutexvar_epi32(nth, firing);
      const __m512i beyond = _mm512_mullo_epi32(_mm512_add_epi32(iota, _mm512_set1_epi32(at)),
                                                _mm512_permutexvar_epi32(lane, pixel.step));
      write(out + at, _mm512_add_epi32(_mm512_permutexvar_epi32(lane, way), beyond),
            _mm512_permutexvar_epi32(lane, pixel.slope), _mm512_permutexvar_epi32(lane, pixel.span),
            _mm512_permutexvar_epi32(lane, pixel.place), dt_us);
      before += _mm_popcnt_u32(static_cast<uint32_t>(firsts & 0xffff));
      firsts >>= 16;
    }
    records.advance(total);
  }

  // The same for pixels that fire often: 16 events of one pixel at a time.
  NEUROAV_AVX512 static void emit_many(const Crossing& pixel, __m512i number, __mmask16 fires, uint32_t dt_us,
                                       Records& records) {
    alignas(64) int32_t numbers[16];
    _mm512_store_si512(numbers, number);
    for (uint32_t left = fires; left; left &= left - 1) {
      const int lane = static_cast<int>(_tzcnt_u32(left));
      const __m512i same = _mm512_set1_epi32(lane);
      const __m512i slope = _mm512_permutexvar_epi32(same, pixel.slope);
      const __m512i span = _mm512_permutexvar_epi32(same, pixel.span);
      const __m512i place = _mm512_permutexvar_epi32(same, pixel.place);
      const __m512i step = _mm512_permutexvar_epi32(same, pixel.step);
      const __m512i iota = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
      __m512i way = _mm512_add_epi32(_mm512_permutexvar_epi32(same, pixel.way), _mm512_mullo_epi32(iota, step));
      uint64_t* out = records.room(numbers[lane] + 16);
      for (int32_t at = 0; at < numbers[lane]; at += 16) {
        write(out + at, way, slope, span, place, dt_us);
        way = _mm512_add_epi32(way, _mm512_slli_epi32(step, 4));
      }
      records.advance(numbers[lane]);
    }
  }

  // 16 records; the time is ceil(way * dt / span), estimated in float and put right by the rest, which is less than
  // span < 2^21 in size and so survives arithmetic modulo 2^32.
  NEUROAV_AVX512 static void write(uint64_t* out, __m512i way, __m512i slope, __m512i span, __m512i place,
                                   uint32_t dt_us) {
    const __m512i guess = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_cvtepi32_ps(way), _mm512_castsi512_ps(slope)));
    const __m512i rest = _mm512_sub_epi32(_mm512_mullo_epi32(way, _mm512_set1_epi32(static_cast<int>(dt_us))),
                                          _mm512_mullo_epi32(guess, span));
    const __mmask16 late = _mm512_cmpgt_epi32_mask(rest, _mm512_setzero_si512());
    store(out, place, _mm512_mask_add_epi32(guess, late, guess, _mm512_set1_epi32(1)));
  }

  // 16 records from their lower and upper halves.
  NEUROAV_AVX512 static void store(uint64_t* out, __m512i lower, __m512i upper) {
    const __m512i first = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    const __m512i second = _mm512_add_epi32(first, _mm512_set1_epi32(8));
    _mm512_storeu_si512(out, _mm512_permutex2var_epi32(lower, first, upper));
    _mm512_storeu_si512(out + 8, _mm512_permutex2var_epi32(lower, second, upper));
  }

  Heights heights_;
  float inverse_on_, inverse_off_;
};

}  // namespace avx512
}  // namespace neuroav

#if !defined(__clang__)
#pragma GCC diagnostic pop
#endif
#endif
