// Consecutive elements of something flat.
#pragma once

#include <cstdint>

namespace fwl {

struct ElementRange {
  int64_t first = 0, count = 0;
};

// The `index`-th of `parts` nearly equal, consecutive parts of `whole`.
inline ElementRange part_of(ElementRange whole, int64_t index, int64_t parts) {
  const int64_t first = whole.count * index / parts;
  return {whole.first + first, whole.count * (index + 1) / parts - first};
}

}  // namespace fwl
