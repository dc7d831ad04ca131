#include "core/model/parameters.h"

#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/functions/accumulate_grad.h>
#include <torch/csrc/autograd/variable.h>

#include <algorithm>

#include "core/base/autograd.h"
#include "core/base/error.h"
#include "core/kernels/token_sums.h"

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
    if (parameters_.waiting_bytes_ >= kMostWaiting)
      parameters_.collect_gradients(0, parameters_.parameters_.size());
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
    parameters_.push_back({d.name, d.group, value, gradient, leaf, offset, nullptr});
    if (parameters_.back().has_copy()) parameters_.back().rows = c10::make_intrusive<RowGradients>();
    offset += d.initial.numel();
  }
  declared_.clear();
  held_.assign(parameters_.size(), Held::kZero);
}

const Parameter& Parameters::find(const std::string& name) const {
  const auto found = index_.find(name);
  require<InternalError>(found != index_.end(), "no parameter '", name, "'");
  return parameters_[found->second];
}

ParameterIndex Parameters::index_of(const std::string& name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? kNoParameter : static_cast<ParameterIndex>(found->second);
}

const Tensor& Parameters::value(ParameterIndex index) const {
  const Parameter& p = at(index);
  require<InternalError>(p.value.defined(), "the value of '", p.name, "' is another rank's");
  return p.value;
}

const Tensor& Parameters::operator[](const std::string& name) const {
  return value(&find(name) - parameters_.data());
}

const Tensor& Parameters::leaf(const std::string& name) const {
  return find(name).leaf;
}

Tensor& Parameters::values() {
  require<InternalError>(released_ == 0, "the values are spread over the ranks");
  copied_version_.reset();
  ++writes_;
  return values_;
}

// What a copy's first gradient is written over needs no zeros.
void Parameters::zero_gradients() {
  const int64_t first = copies_.defined() ? copies_.numel() : 0;
  gradients_.narrow(0, first, gradients_.numel() - first).zero_();
  for (size_t i = 0; i < parameters_.size(); ++i) {
    Parameter& p = parameters_[i];
    if (p.has_copy()) {
      p.leaf.mutable_grad().reset();
      p.rows->waiting.clear();
    }
    held_[i] = p.offset < first ? Held::kLeftover : Held::kZero;
  }
}

void Parameters::clear_leftovers(size_t first, size_t last) {
  for (size_t i = first; i < last; ++i) {
    if (held_[i] != Held::kLeftover) continue;
    parameters_[i].gradient.zero_();
    held_[i] = Held::kZero;
  }
}

void Parameters::finish_gradients(size_t first, size_t last) {
  collect_gradients(first, last);
  clear_leftovers(first, last);
}

Tensor& Parameters::gradients() {
  clear_leftovers(0, parameters_.size());
  return gradients_;
}

void Parameters::refresh_copies() const {
  if (!copies_.defined() || copied_version_ == values_._version()) return;
  const at::NoGradGuard no_grad;
  const int64_t count = copies_.numel() - released_;
  copies_.narrow(0, released_, count).copy_(values_.narrow(0, 0, count));
  // What is gathered from other ranks changes no version.
  if (released_ == 0) copied_version_ = values_._version();
}

std::optional<Parameters::Revision> Parameters::revision() const {
  if (released_ > 0) return {};
  const auto version = [](const Tensor& t) { return t.defined() ? static_cast<uint32_t>(t._version()) : 0; };
  return Revision{version(values_), version(copies_), writes_};
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
    const bool adds = held_[i] == Held::kSum;
    (adds ? sums : fresh).push_back(p.gradient);
    (adds ? more_grads : fresh_grads).push_back(p.leaf.grad());
    p.leaf.mutable_grad().reset();
    held_[i] = Held::kSum;
  }
  if (last - first == parameters_.size()) waiting_bytes_ = 0;
  if (!fresh.empty()) at::_foreach_copy_(fresh, fresh_grads);
  if (!sums.empty()) at::_foreach_add_(sums, more_grads);
  for (size_t i = first; i < last; ++i)
    if (parameters_[i].has_copy() && !parameters_[i].rows->waiting.empty()) add_waiting_rows(i);
}

// In float32, after what came for the whole table.
void Parameters::add_waiting_rows(size_t parameter) {
  clear_leftovers(parameter, parameter + 1);
  Parameter& p = parameters_[parameter];
  for (const RowGradients::Lookup& lookup : p.rows->waiting) {
    const Tensor index_n1 = lookup.index_n.to(at::kInt).unsqueeze(1);
    add_token_sums_(p.gradient, index_n1, at::ones(index_n1.sizes(), p.gradient.options()),
                    lookup.row_bar_nd);
  }
  p.rows->waiting.clear();
  held_[parameter] = Held::kSum;
}

void Parameters::backward(const Tensor& objective) {
  objective.backward(unit_cotangent(objective));
  finish_gradients(0, parameters_.size());
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
