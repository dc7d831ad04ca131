// `fwl doctor`: is this job, with these ranks on these hosts, fit to train? Facts of all ranks, judged
// (checks.h), and what they try out together (trials.h).
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "launch/doctor/checks.h"
#include "launch/doctor/trials.h"

namespace fwl {

enum class Scope { kWholeJob, kThisNode };  // kThisNode: without MPI, this process alone
enum class Depth { kChecks, kMeasure };

struct DoctorOptions {
  std::string config_yaml;  // resolved; empty: none
  std::string folder = ".";
  std::string device = "auto";
  int64_t data = -1, sequence = 1;  // axes of the mesh, as parallel.data and parallel.sequence
  Scope scope = Scope::kWholeJob;
  Depth depth = Depth::kMeasure;
  double timeout_s = 60;
  int64_t message_bytes = int64_t{64} << 20;  // of the large tensor
  int64_t file_bytes = int64_t{64} << 20;     // per rank
};

struct FileSystemSpeed {
  std::string folder;
  double write_bytes_s = 0, read_bytes_s = 0;  // all ranks together
};

struct DoctorReport {
  std::vector<RankFacts> ranks;
  std::vector<double> flop_s;  // by rank, float32
  std::vector<Check> checks;
  std::vector<AxisSpeed> axes;
  FileSystemSpeed file_system;
  Depth depth = Depth::kMeasure;

  bool passed() const;
  std::vector<std::string> bad_hosts() const;  // of failed checks, sorted
};

// Collective over the world (scope kWholeJob); the same report on all ranks. Throws CommError when ranks
// cannot be reached at all, ConfigError for an impossible launch.
DoctorReport run_doctor(const DoctorOptions& options);

// `fwl doctor --quick --config CONFIG --set SETTING...`: prints the table. Throws CheckFailed, ConfigError,
// CommError.
void check_before_start(const std::string& config, const std::vector<std::string>& settings);

nlohmann::json to_json(const DoctorReport& report);
// One row a rank, one line a check, one line a measurement.
std::string to_table(const DoctorReport& report);

}  // namespace fwl
