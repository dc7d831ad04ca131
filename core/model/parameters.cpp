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
    const Tensor gradient = view(gradients_, offset, d.initial);
    value.mutable_grad() = gradient;
    Tensor leaf = value;
    if (copies_.defined() && d.group != ParameterGroup::kStepSize)
      leaf = with_hook(view(copies_, offset, d.initial).requires_grad_(true));
    index_[d.name] = parameters_.size();
    parameters_.push_back({d.name, d.group, value, gradient, leaf, offset});
    offset += d.initial.numel();
  }
  declared_.clear();
  collected_.assign(parameters_.size(), false);
}

const Parameter& Parameters::find(const std::string& name) const {
  const auto found = index_.find(name);
  require<InternalError>(found != index_.end(), "no parameter '", name, "'");
  return parameters_[found->second];
}

const Tensor& Parameters::operator[](const std::string& name) const {
  const Tensor& value = find(name).value;
  require<InternalError>(value.defined(), "the value of '", name, "' is another rank's");
  return value;
}

const Tensor& Parameters::leaf(const std::string& name) const {
  return find(name).leaf;
}

Tensor& Parameters::values() {
  require<InternalError>(released_ == 0, "the values are spread over the ranks");
  copied_version_.reset();
  return values_;
}

void Parameters::zero_gradients() {
  gradients_.zero_();
  for (Parameter& p : parameters_)
    if (p.has_copy()) p.leaf.mutable_grad().reset();
  collected_.assign(parameters_.size(), false);
}

void Parameters::refresh_copies() const {
  if (!copies_.defined() || copied_version_ == values_._version()) return;
  const at::NoGradGuard no_grad;
  const int64_t count = copies_.numel() - released_;
  copies_.narrow(0, released_, count).copy_(values_.narrow(0, 0, count));
  // What is gathered from other ranks changes no version.
  if (released_ == 0) copied_version_ = values_._version();
}

Tensor Parameters::copies_of(const ElementRange& range) const {
  const bool has_copies = copies_.defined() && released_ == 0 && range.first + range.count <= copies_.numel();
  return has_copies ? copies_.narrow(0, range.first, range.count) : Tensor();
}

void Parameters::collect_gradients(size_t first, size_t last) {
  const at::NoGradGuard no_grad;
  std::vector<Tensor> fresh, fresh_grads, sums,
      more_grads;  // the first gradient is copied, later ones are added
  for (size_t i = first; i < last; ++i) {
    Parameter& p = parameters_[i];
    if (!p.has_copy() || !p.leaf.grad().defined()) continue;
    (collected_[i] ? sums : fresh).push_back(p.gradient);
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

ElementRange Parameters::range_of(ParameterGroup group) const {
  const int g = static_cast<int>(group);
  return {group_begin_[g], group_begin_[g + 1] - group_begin_[g]};
}

void Parameters::release_values(int64_t end) {
  require<InternalError>(copies_.defined() && end <= copies_.numel() && released_ == 0,
                         "values that have no copies cannot be released");
  const at::NoGradGuard no_grad;
  refresh_copies();
  copied_version_.reset();
  values_ = values_.narrow(0, end, count() - end).clone();
  released_ = end;
  for (Parameter& p : parameters_) {
    const bool had_copy = p.has_copy();
    p.value.reset();
    if (p.offset < end) continue;
    p.value = values_.narrow(0, p.offset - end, p.gradient.numel()).view(p.gradient.sizes()).detach();
    p.value.requires_grad_(true).mutable_grad() = p.gradient;
    if (!had_copy) p.leaf = p.value;
  }
}

void Parameters::store(int64_t first, const Tensor& values) {
  const at::NoGradGuard no_grad;
  const int64_t below = std::clamp<int64_t>(released_ - first, 0, values.numel());
  const int64_t rest = values.numel() - below;
  if (below > 0) copies_.narrow(0, first, below).copy_(values.narrow(0, 0, below));
  if (rest > 0) values_.narrow(0, first + below - released_, rest).copy_(values.narrow(0, below, rest));
}

}  // namespace fwl
