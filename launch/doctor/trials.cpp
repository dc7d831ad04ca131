#include "launch/doctor/trials.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <map>
#include <random>
#include <thread>

#include "core/base/clock.h"
#include "core/base/device.h"
#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/hash.h"
#include "core/base/median.h"
#include "launch/doctor/ports.h"

namespace fwl {
namespace {

namespace fs = std::filesystem;
constexpr double kConnectTimeout_s = 5;
constexpr double kVisibleWithin_s =
    10;  // network file systems show a new file after their attribute cache's time

std::string connect_to(const RankFacts& far, size_t port, const RankFacts& own) {
  if (far.ports.empty()) return "no free port on " + far.host;
  const bool same_host = far.host == own.host;
  const std::vector<std::string> loopback = {"127.0.0.1", "::1"};
  const std::string problem = try_to_connect(same_host ? loopback : far.addresses,
                                             far.ports[port % far.ports.size()], kConnectTimeout_s);
  return problem.empty() ? problem
                         : cat("cannot connect to rank ", far.rank, " on ", far.host, " (", problem, ")");
}

// The same random word on all ranks, so that two doctors in one folder do not meet.
std::string common_token(Communicator& group) {
  Tensor token = at::zeros({1}, at::kLong);
  if (group.rank() == 0) token[0] = static_cast<int64_t>(std::random_device{}());
  group.broadcast(token, 0);
  return std::to_string(token.item<int64_t>());
}

std::string random_bytes(int64_t bytes, uint64_t seed) {
  std::string content(static_cast<size_t>(bytes), '\0');
  for (size_t i = 0; i + 8 <= content.size(); i += 8) {
    const uint64_t word = mix_bits(seed + i);
    std::memcpy(&content[i], &word, sizeof word);
  }
  return content;
}

bool appears(const std::string& path) {
  for (const double end = now_s() + kVisibleWithin_s; now_s() < end;) {
    if (fs::exists(path)) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  return fs::exists(path);
}

void drop_page_cache(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return;
  ::posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
  ::close(fd);
}

// `next` is the file of the next rank, whose content follows from its rank.
void read_back(const std::string& next, const std::string& expected, FolderTrial* trial) {
  if (!appears(next)) {
    trial->problem = cat("'", next, "', which the next rank has written, does not appear here");
    return;
  }
  drop_page_cache(next);
  const double start = now_s();
  const std::string content = read_file(next, "doctor's file");
  trial->read_bytes_s = static_cast<double>(content.size()) / (now_s() - start);
  if (content != expected) trial->problem = cat("'", next, "' does not hold what the next rank has written");
}

// Median time of `call` on this rank, all ranks of the group starting together.
double time_of(Communicator& group, int repeats, const std::function<void()>& call) {
  std::vector<double> times;
  call();
  for (int i = 0; i < repeats; ++i) {
    group.barrier();
    const double start = now_s();
    call();
    synchronize(group.device());
    times.push_back(now_s() - start);
  }
  return median(times);
}

double slowest(Communicator& world, double seconds) {
  Tensor all = at::empty({world.size()}, at::kDouble);
  world.all_gather(all, at::full({1}, seconds, at::kDouble));
  return all.max().item<double>();
}

// `sent_bytes` is what one rank sends in the large call.
Speed speed_of(Communicator& group, Communicator& world, double sent_bytes,
               const std::function<void()>& small, const std::function<void()>& large) {
  Speed speed;
  speed.latency_s = slowest(world, time_of(group, 50, small));
  speed.bandwidth_bytes_s = sent_bytes / slowest(world, time_of(group, 5, large));
  return speed;
}

}  // namespace

std::vector<Connection> connections_of(const std::vector<RankFacts>& ranks, const RankFacts& own) {
  std::vector<std::string> hosts;                      // in the order of their lowest ranks
  std::map<std::string, std::vector<size_t>> of_host;  // places in `ranks`
  for (size_t i = 0; i < ranks.size(); ++i) {
    std::vector<size_t>& members = of_host[ranks[i].host];
    if (members.empty()) hosts.push_back(ranks[i].host);
    members.push_back(i);
  }
  const std::vector<size_t>& here = of_host.at(own.host);
  const auto place =
      std::find_if(here.begin(), here.end(), [&](size_t i) { return ranks[i].rank == own.rank; });
  const size_t number = static_cast<size_t>(place - here.begin());
  std::vector<Connection> connections = {{ranks[here[(number + 1) % here.size()]].rank, 0}};
  if (number != 0) return connections;
  const size_t own_host =
      static_cast<size_t>(std::find(hosts.begin(), hosts.end(), own.host) - hosts.begin());
  for (const std::string& host : hosts) {
    const std::vector<size_t>& there = of_host[host];
    if (host != own.host)
      connections.push_back({ranks[there[own_host % there.size()]].rank, own_host / there.size()});
  }
  return connections;
}

std::string try_ports(const std::vector<RankFacts>& ranks, const RankFacts& own) {
  for (const Connection& connection : connections_of(ranks, own)) {
    const std::string problem =
        connect_to(ranks.at(static_cast<size_t>(connection.rank)), connection.port, own);
    if (!problem.empty()) return problem;
  }
  return {};
}

FolderTrial try_folder(Communicator& group, const std::string& folder, int64_t bytes) {
  FolderTrial trial;
  const std::string token = common_token(group);
  const auto file_of = [&](int rank) { return cat(folder, "/.fwl-doctor-", token, "-", rank); };
  const auto content_of = [&](int rank) {
    return random_bytes(bytes, mix_bits(static_cast<uint64_t>(rank + 1)));
  };
  const int next = (group.rank() + 1) % group.size();
  const std::string own_file = file_of(group.rank()), own_content = content_of(group.rank());
  const std::string next_content = content_of(next);
  group.barrier();
  try {
    const double start = now_s();
    publish_file(own_file, own_content);
    trial.write_bytes_s = static_cast<double>(bytes) / (now_s() - start);
  } catch (const Error& error) {
    trial.problem = error.what();
  }
  // Without the next rank's file there is nothing to read; its writer reports why.
  const bool all_written = all_agree(group, trial.problem.empty() ? Vote::kYes : Vote::kNo);
  try {
    if (all_written) read_back(file_of(next), next_content, &trial);
  } catch (const Error& error) {
    trial.problem = error.what();
  }
  group.barrier();
  std::error_code ignored;
  fs::remove(own_file, ignored);
  return trial;
}

ComputeTrial try_computing(at::Device device) {
  constexpr int64_t kSize = 512;
  constexpr double kTolerance = 1e-4;
  ComputeTrial trial;
  try {
    const auto options = at::TensorOptions().dtype(at::kFloat).device(device);
    // The same small numbers everywhere: no random generator to agree on.
    const Tensor a = at::arange(kSize * kSize, options).view({kSize, kSize}).remainder(17).sub(8).div(8);
    const Tensor b = a.t().contiguous().add(0.125);
    const Tensor once = at::matmul(a, b);
    synchronize(device);
    const double start = now_s();
    const Tensor again = at::matmul(a, b);
    synchronize(device);
    trial.flop_s = 2.0 * kSize * kSize * kSize / (now_s() - start);
    const Tensor exact = at::matmul(a.to(at::kDouble), b.to(at::kDouble));
    const double error = ((once - exact).abs().max() / exact.abs().max()).item<double>();
    if (!at::equal(once, again)) trial.problem = "the same matrix product gave two results";
    if (!(error < kTolerance)) trial.problem = cat("a float32 matrix product is wrong by ", error);
  } catch (const std::exception& error) {
    trial.problem = cat("computing failed: ", std::string(error.what()).substr(0, 200));
  }
  return trial;
}

AxisSpeed measure_axis(const std::string& axis, Communicator& group, Communicator& world, int64_t bytes) {
  AxisSpeed result;
  result.axis = axis;
  result.backend = group.name();
  result.ranks = group.size();
  result.bytes = bytes;
  const auto options = at::TensorOptions().dtype(at::kFloat).device(group.device());
  const int64_t elements = bytes / 4 / group.size() * group.size();
  const double ring = static_cast<double>(group.size() - 1) / group.size();
  const Tensor tiny = at::zeros({2}, options), large = at::zeros({elements}, options);
  result.all_reduce = speed_of(
      group, world, 2 * ring * 4.0 * static_cast<double>(elements), [&] { group.all_reduce_sum(tiny); },
      [&] { group.all_reduce_sum(large); });
  const Tensor tiny_part = at::zeros({2}, options), part = at::zeros({elements / group.size()}, options);
  const Tensor tiny_all = at::zeros({2 * group.size()}, options);
  result.all_gather = speed_of(
      group, world, ring * 4.0 * static_cast<double>(elements),
      [&] { group.all_gather(tiny_all, tiny_part); }, [&] { group.all_gather(large, part); });
  const int next = (group.rank() + 1) % group.size(),
            before = (group.rank() + group.size() - 1) % group.size();
  const Tensor tiny_in = at::zeros({2}, options), large_in = at::zeros({elements}, options);
  result.point_to_point = speed_of(
      group, world, 4.0 * static_cast<double>(elements),
      [&] {
        group.exchange({{next, tiny}}, {{before, tiny_in}});
      },
      [&] {
        group.exchange({{next, large}}, {{before, large_in}});
      });
  return result;
}

}  // namespace fwl
