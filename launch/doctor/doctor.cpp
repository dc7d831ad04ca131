#include "launch/doctor/doctor.h"

#include <algorithm>
#include <filesystem>
#include <numeric>
#include <set>

#include "core/base/device.h"
#include "core/base/error.h"
#include "core/base/log.h"
#include "core/base/threads.h"
#include "launch/doctor/ports.h"
#include "parallel/deadline.h"
#include "parallel/mesh.h"
#include "parallel/session.h"

namespace fwl {
namespace {

constexpr int kListeners = 8;  // about what NCCL and Open MPI open per rank
constexpr int64_t kSmallFile_bytes = int64_t{1} << 20;

class Doctor {
 public:
  Doctor(const DoctorOptions& options, const Placement& place, Communicator& host)
      : options_(options), host_(host), listeners_(kListeners) {
    own_ = collect_facts(place, options.device, options.config_yaml);
    own_.ports = listeners_.ports();
    report_.depth = options.depth;
  }

  DoctorReport run() {
    report_.ranks = gather_facts(host_, own_);
    judge_facts();
    judge_ports();
    judge_computing();
    judge_folder();
    if (options_.depth == Depth::kMeasure && host_.size() > 1) measure();
    host_.barrier();  // listeners stay open until everyone has tried them
    return report_;
  }

 private:
  void judge_facts() {
    const auto& ranks = report_.ranks;
    report_.checks = {check_same_binary(ranks), check_same_config(ranks), check_same_libraries(ranks),
                      check_gpus(ranks),        check_cores(ranks),       check_shared_memory(ranks),
                      check_open_files(ranks)};
  }

  std::vector<RankProblem> gather_problems(const std::string& own) {
    std::vector<RankProblem> problems;
    const std::vector<std::string> texts = gather_texts(host_, own);
    for (size_t rank = 0; rank < texts.size(); ++rank)
      problems.push_back({report_.ranks[rank].host, texts[rank]});
    return problems;
  }

  std::vector<double> gather_numbers(double own) {
    std::vector<double> numbers;
    for (const std::string& text : gather_texts(host_, nlohmann::json(own).dump()))
      numbers.push_back(nlohmann::json::parse(text).get<double>());
    return numbers;
  }

  void judge_ports() {
    std::string problem = try_ports(report_.ranks, own_);
    if (own_.ports.size() < kListeners)
      problem = cat("only ", own_.ports.size(), " of ", kListeners, " ports could be opened");
    report_.checks.push_back(check_of_problems(
        "ports", gather_problems(problem),
        cat(kListeners, " free per rank, and every host reaches every other"),
        "(NCCL and Open MPI connect the same way). Open the firewall between the hosts, or choose the right "
        "interface."));
  }

  void judge_computing() {
    ComputeTrial trial;
    const bool on_gpu = !own_.gpu.empty();
    if (on_gpu && options_.scope == Scope::kThisNode) {
      for (int gpu = 0; gpu < own_.gpus && trial.problem.empty(); ++gpu) trial = try_gpu(gpu);
    } else {
      trial = try_computing(on_gpu ? choose_device(options_.device, own_.local_rank) : at::Device(at::kCPU));
    }
    report_.flop_s = gather_numbers(trial.flop_s);
    report_.checks.push_back(check_of_problems("computing", gather_problems(trial.problem),
                                               "matrix products are right on every rank",
                                               "(the hardware is faulty). Leave this host out."));
  }

  ComputeTrial try_gpu(int gpu) {
    ComputeTrial trial = try_computing(choose_device("cuda", gpu));
    if (!trial.problem.empty()) trial.problem = cat("GPU ", gpu, ": ", trial.problem);
    return trial;
  }

  void judge_folder() {
    const bool measures = options_.depth == Depth::kMeasure;
    const FolderTrial trial =
        try_folder(host_, options_.folder, measures ? options_.file_bytes : kSmallFile_bytes);
    report_.checks.push_back(check_of_problems(
        "shared folder", gather_problems(trial.problem),
        cat("'", options_.folder, "' is written and read by all"),
        "(runs keep their checkpoints there). Choose a folder that all hosts share and can write."));
    const auto total = [&](double own) {
      const std::vector<double> all = gather_numbers(own);
      return std::accumulate(all.begin(), all.end(), 0.0);
    };
    report_.file_system = {options_.folder, total(trial.write_bytes_s), total(trial.read_bytes_s)};
  }

  // Over the network that training will use: NCCL where every rank has a GPU, else MPI.
  void measure() {
    if (!report_.passed()) return;
    const bool gpus = std::none_of(report_.ranks.begin(), report_.ranks.end(),
                                   [](const RankFacts& rank) { return rank.gpu.empty(); });
    const at::Device device = gpus ? choose_device(options_.device, own_.local_rank) : at::Device(at::kCPU);
    Mesh mesh(mesh_shape(options_.data, options_.sequence, host_.size()), device, options_.timeout_s);
    measure("host", host_);
    if (gpus) measure("world", mesh.world());
    if (mesh.shape().data > 1) measure("data", mesh.data());
    if (mesh.shape().sequence > 1) measure("sequence", mesh.sequence());
  }
  void measure(const char* axis, Communicator& group) {
    report_.axes.push_back(measure_axis(axis, group, host_, options_.message_bytes));
  }

  const DoctorOptions& options_;
  Communicator& host_;
  Listeners listeners_;
  RankFacts own_;
  DoctorReport report_;
};

}  // namespace

bool DoctorReport::passed() const {
  return std::none_of(checks.begin(), checks.end(),
                      [](const Check& check) { return check.verdict == Verdict::kFailed; });
}

std::vector<std::string> DoctorReport::bad_hosts() const {
  std::set<std::string> hosts;
  for (const Check& check : checks) {
    if (check.verdict == Verdict::kFailed) hosts.insert(check.hosts.begin(), check.hosts.end());
  }
  return {hosts.begin(), hosts.end()};
}

DoctorReport run_doctor(const DoctorOptions& options) {
  if (options.scope == Scope::kThisNode) {
    const auto alone = make_local_communicator();
    return Doctor(options, Placement{}, *alone).run();
  }
  const Placement& place = world();
  set_log_rank(place.rank, place.size);
  set_thread_count(place.local_size);
  name_timeout_setting("--timeout");
  const auto host = make_world_communicator(options.timeout_s);
  return Doctor(options, place, *host).run();
}

}  // namespace fwl
