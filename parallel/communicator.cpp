#include "parallel/communicator.h"

#include <algorithm>
#include <chrono>
#include <thread>

#include "core/base/error.h"
#include "core/base/hash.h"

namespace fwl {

void Communicator::count(OperationTraffic TrafficCounters::*verb, const char* purpose, int64_t bytes,
                         int64_t messages) {
  for (OperationTraffic* t : {&(traffic_.*verb), &traffic_.by_purpose[purpose]}) {
    ++t->calls;
    t->bytes_sent += bytes;
    t->messages += messages;
  }
}

void Communicator::wait_for_own(const char* /*what*/, const std::function<bool()>& is_done) {
  while (!is_done()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
}

std::vector<double> all_reduce_sum(Communicator& group, const std::vector<double>& values) {
  if (group.size() == 1 || values.empty()) return values;
  Tensor sums = at::empty({static_cast<int64_t>(values.size())}, at::kDouble);
  std::copy(values.begin(), values.end(), sums.data_ptr<double>());
  sums = sums.to(group.device());
  group.all_reduce_sum(sums);
  sums = sums.to(at::kCPU);
  const double* first = sums.const_data_ptr<double>();
  return std::vector<double>(first, first + sums.numel());
}

double all_reduce_scalar_sum(Communicator& group, double value) {
  return all_reduce_sum(group, std::vector<double>{value}).front();
}

bool all_agree(Communicator& group, Vote vote) {
  return all_reduce_scalar_sum(group, vote == Vote::kNo ? 1.0 : 0.0) == 0.0;
}

void require_same_text(Communicator& group, const std::string& what, const std::string& text) {
  if (group.size() == 1) return;
  const auto number = at::TensorOptions().dtype(at::kLong);
  const Tensor own = at::full({1}, static_cast<int64_t>(hash_bytes(text)), number).to(group.device());
  const Tensor all = at::empty({group.size()}, number.device(group.device()));
  group.all_gather(all, own);
  const Tensor host = all.to(at::kCPU);
  const int64_t* hashes = host.const_data_ptr<int64_t>();
  std::string others;
  for (int r = 1; r < group.size(); ++r)
    if (hashes[r] != hashes[0]) others += cat(others.empty() ? "" : ", ", r);
  require<ConfigError>(others.empty(), what, " of rank(s) ", others, " differs from rank 0's (",
                       "they would compute different functions and wait for each other in vain). Start all "
                       "ranks with the same program, files and arguments.");
}

}  // namespace fwl
