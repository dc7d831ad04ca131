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

}  // namespace

int64_t shared_by_all(int64_t count, int64_t per_bucket, int ranks) {
  const int64_t last = count % per_bucket;
  return last - part_elements(last, ranks) * ranks;
}

std::vector<ElementRange> shard_ranges(int64_t count, int64_t per_bucket, int rank, int ranks) {
  std::vector<ElementRange> ranges;
  for (int64_t first = 0; first < count; first += per_bucket) {
    const int64_t part = part_elements(std::min(per_bucket, count - first), ranks);
    if (part > 0) ranges.push_back({first + rank * part, part});
  }
  const int64_t rest = shared_by_all(count, per_bucket, ranks);
  if (rest > 0) ranges.push_back({count - rest, rest});
  return ranges;
}

ShardedOptimizer::ShardedOptimizer(Communicator& group, Parameters& parameters, const AdamWConfig& config,
                                   OptimizerSharding sharding, int64_t bucket_bytes)
    : group_(group),
      parameters_(parameters),
      sharding_(sharding),
      adamw_(
          parameters, config, owned_ranges(group, parameters, sharding, bucket_bytes),
          is_sharded() && parameters.copies().defined() ? AdamW::Masters::kOwn : AdamW::Masters::kParameters),
      shared_elements_(parameters.count()) {
  if (!is_sharded()) return;
  const int64_t per_bucket =
      bucket_elements(bucket_bytes, parameters.gradients(), Reduction::kReduceScatter, group.size());
  shared_elements_ = shared_by_all(parameters.count(), per_bucket, group.size());
  if (!adamw_.masters().defined()) return;
  const int64_t step_sizes = parameters.range_of(ParameterGroup::kStepSize).first;
  parameters.release_values(std::min(step_sizes, parameters.count() - 1) / per_bucket * per_bucket);
}

bool ShardedOptimizer::is_shared(const ElementRange& range) const {
  return range.first + shared_elements_ == parameters_.count() && range.count == shared_elements_;
}

Tensor ShardedOptimizer::gradient_norm() {
  const Tensor& gradient = parameters_.gradients();
  if (!is_sharded()) return global_norm(gradient);
  const Tensor squares = at::zeros({1}, gradient.options().dtype(at::kDouble));
  for (const ElementRange& range : owned()) {
    if (is_shared(range) && group_.rank() != 0) continue;
    squares.add_(global_norm(gradient.narrow(0, range.first, range.count)).square());
  }
  group_.all_reduce_sum(squares);
  return squares.sqrt().squeeze(0);
}

Tensor ShardedOptimizer::step(double learning_rate, double clip) {
  const at::NoGradGuard no_grad;
  const Tensor norm = gradient_norm();
  const UpdateScale scale = clipped_scale(norm, clip);
  if (is_sharded()) {
    update_and_gather(learning_rate, scale);
  } else {
    adamw_.step(learning_rate, scale);
  }
  return norm;
}

void ShardedOptimizer::update_and_gather(double learning_rate, const UpdateScale& scale) {
  const size_t parts = owned().size() - (shared_elements_ > 0 ? 1 : 0);
  std::vector<TransferPtr> gathers;
  adamw_.begin_update(scale);
  for (size_t i = 0; i < owned().size(); ++i) {
    adamw_.update_range(i, learning_rate, scale);
    if (i >= parts) continue;
    const ElementRange own = owned()[i];
    const bool released = own.first < parameters_.released();
    const Tensor& flat = released ? parameters_.copies() : parameters_.kept_values();
    const int64_t first = own.first - (released ? 0 : parameters_.released());
    const Tensor bucket = flat.narrow(0, first - group_.rank() * own.count, own.count * group_.size());
    gathers.push_back(group_.start_all_gather(bucket, flat.narrow(0, first, own.count), purpose::kWeights));
  }
  for (const TransferPtr& gather : gathers) gather->wait();
}

Tensor ShardedOptimizer::gather_values() {
  if (!adamw_.masters().defined()) return parameters_.values();
  const Tensor values = at::zeros_like(parameters_.gradients());
  int64_t offset = 0;
  for (const ElementRange& range : owned()) {
    if (!is_shared(range) || group_.rank() == 0)
      values.narrow(0, range.first, range.count).copy_(adamw_.masters().narrow(0, offset, range.count));
    offset += range.count;
  }
  group_.all_reduce_sum(values, purpose::kWeights);
  return values;
}

}  // namespace fwl
