#include "launch/tensorboard/step_sizes.h"

#include "core/base/error.h"

namespace fwl {

Tensor step_size_of(const LanguageModel& model, const std::string& layer) {
  const at::NoGradGuard no_grad;
  const int64_t steps = model.config().fast_weight.inner_steps;
  const Tensor first = model.step_size(layer);
  if (steps == 1 || !first.defined()) return first.defined() ? first.detach() : first;
  std::vector<Tensor> parts;
  for (int64_t k = 0; k < steps; ++k) {
    const Tensor part = model.step_size(layer, k);
    const int64_t rows = model.parameters().leaf(cat("fast_weight.", layer, ".weight")).size(0);
    parts.push_back(part.dim() == 0 ? part.expand({rows}) : part);
  }
  return at::cat(parts);
}

std::vector<std::pair<std::string, std::vector<float>>> step_sizes_by_row(LanguageModel& model) {
  const at::NoGradGuard no_grad;
  std::vector<std::pair<std::string, std::vector<float>>> found;
  for (const char* layer : {"dense1", "dense2", "norm"}) {
    Tensor values = step_size_of(model, layer);
    if (!values.defined()) continue;
    values = values.to(at::kCPU, at::kFloat).contiguous().view({-1});
    const float* begin = values.const_data_ptr<float>();
    found.emplace_back(layer, std::vector<float>(begin, begin + values.numel()));
  }
  return found;
}

}  // namespace fwl
