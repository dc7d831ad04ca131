#include "parallel/gradient_reducer.h"

#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/functions/accumulate_grad.h>
#include <torch/csrc/autograd/variable.h>

#include <algorithm>

#include "core/base/autograd.h"
#include "core/base/error.h"

namespace fwl {

int64_t part_elements(int64_t count, int ranks) {
  constexpr int64_t kRun = 8;
  const int64_t part = count / ranks;
  return part < kRun ? part : part / kRun * kRun;
}

int64_t bucket_elements(int64_t bucket_bytes, const Tensor& flat, Reduction reduction, int ranks) {
  const auto element_bytes = static_cast<int64_t>(flat.element_size());
  require<ConfigError>(bucket_bytes >= element_bytes, "a gradient bucket of ", bucket_bytes,
                       " bytes holds no element of ", element_bytes, " bytes. Use a bucket of some MiB.");
  const int64_t elements = bucket_bytes / element_bytes;
  if (reduction == Reduction::kAllReduce) return elements;
  return std::max<int64_t>(1, part_elements(elements, ranks)) * ranks;
}

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

GradientReducer::GradientReducer(Communicator& group, Tensor flat_gradient, const ReducerOptions& options)
    : group_(group),
      reduction_(options.reduction),
      wire_(options.wire.value_or(flat_gradient.scalar_type())) {
  require<InternalError>(flat_gradient.dim() == 1 && flat_gradient.is_contiguous(),
                         "the gradient to reduce is not one flat contiguous tensor.");
  const int64_t step = bucket_elements(options.bucket_bytes, flat_gradient, reduction_, group.size());
  for (int64_t first = 0; first < flat_gradient.numel(); first += step) {
    buckets_.push_back(
        flat_gradient.detach().narrow(0, first, std::min(step, flat_gradient.numel() - first)));
  }
}

GradientReducer::GradientReducer(Communicator& group, Parameters& parameters, const ReducerOptions& options)
    : GradientReducer(group, parameters.gradients(), options) {
  // Over MPI a sum is done when it has been started: there is nothing to overlap.
  if (group.size() > 1 && group.device().is_cuda())
    watch(parameters,
          bucket_elements(options.bucket_bytes, parameters.gradients(), reduction_, group.size()));
}

// The hooks die with the accumulators, which the parameters' graphs share: they must not outlive this.
GradientReducer::~GradientReducer() {
  for (const auto& [accumulator, hook] : hooks_) accumulator->del_post_hook(hook);
}

void GradientReducer::watch(Parameters& parameters, int64_t elements) {
  parameters_ = &parameters;
  parameters_of_bucket_.assign(buckets_.size(), {parameters.all().size(), 0});
  for (const Parameter& p : parameters.all()) {
    const auto first = static_cast<size_t>(p.offset / elements);
    const auto last = static_cast<size_t>((p.offset + p.gradient.numel() - 1) / elements);
    for (size_t b = first; b <= last; ++b) {
      auto& [least, most] = parameters_of_bucket_[b];
      least = std::min(least, buckets_of_parameter_.size());
      most = buckets_of_parameter_.size();
    }
    auto accumulator = torch::autograd::impl::grad_accumulator(p.leaf);
    const uintptr_t hook =
        accumulator->add_post_hook(std::make_unique<ReadyHook>(*this, buckets_of_parameter_.size()));
    hooks_.emplace_back(std::move(accumulator), hook);
    buckets_of_parameter_.emplace_back(first, last);
  }
}

void GradientReducer::expect_last_backward() {
  last_backward_ = !hooks_.empty();
  missing_.clear();
  for (const auto& [first, last] : parameters_of_bucket_)
    missing_.push_back(static_cast<int64_t>(last - first) + 1);
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
    const auto next = static_cast<size_t>(order_[started_]);
    const auto [first, last] = parameters_of_bucket_[next];
    parameters_->finish_gradients(first, last + 1);
    start_bucket(buckets_[next]);
    ++started_;
  }
}

// `part` = this rank's part of the sum of `all` over the ranks; the whole of it where they are the same.
void GradientReducer::start_sum(const Tensor& part, const Tensor& all) {
  const bool narrow = wire_ != all.scalar_type(), whole = part.is_same(all);
  const Tensor wire = narrow ? all.to(wire_) : all;
  const Tensor own = whole    ? wire
                     : narrow ? wire.narrow(0, group_.rank() * part.numel(), part.numel())
                              : part;
  under_way_.push_back({whole ? group_.start_all_reduce_sum(wire, purpose::kGradients)
                              : group_.start_reduce_scatter_sum(own, wire, purpose::kGradients),
                        part, narrow ? own : Tensor()});
}

// With kReduceScatter the last bucket's rest, which the ranks do not divide, is summed on all of them.
void GradientReducer::start_bucket(const Tensor& bucket) {
  int64_t divided = 0;
  if (reduction_ == Reduction::kReduceScatter) {
    const int64_t part = part_elements(bucket.numel(), group_.size());
    divided = part * group_.size();
    if (part > 0) start_sum(bucket.narrow(0, part * group_.rank(), part), bucket.narrow(0, 0, divided));
  }
  const Tensor rest = bucket.narrow(0, divided, bucket.numel() - divided);
  if (rest.numel() > 0) start_sum(rest, rest);
}

void GradientReducer::wait_for_all() {
  for (const Sum& sum : under_way_) {
    sum.transfer->wait();
    if (sum.wire.defined()) sum.part.copy_(sum.wire);
  }
  under_way_.clear();
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
    for (const Tensor& bucket : buckets_) {
      start_bucket(bucket);
      wait_for_all();
    }
    return;
  }
  last_backward_ = false;
  if (order_.empty()) agree_on_order();
  std::fill(missing_.begin(), missing_.end(), 0);
  start_ready_buckets();
  wait_for_all();
}

}  // namespace fwl
