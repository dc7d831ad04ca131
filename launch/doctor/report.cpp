#include <iomanip>
#include <sstream>

#include "core/base/error.h"
#include "launch/doctor/doctor.h"

namespace fwl {
namespace {

using nlohmann::json;

json to_json(const Speed& speed) {
  return {{"latency_us", speed.latency_s * 1e6}, {"bandwidth_mb_s", speed.bandwidth_bytes_s / 1e6}};
}

json to_json(const AxisSpeed& axis) {
  return {{"axis", axis.axis},
          {"backend", axis.backend},
          {"ranks", axis.ranks},
          {"bytes", axis.bytes},
          {"all_reduce", to_json(axis.all_reduce)},
          {"all_gather", to_json(axis.all_gather)},
          {"point_to_point", to_json(axis.point_to_point)}};
}

std::string columns(const std::vector<std::string>& cells) {
  constexpr int kWidths[] = {5, 20, 26, 16, 6, 9};
  std::ostringstream line;
  for (size_t i = 0; i < cells.size(); ++i) line << std::left << std::setw(kWidths[i]) << cells[i] << ' ';
  std::string text = line.str();
  text.erase(text.find_last_not_of(' ') + 1);
  return text + "\n";
}

std::string fixed(double value, int digits) {
  std::ostringstream text;
  text << std::fixed << std::setprecision(digits) << value;
  return text.str();
}

std::string rank_row(const RankFacts& rank, double flop_s) {
  const std::string gpu = rank.gpu.empty() ? "-" : cat(rank.gpu, " ", rank.gpu_bus);
  return columns({std::to_string(rank.rank), rank.host, gpu, range_text(rank.cores),
                  range_text(rank.numa_nodes), fixed(flop_s / 1e9, 0)});
}

std::string speed_line(const AxisSpeed& axis, const char* operation, const Speed& speed) {
  return cat("axis ", axis.axis, " (", axis.ranks, " ranks, ", axis.backend, "): ", operation, " ",
             fixed(speed.latency_s * 1e6, 1), " us, ", fixed(speed.bandwidth_bytes_s / 1e6, 0), " MB/s\n");
}

}  // namespace

json to_json(const DoctorReport& report) {
  json ranks = json::array(), checks = json::array(), axes = json::array();
  for (size_t i = 0; i < report.ranks.size(); ++i) {
    json rank = report.ranks[i];
    rank["flop_s"] = report.flop_s[i];
    ranks.push_back(rank);
  }
  for (const Check& check : report.checks) {
    checks.push_back({{"name", check.name},
                      {"verdict", name_of(check.verdict)},
                      {"detail", check.detail},
                      {"hosts", check.hosts}});
  }
  for (const AxisSpeed& axis : report.axes) axes.push_back(to_json(axis));
  const FileSystemSpeed& fs = report.file_system;
  return {{"passed", report.passed()},
          {"bad_hosts", report.bad_hosts()},
          {"ranks", ranks},
          {"checks", checks},
          {"axes", axes},
          {"file_system",
           {{"folder", fs.folder},
            {"write_mb_s", fs.write_bytes_s / 1e6},
            {"read_mb_s", fs.read_bytes_s / 1e6}}}};
}

std::string to_table(const DoctorReport& report) {
  std::string text = columns({"rank", "host", "GPU", "cores", "NUMA", "GFLOP/s"});
  for (size_t i = 0; i < report.ranks.size(); ++i) text += rank_row(report.ranks[i], report.flop_s[i]);
  for (const Check& check : report.checks)
    text += cat(name_of(check.verdict), ": ", check.name, ": ", check.detail, "\n");
  for (const AxisSpeed& axis : report.axes) {
    text += speed_line(axis, "all-reduce", axis.all_reduce);
    text += speed_line(axis, "all-gather", axis.all_gather);
    text += speed_line(axis, "point-to-point", axis.point_to_point);
  }
  if (report.depth == Depth::kMeasure)
    text += cat("file system: '", report.file_system.folder, "': write ",
                fixed(report.file_system.write_bytes_s / 1e6, 0), " MB/s, read ",
                fixed(report.file_system.read_bytes_s / 1e6, 0), " MB/s, all ranks together\n");
  return text;
}

}  // namespace fwl
