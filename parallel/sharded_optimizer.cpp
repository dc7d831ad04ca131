#include "parallel/sharded_optimizer.h"

#include <algorithm>
#include <cmath>

namespace fwl {
namespace {

std::vector<ElementRange> owned_ranges(Communicator& group, Parameters& parameters,
                                       OptimizerSharding sharding, int64_t bucket_bytes) {
  if (sharding == OptimizerSharding::kReplicated || group.size() == 1) return {{0, parameters.count()}};
  const int64_t per_bucket =
      bucket_elements(bucket_bytes, parameters.gradients(), Reduction::kReduceScatter, group.size());
  return shard_ranges(parameters.count(), per_bucket, group.rank(), group.size());
}

double sum_of_squares(const Tensor& flat) {
  const double norm = global_norm(flat);
  return norm * norm;
}

}  // namespace

std::vector<ElementRange> shard_ranges(int64_t count, int64_t per_bucket, int rank, int ranks) {
  std::vector<ElementRange> ranges;
  for (int64_t first = 0; first < count; first += per_bucket) {
    const int64_t part = std::min(per_bucket, count - first) / ranks;
    if (part > 0) ranges.push_back({first + rank * part, part});
  }
  const int64_t rest = count % per_bucket % ranks;
  if (rest > 0) ranges.push_back({count - rest, rest});
  return ranges;
}

ShardedOptimizer::ShardedOptimizer(Communicator& group, Parameters& parameters, const AdamWConfig& config,
                                   OptimizerSharding sharding, int64_t bucket_bytes)
    : group_(group),
      parameters_(parameters),
      sharding_(sharding),
      adamw_(parameters, config, owned_ranges(group, parameters, sharding, bucket_bytes)),
      shared_elements_(parameters.count()) {
  if (!is_sharded()) return;
  const int64_t per_bucket =
      bucket_elements(bucket_bytes, parameters.gradients(), Reduction::kReduceScatter, group.size());
  shared_elements_ = parameters.count() % per_bucket % group.size();
}

double ShardedOptimizer::gradient_norm(Communicator& host) {
  const Tensor& gradient = parameters_.gradients();
  if (!is_sharded()) return global_norm(gradient);
  double own = 0;
  for (const ElementRange& range : owned()) {
    const bool is_shared =
        range.first + shared_elements_ == parameters_.count() && range.count == shared_elements_;
    if (is_shared && group_.rank() != 0) continue;
    own += sum_of_squares(gradient.narrow(0, range.first, range.count));
  }
  return std::sqrt(all_reduce_scalar_sum(host, own));
}

void ShardedOptimizer::step(double learning_rate, double gradient_scale) {
  if (!is_sharded()) return adamw_.step(learning_rate, gradient_scale);
  const at::NoGradGuard no_grad;
  const size_t parts = owned().size() - (shared_elements_ > 0 ? 1 : 0);
  std::vector<TransferPtr> gathers;
  adamw_.begin_update();
  for (size_t i = 0; i < owned().size(); ++i) {
    adamw_.update_range(i, learning_rate, gradient_scale);
    if (i >= parts) continue;
    const ElementRange own = owned()[i];
    Tensor& values = parameters_.values();
    const Tensor bucket = values.narrow(0, own.first - group_.rank() * own.count, own.count * group_.size());
    gathers.push_back(
        group_.start_all_gather(bucket, values.narrow(0, own.first, own.count), purpose::kWeights));
  }
  for (const TransferPtr& gather : gathers) gather->wait();
}

}  // namespace fwl
