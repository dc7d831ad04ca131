#include "parallel/traffic.h"

namespace fwl {

int64_t all_reduce_bytes(int64_t count, int64_t element_bytes, int rank, int size) {
  const auto block = [&](int64_t b) {
    const int64_t i = (b % size + size) % size;
    return count * (i + 1) / size - count * i / size;
  };
  // Reduce-scatter: all blocks but rank + 1; all-gather: all but rank + 2 (which comes last).
  return (2 * count - block(rank + 1) - block(rank + 2)) * element_bytes;
}

}  // namespace fwl
