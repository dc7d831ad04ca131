// The trainable parameters of a model: named views into ONE flat tensor, with their gradients in another.
//
// Flat storage makes the gradient all-reduce, the norm, the optimizer and the checkpoint work on a few large
// slices without copies. Parameters are ordered by group, so that each group is one contiguous slice.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "core/base/torch.h"

namespace fwl {

// How the optimizer treats a parameter.
enum class ParameterGroup {
  kDecay,     // matrices: weight decay
  kNoDecay,   // norms, biases, gains
  kStepSize,  // inner step sizes and decays: no weight decay, own learning-rate factor
};
constexpr int kParameterGroups = 3;

struct Parameter {
  std::string name;
  ParameterGroup group;
  Tensor value;    // view of the flat values; a leaf that requires grad
  int64_t offset;  // first element in the flat tensor
};

class Parameters {
 public:
  // Declares a parameter with its initial value (CPU, any float dtype). Names are unique. Before `build`
  // only.
  void declare(const std::string& name, ParameterGroup group, const Tensor& initial);
  // Lays all declared parameters out on `device` in `dtype`. Once.
  void build(at::Device device, at::ScalarType dtype);

  const Tensor& operator[](const std::string& name) const;  // throws InternalError for an unknown name
  bool has(const std::string& name) const { return index_.count(name) > 0; }
  const std::vector<Parameter>& all() const { return parameters_; }
  int64_t count() const { return values_.numel(); }

  Tensor& values() { return values_; }        // flat, [count()]
  Tensor& gradients() { return gradients_; }  // flat; every parameter's grad() is a view of it
  // The slice of a flat tensor (values, gradients, moments) that holds one group.
  Tensor slice(const Tensor& flat, ParameterGroup group) const;
  void zero_gradients() { gradients_.zero_(); }

 private:
  struct Declared {
    std::string name;
    ParameterGroup group;
    Tensor initial;
  };
  std::vector<Declared> declared_;
  std::vector<Parameter> parameters_;
  std::map<std::string, size_t> index_;
  int64_t group_begin_[kParameterGroups + 1] = {};
  Tensor values_, gradients_;
};

}  // namespace fwl
