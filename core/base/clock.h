// Durations of what this process does.
#pragma once

#include <chrono>

namespace fwl {

// Seconds since some fixed moment; never set back. For differences.
inline double now_s() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace fwl
