#include "parallel/gradient_reducer.h"

#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/functions/accumulate_grad.h>
#include <torch/csrc/autograd/variable.h>

#include <algorithm>

#include "core/base/error.h"

namespace fwl {
namespace {

int64_t elements_of(int64_t bucket_bytes, const Tensor& flat) {
  const auto element_bytes = static_cast<int64_t>(flat.element_size());
  require<ConfigError>(bucket_bytes >= element_bytes, "a gradient bucket of ", bucket_bytes,
                       " bytes holds no element of ", element_bytes, " bytes. Use a bucket of some MiB.");
  return bucket_bytes / element_bytes;
}

}  // namespace

// Runs after a parameter's gradient has been accumulated.
class GradientReducer::ReadyHook final : public torch::autograd::FunctionPostHook {
 public:
  ReadyHook(GradientReducer& reducer, size_t parameter) : reducer_(reducer), parameter_(parameter) {}
  torch::autograd::variable_list operator()(const torch::autograd::variable_list& outputs,
                                            const torch::autograd::variable_list&) override {
    reducer_.parameter_is_ready(parameter_);
    return outputs;
  }

 private:
  GradientReducer& reducer_;
  size_t parameter_;
};

GradientReducer::GradientReducer(Communicator& group, Tensor flat_gradient, int64_t bucket_bytes)
    : group_(group) {
  require<InternalError>(flat_gradient.dim() == 1 && flat_gradient.is_contiguous(),
                         "the gradient to reduce is not one flat contiguous tensor.");
  const int64_t step = elements_of(bucket_bytes, flat_gradient);
  for (int64_t first = 0; first < flat_gradient.numel(); first += step) {
    buckets_.push_back(
        flat_gradient.detach().narrow(0, first, std::min(step, flat_gradient.numel() - first)));
  }
}

GradientReducer::GradientReducer(Communicator& group, Parameters& parameters, int64_t bucket_bytes)
    : GradientReducer(group, parameters.gradients(), bucket_bytes) {
  // Over MPI a sum is done when it has been started: there is nothing to overlap.
  if (group.size() > 1 && group.device().is_cuda())
    watch(parameters, elements_of(bucket_bytes, parameters.gradients()));
}

// The hooks die with the accumulators, which the parameters' graphs share: they must not outlive this.
GradientReducer::~GradientReducer() {
  for (const auto& [accumulator, hook] : hooks_) accumulator->del_post_hook(hook);
}

void GradientReducer::watch(Parameters& parameters, int64_t bucket_elements) {
  parameters_in_bucket_.assign(buckets_.size(), 0);
  for (const Parameter& p : parameters.all()) {
    const auto first = static_cast<size_t>(p.offset / bucket_elements);
    const auto last = static_cast<size_t>((p.offset + p.value.numel() - 1) / bucket_elements);
    for (size_t b = first; b <= last; ++b) ++parameters_in_bucket_[b];
    auto accumulator = torch::autograd::impl::grad_accumulator(p.value);
    const uintptr_t hook =
        accumulator->add_post_hook(std::make_unique<ReadyHook>(*this, buckets_of_parameter_.size()));
    hooks_.emplace_back(std::move(accumulator), hook);
    buckets_of_parameter_.emplace_back(first, last);
  }
}

void GradientReducer::expect_last_backward() {
  last_backward_ = !hooks_.empty();
  missing_ = parameters_in_bucket_;
  completed_.clear();
  started_ = 0;
}

void GradientReducer::parameter_is_ready(size_t parameter) {
  if (!last_backward_) return;
  const auto [first, last] = buckets_of_parameter_[parameter];
  for (size_t b = first; b <= last; ++b)
    if (--missing_[b] == 0) completed_.push_back(static_cast<int64_t>(b));
  start_ready_buckets();
}

void GradientReducer::start_ready_buckets() {
  while (started_ < order_.size() && missing_[static_cast<size_t>(order_[started_])] == 0) {
    under_way_.push_back(
        group_.start_all_reduce_sum(buckets_[static_cast<size_t>(order_[started_])], purpose::kGradients));
    ++started_;
  }
}

// Rank 0's order; buckets that no gradient completed come last.
void GradientReducer::agree_on_order() {
  for (int64_t b = 0; b < buckets(); ++b)
    if (std::find(completed_.begin(), completed_.end(), b) == completed_.end()) completed_.push_back(b);
  const Tensor order = at::tensor(completed_, at::kLong).to(group_.device());
  group_.broadcast(order, 0);
  const Tensor host = order.to(at::kCPU);
  order_.assign(host.const_data_ptr<int64_t>(), host.const_data_ptr<int64_t>() + host.numel());
}

void GradientReducer::reduce() {
  if (group_.size() == 1) return;
  if (!last_backward_) {
    for (const Tensor& bucket : buckets_) group_.all_reduce_sum(bucket, purpose::kGradients);
    return;
  }
  last_backward_ = false;
  if (order_.empty()) agree_on_order();
  std::fill(missing_.begin(), missing_.end(), 0);
  start_ready_buckets();
  for (const TransferPtr& transfer : under_way_) transfer->wait();
  under_way_.clear();
}

}  // namespace fwl
