#include "core/model/parameters.h"

#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/functions/accumulate_grad.h>
#include <torch/csrc/autograd/variable.h>

#include <algorithm>

#include "core/base/error.h"

namespace fwl {

// Runs after a copy's gradient has been accumulated.
class Parameters::CollectHook final : public torch::autograd::FunctionPostHook {
 public:
  CollectHook(Parameters& parameters, int64_t bytes) : parameters_(parameters), bytes_(bytes) {}
  torch::autograd::variable_list operator()(const torch::autograd::variable_list& outputs,
                                            const torch::autograd::variable_list&) override {
    // Few enough bytes to matter little beside the activations, enough for few kernels.
    constexpr int64_t kMostWaiting = int64_t{64} << 20;
    parameters_.waiting_bytes_ += bytes_;
    if (parameters_.waiting_bytes_ >= kMostWaiting) parameters_.collect_gradients();
    return outputs;
  }

 private:
  Parameters& parameters_;
  int64_t bytes_;
};

Parameters::Parameters() = default;
Parameters::~Parameters() = default;

void Parameters::declare(const std::string& name, ParameterGroup group, const Tensor& initial) {
  require<InternalError>(!values_.defined(), "parameter '", name, "' declared after build()");
  for (const Declared& d : declared_)
    require<InternalError>(d.name != name, "parameter '", name, "' declared twice");
  declared_.push_back({name, group, initial});
}

void Parameters::build(at::Device device, at::ScalarType dtype, at::ScalarType compute) {
  std::stable_sort(declared_.begin(), declared_.end(),
                   [](const Declared& a, const Declared& b) { return a.group < b.group; });
  int64_t total = 0;
  for (const Declared& d : declared_) {
    total += d.initial.numel();
    group_begin_[static_cast<int>(d.group) + 1] = total;
  }
  for (int g = 1; g <= kParameterGroups; ++g)
    group_begin_[g] = std::max(group_begin_[g], group_begin_[g - 1]);
  values_ = at::empty({total}, at::TensorOptions().device(device).dtype(dtype));
  gradients_ = at::zeros_like(values_);
  if (compute != dtype)
    copies_ = at::zeros({group_begin_[static_cast<int>(ParameterGroup::kStepSize)]},
                        values_.options().dtype(compute));
  const auto view = [](const Tensor& flat, int64_t offset, const Tensor& like) {
    return flat.narrow(0, offset, like.numel()).view(like.sizes()).detach();  // a leaf on the same storage
  };
  const auto with_hook = [&](const Tensor& leaf) {
    accumulators_.push_back(torch::autograd::impl::grad_accumulator(leaf));
    accumulators_.back()->add_post_hook(
        std::make_unique<CollectHook>(*this, static_cast<int64_t>(leaf.nbytes())));
    return leaf;
  };
  int64_t offset = 0;
  for (const Declared& d : declared_) {
    Tensor value = view(values_, offset, d.initial);
    value.copy_(d.initial);
    value.requires_grad_(true);
    value.mutable_grad() = view(gradients_, offset, d.initial);
    Tensor leaf = value;
    if (copies_.defined() && d.group != ParameterGroup::kStepSize)
      leaf = with_hook(view(copies_, offset, d.initial).requires_grad_(true));
    index_[d.name] = parameters_.size();
    parameters_.push_back({d.name, d.group, value, leaf, offset});
    offset += d.initial.numel();
  }
  declared_.clear();
  collected_.assign(parameters_.size(), false);
}

const Tensor& Parameters::operator[](const std::string& name) const {
  const auto found = index_.find(name);
  require<InternalError>(found != index_.end(), "no parameter '", name, "'");
  return parameters_[found->second].value;
}

const Tensor& Parameters::leaf(const std::string& name) const {
  const auto found = index_.find(name);
  require<InternalError>(found != index_.end(), "no parameter '", name, "'");
  return parameters_[found->second].leaf;
}

void Parameters::zero_gradients() {
  gradients_.zero_();
  for (Parameter& p : parameters_)
    if (p.has_copy()) p.leaf.mutable_grad().reset();
  collected_.assign(parameters_.size(), false);
}

void Parameters::refresh_copies() const {
  if (!copies_.defined()) return;
  const at::NoGradGuard no_grad;
  Tensor copies = copies_;
  copies.copy_(values_.narrow(0, 0, copies.numel()));
}

void Parameters::collect_gradients(size_t first, size_t last) {
  const at::NoGradGuard no_grad;
  std::vector<Tensor> fresh, fresh_grads, sums,
      more_grads;  // the first gradient is copied, later ones are added
  for (size_t i = first; i < last; ++i) {
    Parameter& p = parameters_[i];
    if (!p.has_copy() || !p.leaf.grad().defined()) continue;
    (collected_[i] ? sums : fresh).push_back(p.value.grad());
    (collected_[i] ? more_grads : fresh_grads).push_back(p.leaf.grad());
    p.leaf.mutable_grad().reset();
    collected_[i] = true;
  }
  if (last - first == parameters_.size()) waiting_bytes_ = 0;
  if (!fresh.empty()) at::_foreach_copy_(fresh, fresh_grads);
  if (!sums.empty()) at::_foreach_add_(sums, more_grads);
}

void Parameters::backward(const Tensor& objective) {
  objective.backward();
  collect_gradients();
}

Tensor Parameters::slice(const Tensor& flat, ParameterGroup group) const {
  const int g = static_cast<int>(group);
  return flat.narrow(0, group_begin_[g], group_begin_[g + 1] - group_begin_[g]);
}

}  // namespace fwl
