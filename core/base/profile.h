// Profiles of what runs while an object lives: FWL_PROFILE=trace.json writes a Chrome trace
// (chrome://tracing, Perfetto) and logs the GPU kernels by time; `fwl bench` profiles what it measures, `fwl
// eval` each mode (the trace that stays is the last one's); FWL_PROFILE=nvtx emits every operation as an NVTX
// range, for Nsight Systems and Nsight Compute. Without FWL_PROFILE nothing happens.
#pragma once

#include <string>

namespace fwl {

class Profile {
 public:
  // Whether FWL_PROFILE asks for one.
  static bool wanted();
  // `steps`: how many steps will run, for times per step. One object at a time in a process.
  // Throws ConfigError when the trace's folder is missing.
  explicit Profile(int64_t steps);
  ~Profile();  // warns where the trace cannot be written
  Profile(const Profile&) = delete;
  Profile& operator=(const Profile&) = delete;

 private:
  void finish() const;

  std::string target_;  // of FWL_PROFILE; empty: off
  int64_t steps_;
};

}  // namespace fwl
