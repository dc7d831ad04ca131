#include "parallel/communicator.h"

#include <algorithm>

#include "core/base/error.h"

namespace fwl {

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

}  // namespace fwl
