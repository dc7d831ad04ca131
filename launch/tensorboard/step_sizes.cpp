#include "launch/tensorboard/step_sizes.h"

namespace fwl {

Tensor step_size_of(const LanguageModel& model, const std::string& layer) {
  const std::string name = "fast_weight.step_size." + layer;
  if (!model.parameters().has(name)) return {};
  const Tensor raw = model.parameters()[name].detach();
  return model.config().fast_weight.step_size_space == "log" ? raw.exp() : raw;
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
