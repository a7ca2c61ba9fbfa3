// Large buffers whose memory is used again. Touching fresh memory for the first time (the system clears it, page by
// page) can cost more than all other work on an event, so freed buffers are kept for the next call.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <new>
#include <utility>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace neuroav {

// Freed memory, at most kMost bytes of it. The system may take its contents back when it runs short.
class Pool {
 public:
  static Pool& shared() {
    static Pool* pool = new Pool;  // never destroyed: arrays may outlive everything else
    return *pool;
  }

  // Memory for at least `bytes`, which becomes the true size.
  void* take(size_t& bytes) {
    bytes = std::max<size_t>(bytes, 1);
    if (void* kept = find(bytes)) return kept;
    if (bytes < kLarge) return checked(std::malloc(bytes));
    bytes = (bytes + kLarge - 1) / kLarge * kLarge;
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    void* memory = checked(std::aligned_alloc(kLarge, bytes));
    madvise(memory, bytes, MADV_HUGEPAGE);
    return memory;
#else
    return checked(std::malloc(bytes));
#endif
  }

  void give(void* memory, size_t bytes) {
    // A lock that is held (or was, when this process was forked) is not worth waiting for.
    std::unique_lock<std::mutex> lock(mutex_, std::try_to_lock);
    if (!lock || bytes < kSmall || held_ + bytes > kMost) return std::free(memory);
#if defined(__linux__) && defined(MADV_FREE)
    if (bytes >= kLarge) madvise(memory, bytes, MADV_FREE);
#endif
    blocks_.push_back({memory, bytes});
    held_ += bytes;
  }

 private:
  static constexpr size_t kSmall = 1 << 16, kLarge = 2 << 20, kMost = size_t{512} << 20;

  struct Block {
    void* memory;
    size_t bytes;
  };

  // The smallest kept block that is large enough, but not four times too large.
  void* find(size_t& bytes) {
    std::unique_lock<std::mutex> lock(mutex_, std::try_to_lock);
    if (!lock || bytes < kSmall) return nullptr;
    auto best = blocks_.end();
    for (auto block = blocks_.begin(); block != blocks_.end(); ++block) {
      if (block->bytes < bytes || block->bytes / 4 > bytes) continue;
      if (best == blocks_.end() || block->bytes < best->bytes) best = block;
    }
    if (best == blocks_.end()) return nullptr;
    void* memory = best->memory;
    bytes = best->bytes;
    held_ -= bytes;
    blocks_.erase(best);
    return memory;
  }

  static void* checked(void* memory) {
    if (memory == nullptr) throw std::bad_alloc();
    return memory;
  }

  std::mutex mutex_;
  std::vector<Block> blocks_;
  size_t held_ = 0;
};

// An array of plain values that are not initialised.
template <typename T>
class Buffer {
 public:
  Buffer() = default;
  Buffer(Buffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~Buffer() {
    if (data_ != nullptr) Pool::shared().give(data_, bytes_);
  }

  T* data() const { return data_; }
  int64_t capacity() const { return static_cast<int64_t>(bytes_ / sizeof(T)); }

  // Room for `count` values, the first `kept` of which stay.
  void reserve(int64_t count, int64_t kept = 0) {
    if (data_ != nullptr && count <= capacity()) return;
    Buffer larger;
    larger.bytes_ = static_cast<size_t>(count) * sizeof(T);
    larger.data_ = static_cast<T*>(Pool::shared().take(larger.bytes_));
    if (kept > 0) std::memcpy(larger.data_, data_, static_cast<size_t>(kept) * sizeof(T));
    std::swap(data_, larger.data_);
    std::swap(bytes_, larger.bytes_);
  }

 private:
  T* data_ = nullptr;
  size_t bytes_ = 0;
};

}  // namespace neuroav
