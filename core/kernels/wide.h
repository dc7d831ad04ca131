// Functions of the CPU kernels that are compiled for wider vectors too, where the compiler can choose at load
// time.
#pragma once

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) && \
    !defined(__SANITIZE_THREAD__)  // the choice is made before their run-time is up
#define FWL_WIDE __attribute__((target_clones("avx512f", "fma", "default")))
#else
#define FWL_WIDE
#endif
#define FWL_INLINE inline __attribute__((always_inline))
