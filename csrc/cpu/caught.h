// Exceptions of a parallel region. None may leave it, or the program ends: the first is kept, and thrown after it.
#pragma once

#include <exception>

namespace neuroav {

class Caught {
 public:
  template <class Work>
  void run(const Work& work) noexcept {
    try {
      work();
    } catch (...) {
#pragma omp critical(neuroav_caught)
      if (!first_) first_ = std::current_exception();
    }
  }
  void rethrow() const {
    if (first_) std::rethrow_exception(first_);
  }

 private:
  std::exception_ptr first_;
};

}  // namespace neuroav
