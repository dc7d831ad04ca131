#include "core/base/autograd.h"

#include <map>
#include <mutex>
#include <tuple>

namespace fwl {
namespace {

// A backward asks for them on the engine's threads.
Tensor shared_one(const at::TensorOptions& options) {
  using Key = std::tuple<at::DeviceType, at::DeviceIndex, at::ScalarType>;
  static std::mutex mutex;
  static std::map<Key, Tensor>* const ones = new std::map<Key, Tensor>();  // outlives the device's context
  const std::lock_guard<std::mutex> lock(mutex);
  Tensor& one = (*ones)[{options.device().type(), options.device().index(),
                         c10::typeMetaToScalarType(options.dtype())}];
  if (!one.defined()) one = at::ones({}, options);
  return one;
}

at::TensorOptions options_of(const Tensor& like) {
  return at::TensorOptions().device(like.device()).dtype(like.scalar_type());
}

}  // namespace

Tensor unit_cotangent(const Tensor& like) {
  return shared_one(options_of(like));
}

bool is_unit_cotangent(const Tensor& cotangent) {
  return cotangent.defined() && cotangent.dim() == 0 && cotangent.is_same(shared_one(options_of(cotangent)));
}

}  // namespace fwl
