#include "core/model/parameters.h"

#include <algorithm>

#include "core/base/error.h"

namespace fwl {

void Parameters::declare(const std::string& name, ParameterGroup group, const Tensor& initial) {
  require<InternalError>(!values_.defined(), "parameter '", name, "' declared after build()");
  for (const Declared& d : declared_)
    require<InternalError>(d.name != name, "parameter '", name, "' declared twice");
  declared_.push_back({name, group, initial});
}

void Parameters::build(at::Device device, at::ScalarType dtype) {
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
  int64_t offset = 0;
  for (const Declared& d : declared_) {
    // detach() makes a leaf on the same storage.
    Tensor value = values_.narrow(0, offset, d.initial.numel()).view(d.initial.sizes()).detach();
    value.copy_(d.initial);
    value.requires_grad_(true);
    value.mutable_grad() = gradients_.narrow(0, offset, d.initial.numel()).view(d.initial.sizes());
    index_[d.name] = parameters_.size();
    parameters_.push_back({d.name, d.group, value, offset});
    offset += d.initial.numel();
  }
  declared_.clear();
}

const Tensor& Parameters::operator[](const std::string& name) const {
  const auto found = index_.find(name);
  require<InternalError>(found != index_.end(), "no parameter '", name, "'");
  return parameters_[found->second].value;
}

Tensor Parameters::slice(const Tensor& flat, ParameterGroup group) const {
  const int g = static_cast<int>(group);
  return flat.narrow(0, group_begin_[g], group_begin_[g + 1] - group_begin_[g]);
}

}  // namespace fwl
