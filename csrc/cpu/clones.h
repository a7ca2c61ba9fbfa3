// Functions compiled for several instruction sets; the one that fits is chosen when the program is loaded.
#pragma once

#include <cstdint>  // says whether the C library is glibc, whose loader can choose

#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__) && defined(__GLIBC__)
#define NEUROAV_CLONES_FOR(WIDEST) __attribute__((target_clones(WIDEST, "avx2", "default")))
#else
#define NEUROAV_CLONES_FOR(WIDEST)
#endif
#define NEUROAV_CLONES NEUROAV_CLONES_FOR("arch=x86-64-v4")

// For what is called by such a function and has to be compiled with it.
#if defined(__GNUC__) || defined(__clang__)
#define NEUROAV_INTO_CLONE __attribute__((always_inline)) inline
#else
#define NEUROAV_INTO_CLONE inline
#endif
